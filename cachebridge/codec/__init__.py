"""Values and bus messages to bytes and back: the wire format is defined here alone.

Internal: import from ``cachebridge`` instead.
"""
