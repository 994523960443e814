"""Scripts of the development of cachebridge; not part of the package."""
