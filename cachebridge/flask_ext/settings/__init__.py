"""Flask-Caching's settings, translated."""
