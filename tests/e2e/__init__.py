"""The whole relay as real processes."""
