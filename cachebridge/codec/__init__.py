"""Values and bus messages to bytes and back: the only place that knows the wire format.

Internal: import from ``cachebridge`` instead.
"""
