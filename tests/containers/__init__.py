"""The relay in containers, as `docker compose up` runs it. `make containers` runs these, `make test` does not."""
