"""A store of bytes that processes of one host share: one log in a file in memory."""
