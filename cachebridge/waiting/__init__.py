"""What differs between a thread, which blocks, and a task, which suspends."""
