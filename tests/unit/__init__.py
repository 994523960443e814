"""Tests of single parts: a mirror of the package."""
