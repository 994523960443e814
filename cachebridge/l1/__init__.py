"""The in-process store: synchronous, shared by threads and tasks.  Internal."""
