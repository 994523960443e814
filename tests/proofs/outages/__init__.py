"""What callers get while Redis is away: every fault, every method, every adapter."""
