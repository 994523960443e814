"""The tutorials, as a reader goes through them."""
