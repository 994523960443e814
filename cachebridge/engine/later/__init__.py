"""What callers leave in the process, to be sent to L2 a little later."""
