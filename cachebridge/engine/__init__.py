"""Carries operations out, under the rules of ``core/``.  Internal."""
