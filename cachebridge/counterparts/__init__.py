"""What the settings of other backends and client libraries mean here: one table."""
