"""Event loops of every kind, and caches for them."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec

import pytest

from tests.rig import lone_cache

__all__ = ["cache", "redis_cache", "run"]

LOOPS = ["asyncio", "uvloop"]


@pytest.fixture(params=LOOPS)
def run(request):
    """Return ``asyncio.run`` on a loop of each kind; nothing may be left running."""
    factory = None
    if request.param == "uvloop":
        if find_spec("uvloop") is None:
            pytest.skip("runs on the loop of uvloop, which is not installed")
        import uvloop

        factory = uvloop.new_event_loop

    def run(coroutine):
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(coroutine)

    return run


@pytest.fixture(params=["redis", "memory"])
def cache(request):
    """Return a cache on each kind of store."""
    if request.param == "redis":
        return lone_cache(request.getfixturevalue("redis_url"))
    return lone_cache("memory://")


@pytest.fixture
def redis_cache(redis_url):
    """Return a cache without L1: every read goes to Redis."""
    return lone_cache(redis_url, l1_max_entries=0)
