"""How what the services say is carried: Redis, Dramatiq, settings, logs, metrics, health."""
