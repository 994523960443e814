"""Tags: their names, their stamps, and the loads that name them.  Internal."""
