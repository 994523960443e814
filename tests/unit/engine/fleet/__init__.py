"""The processes on one server ask each other.  Internal."""
