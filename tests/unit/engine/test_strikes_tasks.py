"""What ``test_strikes.py`` says, of calls that tasks make."""

from __future__ import annotations

import asyncio

import pytest

from tests.strikes import strike_everywhere
from tests.unit.engine import test_strikes
from tests.unit.engine.test_strikes import CALLS, checking

pytestmark = test_strikes.pytestmark


class Tasks:
    """The same cache, each of whose calls a task of a new event loop makes."""

    def __init__(self, cache):
        self._cache = cache

    def __getattr__(self, name):
        method = getattr(self._cache, f"a{name}", None)
        if method is None:
            return getattr(self._cache, name)

        def call(*args, **kwargs):
            async def wait():
                return await method(*args, **kwargs)

            return asyncio.run(wait())

        return call


@pytest.fixture(params=["redis, few links", "memcached"])
def cache(request, redis_url):
    return test_strikes.open_cache(request, redis_url)


@pytest.mark.parametrize("name", ["get", "set", "get_or_load", "a load that fails"])
def test_a_strike_in_a_task_leaves_nothing_behind(cache, name):
    """At each place of ours, whether a task runs there or its event loop."""
    check, tasks = checking(cache, name), Tasks(cache)

    def call():
        CALLS[name](tasks)

    assert strike_everywhere(call, check, within="cachebridge") > 20
