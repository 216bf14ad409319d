"""unit: no server. integration: a real Valkey. e2e: real processes and the demo model over HTTP."""
