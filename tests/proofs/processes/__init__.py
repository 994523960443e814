"""The process test: real processes on a real server under faults, and a checker."""
