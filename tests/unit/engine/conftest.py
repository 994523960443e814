"""Fixtures for all tests of this folder."""

from __future__ import annotations

from tests.rig import stopped_engines

__all__ = ["stopped_engines"]
