"""The caching rules, written once: no I/O, no waiting, no clock of their own.

Internal: import from ``cachebridge`` instead.
"""
