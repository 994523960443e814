"""Connections to a server of L2: pooled, used by threads and tasks alike."""
