"""A flash sale: a Django app, and the rules that other services share with it."""
