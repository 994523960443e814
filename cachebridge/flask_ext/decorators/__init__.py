"""``cached`` and ``memoize``."""
