"""Settings the foreign tests run under: theirs, with the cache under test put in."""
