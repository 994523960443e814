"""The admin page in a real browser: ``make proof ARGS="-k browser"``."""
