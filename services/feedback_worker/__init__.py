"""Serves the queues off the interactive path: `feedback`, `analytics`, `default`. No actor is declared yet."""
