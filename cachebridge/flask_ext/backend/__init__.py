"""The backend: cachelib's interface over the engine."""
