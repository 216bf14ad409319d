"""What the API serves, a noun a file."""
