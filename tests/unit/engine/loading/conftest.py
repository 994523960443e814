"""Event loops of every kind, and caches for them."""

from tests.unit.aio.conftest import *  # noqa: F403 fixtures
