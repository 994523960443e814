"""Fills L1 ahead of the reads: on request, and by itself in new workers.  Internal."""
