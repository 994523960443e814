"""What caches offer besides reading and writing: patterns, locks, clients."""
