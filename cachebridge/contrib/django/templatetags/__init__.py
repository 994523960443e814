"""The template tag of this app."""
