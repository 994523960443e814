"""Schedules of several engines without sockets, by seed: doubles and invariants."""
