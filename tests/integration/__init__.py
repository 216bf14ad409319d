"""One of our parts against a real server."""
