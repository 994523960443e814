"""Invalidations that wait for the commit of a database's transaction."""
