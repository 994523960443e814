"""What leaves L1 together: all of it, by prefix, and by tag.  Internal."""
