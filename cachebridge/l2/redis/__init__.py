"""Redis and Valkey as L2."""
