"""The kinds of keys that a cache has, and what is done with each.  Internal."""
