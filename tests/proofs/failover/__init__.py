"""Sentinel's failovers under load: who writes where, and how old what is read."""
