"""Invalidation messages between processes.  Internal."""
