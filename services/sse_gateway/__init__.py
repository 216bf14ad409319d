"""4 LEAVES: replays a task's log from where the client is, then passes on what is appended, as text/event-stream."""
