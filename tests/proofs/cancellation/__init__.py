"""Cancellation at every await."""
