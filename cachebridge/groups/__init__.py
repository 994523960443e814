"""Internal: groups of values that are loaded by argument, and memoized functions."""
