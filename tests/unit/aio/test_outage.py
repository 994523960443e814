"""Tasks while Redis is away: the documented answers, pending deletes, recovery."""

from __future__ import annotations

import asyncio

import pytest
import redis

from cachebridge import CounterUnavailableError, L2Error, L2UnavailableError
from cachebridge.l2.connections import task_pool as apool
from tests.rig import (
    breaker_of,
    engine_of,
    eventually,
    is_idle,
    listening,
    lone_cache,
    pending_deletes_of,
    until,
)

pytestmark = pytest.mark.parametrize("run", ["asyncio"], indirect=True)


@pytest.fixture
def server(redis_server_factory):
    """Return a server of the test's own that keeps its data over a kill."""
    return redis_server_factory(args=("--appendonly", "yes"))


def options(**more):
    return {"socket_timeout": 1.0, "bus_trust": 1.5, "breaker_retry": 0.1, **more}


def test_answers(server, run):
    """L1 serves on, writes say that they failed, loaders run, counters raise."""
    cache = listening(lone_cache(server.url, **options()))

    async def main():
        await cache.aset("k", "v")
        server.kill()
        assert await cache.aget("k") == "v"
        assert await cache.aget_many(["k", "absent"]) == {"k": "v"}
        assert await cache.aset("other", 1) is False
        assert await cache.aset_many({"a": 1, "b": 2}) == ["a", "b"]
        assert await cache.aadd("other", 1) is False
        assert await cache.adelete("other") is False
        assert await cache.aget_or_load("loaded", lambda: 7) == 7
        with pytest.raises(CounterUnavailableError):
            await cache.aincr("n")
        calls = await asyncio.gather(
            *(cache.aget_or_load("slow", slow) for _ in range(20))
        )
        assert len(set(calls)) == 1

    loads = []

    async def slow():
        loads.append(1)
        await asyncio.sleep(0.05)
        return len(loads)

    run(main())
    assert is_idle(cache)


def test_pending_deletes_are_replayed_before_anything_is_read(server, run):
    """A value whose change failed is not seen again by threads or by tasks."""
    cache = listening(lone_cache(server.url, **options()))

    async def main():
        await cache.aset_many({"k": "old", "l": "old", "m": "old"})
        await asyncio.to_thread(_wait_for_disk, server)
        server.kill()
        await cache.aset("k", "new")
        await cache.adelete("l")
        assert len(pending_deletes_of(cache)) == 2
        await asyncio.to_thread(server.restart)
        await until(lambda: not breaker_of(cache).refuses())
        with cache.bypass_l1():
            assert await cache.aget("k") is None
            assert await cache.aget("l") is None
            assert await cache.aget("m") == "old"
        assert not pending_deletes_of(cache)
        assert await cache.aset("k", "newer")
        assert await cache.aget("k") == "newer"

    run(main())
    eventually(lambda: cache.stats().trusted)
    assert is_idle(cache)


def _wait_for_disk(server):
    with redis.Redis.from_url(server.url) as admin:
        admin.config_set("appendfsync", "always")
        admin.set("mark", 1)


def test_on_error_raise(free_port, run):
    """With ON_ERROR="raise" every method raises L2Error, and the breaker opens."""
    cache = lone_cache(f"redis://127.0.0.1:{free_port}/0", on_error="raise")

    async def main():
        for call in (
            lambda: cache.aget("k"),
            lambda: cache.aset("k", 1),
            lambda: cache.aget_or_load("k", lambda: 1),
            lambda: cache.adelete_many(["k"]),
        ):
            with pytest.raises(L2Error):
                await call()
        for _ in range(5):
            with pytest.raises(L2UnavailableError):
                await cache.aget("k")
        assert breaker_of(cache).is_open

    run(main())
    assert is_idle(cache)


def test_a_loop_that_is_too_busy(redis_url, run, monkeypatch):
    """A connection that it takes too late goes to others, and counts as no outage."""
    monkeypatch.setattr(apool, "CHECK_S", 0.001)
    cache = lone_cache(redis_url, on_error="raise")
    engine = engine_of(cache)
    pool = engine.l2.client.links

    async def main():
        call = asyncio.create_task(cache.aget("k"))
        await asyncio.sleep(0)
        eventually(lambda: pool._idle)  # which blocks the loop
        with pytest.raises(L2Error, match="busy") as caught:
            await call
        assert type(caught.value) is L2Error
        assert engine.breaker.failures == 0
        assert await cache.aget("k") is None

    run(main())
    assert is_idle(cache)
