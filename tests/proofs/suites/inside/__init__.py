"""What runs in a child process, beside the foreign tests and their settings.

Put on the path by its folder's parent, so that a foreign package called `tests` is not
hidden by ours.
"""
