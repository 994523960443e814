"""Tests of the whole under schedules, faults and load."""
