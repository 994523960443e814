"""Other projects' own cache tests, run against a Django cache backend of ours.

`python -m tests.proofs.suites` runs them and prints a table. The folder `inside` is
what runs in the child processes, next to the foreign tests; this package never imports
it.
"""
