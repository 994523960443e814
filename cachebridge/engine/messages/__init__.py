"""Messages between processes: sent, received, kept for later."""
