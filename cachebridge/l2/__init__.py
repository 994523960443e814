"""Shared stores: bytes in, bytes out; they never serialize.  Internal."""
