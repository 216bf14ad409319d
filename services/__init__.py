"""The services of Ekiden. They never import each other; what they say to each other is shared.contracts."""
