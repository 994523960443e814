"""Refreshes by tasks: one per key and not too many, whatever makes the tasks."""

from __future__ import annotations

import asyncio

import pytest

from cachebridge.engine.loading import task_refresh as arefresh
from cachebridge.engine.loading.refresh import Refresher
from cachebridge.engine.loading.task_refresh import TaskRefresher
from tests.rig import engine_of, lone_cache, until


@pytest.fixture
def refresher():
    return TaskRefresher(Refresher())


async def nothing():
    """Be done at once."""


def test_one_task_per_key(refresher, run):
    """While a key is being refreshed, another refresh of it is refused."""

    async def main():
        go_on = asyncio.Event()
        assert refresher.submit("k", go_on.wait)
        assert refresher.has("k")
        assert not refresher.submit("k", nothing)
        assert refresher.submit("l", go_on.wait)
        go_on.set()
        await until(refresher.is_idle)
        assert not refresher.has("k")
        assert refresher.submit("k", nothing)
        await until(refresher.is_idle)

    run(main())


def test_bounded(refresher, run, monkeypatch):
    """What finds no room is dropped and counted."""
    monkeypatch.setattr(arefresh, "MAX_TASKS", 3)

    async def main():
        go_on = asyncio.Event()
        taken = [refresher.submit(f"k{number}", go_on.wait) for number in range(5)]
        assert taken == [True] * 3 + [False] * 2
        assert refresher.dropped == 2
        go_on.set()
        await until(refresher.is_idle)

    run(main())


def test_a_task_factory_that_refreshes(refresher, run):
    """Whatever runs while a task is made may begin a refresh itself."""
    begun = []

    def make(loop, coroutine, **kwargs):
        if not begun:
            begun.append("another")
            assert not refresher._lock.locked()  # it would wait for ever
            assert refresher.submit("another", nothing)
            assert not refresher.submit("k", nothing)  # it is being made
        return asyncio.Task(coroutine, loop=loop, **kwargs)

    async def main():
        asyncio.get_running_loop().set_task_factory(make)
        assert refresher.submit("k", nothing)
        assert begun
        await until(refresher.is_idle)

    run(main())


def test_a_task_factory_that_fails(refresher, run):
    """The error comes out, and the key can be refreshed later."""

    def refuse(_loop, _coroutine, **_kwargs):
        raise LookupError("no tasks today")

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_task_factory(refuse)
        with pytest.raises(LookupError, match="today"):
            refresher.submit("k", nothing)
        assert refresher.is_idle()
        loop.set_task_factory(None)
        assert refresher.submit("k", nothing)
        await until(refresher.is_idle)

    run(main())


FACTORIES = [None]
if hasattr(asyncio, "eager_task_factory"):  # new in Python 3.12
    FACTORIES.append(asyncio.eager_task_factory)


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("ending", ["at once", "after an await"])
def test_a_refresh_that_needs_another(ending, factory):
    """Also where tasks run as soon as they are made, to the end or to an await."""
    cache = lone_cache("memory://", stale_ttl=60)
    refresher = engine_of(cache).task_refresher

    async def inner():
        if ending == "after an await":
            await asyncio.sleep(0)
        return "new"

    async def outer():
        return await cache.aget_or_load("inner", inner, ttl=60)

    async def main():
        asyncio.get_running_loop().set_task_factory(factory)
        await cache.aget_or_load("inner", lambda: "old", ttl=0.02)
        await cache.aget_or_load("outer", lambda: "old", ttl=0.02)
        await asyncio.sleep(0.05)
        assert await cache.aget_or_load("outer", outer, ttl=60) == "old"
        if factory is not None:
            assert refresher.has("inner") == (ending == "after an await")
        await until(refresher.is_idle)
        assert await cache.aget("inner") == "new"
        assert await cache.aget("outer") == "old"

    asyncio.run(main())


def test_what_a_lost_refresh_asks_for(refresher):
    """A refresh whose loop was closed may use the refresher at its end."""
    ended = []

    async def refresh():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(refresher.has("k"))

    async def begin():
        assert refresher.submit("k", refresh)
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()
    assert refresher.is_idle()
    assert ended == [False]
