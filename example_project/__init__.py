"""A small shop on Django, and the tools that run and measure it."""
