"""A coherent two-level cache for Django and Flask."""
