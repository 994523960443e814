"""The stores of a location, their servers, and all connections."""
