"""The shop: catalogue, products, cart, and what its cache did."""
