"""The soak test: the process test with answers for outages, and every way to load."""
