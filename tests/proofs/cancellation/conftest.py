"""Event loops, and caches of the test's own."""

from __future__ import annotations

from tests.unit.aio.conftest import redis_cache, run

__all__ = ["redis_cache", "run"]
