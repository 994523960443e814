"""Fixtures for all tests of this folder."""

from __future__ import annotations

import pytest


@pytest.fixture
def bus(redis_server_factory):
    """Start a bus of the test's own, to be killed."""
    return redis_server_factory()
