"""Everything that lets Ekiden run and be tried without a provider's key."""
