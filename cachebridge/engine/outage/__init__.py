"""What callers get while L2 is away, and what is made up for afterwards."""
