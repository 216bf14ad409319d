"""What the services say to each other. Standard library and msgspec only."""
