"""Without any server, in a few seconds."""
