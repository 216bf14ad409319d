"""What the services have in common: their language (contracts), how it is carried (runtime), the models."""
