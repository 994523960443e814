"""What a process notes of itself for those who ask later.  Internal."""
