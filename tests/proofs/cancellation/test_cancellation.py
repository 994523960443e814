"""A call that is cancelled, at any of its awaits, leaves no state in the engine."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time

import pytest
import redis
from pymemcache.client.base import Client

from cachebridge.testing import FaultProxy
from tests.rig import (
    PATIENCE_S,
    engine_of,
    eventually,
    is_idle,
    l2_of,
    listening,
    lone_cache,
    pool_of,
    task_pool_of,
    until,
)

pytestmark = pytest.mark.proof

CANCELLATIONS = int(os.environ.get("CACHEBRIDGE_CANCELLATIONS", "600"))
MOST_SUSPENSIONS = 60


class Struck:
    """Awaits a coroutine and cancels it at its suspension of a given number.

    ``early``, the cancellation meets what is awaited; else it comes when that is done
    already, and its result is lost.
    """

    def __init__(self, coroutine, number, *, early):
        self._coroutine = coroutine
        self._number = number
        self._early = early
        self.is_struck = False

    def __await__(self):
        inner = self._coroutine.__await__()
        error = None
        suspended = 0
        while True:
            try:
                awaited = inner.send(None) if error is None else inner.throw(error)
            except StopIteration as done:
                return done.value
            error = None
            strikes = suspended == self._number
            suspended += 1
            if strikes and self._early:
                self.is_struck = True
                asyncio.current_task().cancel()
            try:
                yield awaited
            except BaseException as exc:
                error = exc
            if strikes and not self._early:
                self.is_struck = True
                error = asyncio.CancelledError()


async def load():
    await asyncio.sleep(0)
    return "loaded"


async def fail():
    await asyncio.sleep(0)
    raise LookupError


async def add_and_flush(cache):
    batched = cache.batched_counter("batch", batch_ms=3_600_000)
    batched.add()
    await batched.aflush()


async def load_batch(args):
    await asyncio.sleep(0)
    return {arg: f"loaded {arg}" for arg in args if arg != 3}


async def fail_batch(_args):
    await asyncio.sleep(0)
    raise LookupError


OPERATIONS = {
    "get": lambda cache: cache.aget("k"),
    "get of nothing": lambda cache: cache.aget("absent"),
    "get_many": lambda cache: cache.aget_many(["k", "n", "absent"]),
    "warm": lambda cache: cache.awarm(["k", "n", "absent"]),
    "has_key": lambda cache: cache.ahas_key("k"),
    "set": lambda cache: cache.aset("k", "new"),
    "set, TTL over": lambda cache: cache.aset("k", "new", 0),
    "set_many": lambda cache: cache.aset_many({"k": "new", "l": "new"}),
    "add": lambda cache: cache.aadd("added", "new"),
    "touch": lambda cache: cache.atouch("k", 50),
    "incr": lambda cache: cache.aincr("n"),
    "incr of a float": lambda cache: cache.aincr("n", 0.5),
    "decr": lambda cache: cache.adecr("n"),
    "append": lambda cache: cache.aappend("appended", "new"),
    "take": lambda cache: cache.counter("n", floor=None, ceiling=9).atake(),
    "take in vain": lambda cache: cache.counter("n").atake(2**40),
    "flush of a batch": add_and_flush,
    "delete": lambda cache: cache.adelete("k"),
    "delete_many": lambda cache: cache.adelete_many(["k", "n"]),
    "load": lambda cache: cache.aget_or_load("loaded", load),
    "load by a plain loader": lambda cache: cache.aget_or_load("loaded", lambda: 1),
    "load that fails": lambda cache: cache.aget_or_load("loaded", fail),
    "load of what is there": lambda cache: cache.aget_or_load("k", load),
    "unstored load": lambda cache: cache.aget_or_load("loaded", load, 0),
    "load of a batch": lambda cache: cache.group(
        "batch", load_many=load_batch
    ).aget_many([1, 2, 3]),
    "load of a batch that fails": lambda cache: cache.group(
        "fails", load_many=fail_batch
    ).aget_many([1, 2]),
    "refresh": lambda cache: cache.group("batch", load_many=load_batch).arefresh(1),
    "clear": lambda cache: cache.aclear(),
    "undecodable": lambda cache: cache.aget("garbage"),
}
BATCH = [f"group:batch:{number}" for number in (1, 2, 3)]
KEYS = ["k", "l", "n", "added", "appended", *BATCH, "loaded", "garbage"]


@pytest.fixture(params=["redis", "memcached"])
def kind(request):
    """Each kind of store that has to wait."""
    return request.param


@pytest.fixture
def cache(request, kind, redis_url):
    """Return a cache of each kind, with L1 at work."""
    options = {
        "key_prefix": "p:",
        "max_connections": 4,
        "lease_ttl": 2 * PATIENCE_S,
    }
    if kind == "memcached":
        server = request.getfixturevalue("shared_memcached")
        cache = lone_cache(server.url, bus_location=redis_url, **options)
        l2_of(cache).clear("", bytes)
        return listening(cache)
    return listening(lone_cache(redis_url, **options))


@pytest.fixture
def spoil(kind, request, redis_url):
    """Return a function that puts garbage under a key, past the library."""
    if kind != "memcached":
        with redis.Redis.from_url(redis_url) as admin:
            yield lambda: admin.set("p:garbage", b"\x80garbage")
        return
    server = request.getfixturevalue("shared_memcached")
    client = Client((server.host, server.port))
    yield lambda: client.set("p:garbage", b"\x80garbage", flags=1)
    client.close()


def links_of(engine):
    """Return the connections as threads and as tasks use them."""
    if engine.stores.cluster is None:
        return engine.l2.client.links, engine.l2_for_tasks.client.links
    (node,) = engine.stores.cluster.nodes
    return node.client.links, node.task_client.links


@pytest.mark.parametrize("early", [True, False], ids=["early", "late"])
@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_await(cache, spoil, run, name, warm, early):  # noqa: PLR0917 a matrix
    """No open fill, stuck load, lost slot, lease or message; L1 agrees with L2.

    Cold, the connection is opened first.
    """
    engine = engine_of(cache)

    async def strike(number):
        await cache.aset_many({"k": "v", "n": 1})
        await cache.adelete_many(["l", "added", "loaded", *BATCH])
        spoil()
        assert await cache.aget_many(["k", "n"]) == {"k": "v", "n": 1}
        engine.l1.pop("p:k")
        if not warm:
            engine.l2.close()
        struck = Struck(OPERATIONS[name](cache), number, early=early)
        try:
            await struck
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
        except LookupError:
            assert not struck.is_struck or number > 0
        assert engine.rules.is_idle()
        assert engine.single_flight.is_idle()
        return struck.is_struck

    async def main():
        number = 0
        while await strike(number):
            number += 1
            assert number < MOST_SUSPENSIONS
            # The next caller is not held up, and reads what L2 has.
            began = time.monotonic()
            assert await cache.aget_or_load("loaded", lambda: "next") in {
                "loaded",
                "next",
                1,
            }
            assert time.monotonic() - began < PATIENCE_S  # leases last longer
            await agree()
        return number

    async def agree():
        threads, tasks = links_of(engine)
        await until(engine.refresher.is_idle)  # it gives leases back
        assert threads.slots.free == 4
        assert tasks._turns.free == 64
        assert {turn.free for turn in engine.count_turns} <= {1}
        assert not tasks._held._tasks
        for key in KEYS[:8]:
            from_l1 = await cache.aget(key)
            with cache.bypass_l1():
                assert await cache.aget(key) == from_l1

    suspensions = run(main())
    assert suspensions >= 1
    eventually(engine.refresher.is_idle)


@pytest.mark.parametrize("name", OPERATIONS)
def test_timeouts(cache, run, name):
    """``asyncio.timeout`` around any call ends it in time, as a TimeoutError."""

    async def main():
        await cache.aset_many({"k": "v", "n": 1})
        with pytest.raises(TimeoutError):
            await in_no_time()
        assert is_idle(cache)
        async with asyncio.timeout(PATIENCE_S):
            assert await cache.aget("n") in {0, 1, 1.5, 2, None}

    async def in_no_time():
        async with asyncio.timeout(0):
            with cache.bypass_l1():
                await OPERATIONS[name](cache)
                await asyncio.sleep(0)

    run(main())
    eventually(engine_of(cache).refresher.is_idle)


def test_random_cancellations_in_a_slow_network(shared_server, redis_url, run):
    """Thousands of cancelled calls, and no reply that belongs to another one."""
    database = redis_url.rpartition("/")[2]
    chance = random.Random(5)
    cancelled = [0]

    async def work(cache, number):
        mine = f"k{number}"
        await cache.aset(mine, number)
        while cancelled[0] < CANCELLATIONS:
            call = chance.choice(
                [
                    lambda: cache.aget(mine),
                    lambda: cache.aget_or_load(mine, lambda: number),
                    lambda: cache.aget_many([mine]),
                    lambda: cache.aset(mine, number),
                    lambda: cache.ahas_key(mine),
                ]
            )
            task = asyncio.ensure_future(call())
            done, _ = await asyncio.wait([task], timeout=chance.uniform(0, 0.02))
            if not done:
                task.cancel()
                cancelled[0] += 1
            try:
                value = await task
            except asyncio.CancelledError:
                continue
            assert value in (number, {mine: number}, True), value

    async def main():
        with FaultProxy(shared_server.host, shared_server.port) as proxy:
            url = proxy.url.rpartition("/")[0] + f"/{database}"
            cache = lone_cache(
                url, l1_max_entries=0, socket_timeout=5, socket_connect_timeout=5
            )
            numbers = range(10, 30)  # none that is equal to True or False
            await asyncio.gather(*(cache.aset(f"k{n}", n) for n in numbers))
            proxy.delay(0.005)
            await asyncio.gather(*(work(cache, n) for n in numbers))
            assert proxy.fired["delay"] > CANCELLATIONS / 4
            assert is_idle(cache)
            for number in numbers:
                assert await cache.aget(f"k{number}") == number
            engine_of(cache).stop()

    run(main())
    assert cancelled[0] >= CANCELLATIONS


def test_interrupted_connections_are_closed(redis_cache, run):
    """The connection of a cancelled call is not in the pool any more."""
    engine = engine_of(redis_cache)

    async def main():
        await redis_cache.aset("k", 1)
        pool = engine.l2.client.links
        (link,) = pool._idle
        struck = Struck(redis_cache.aget("k"), 0, early=True)
        with pytest.raises(asyncio.CancelledError):
            await struck
        asyncio.current_task().uncancel()
        assert not pool._idle
        assert not link.is_open()
        assert await redis_cache.aget("k") == 1

    run(main())


@pytest.mark.parametrize("early", [True, False], ids=["early", "late"])
def test_a_connection_whose_caller_was_cancelled(redis_cache, run, early):
    """It is kept for the next caller, also one that came with the cancellation."""
    pool = pool_of(redis_cache)

    async def main():
        with pytest.raises(asyncio.CancelledError):
            await Struck(redis_cache.aget("k"), 0, early=early)
        asyncio.current_task().uncancel()
        await until(lambda: pool._idle)
        (link,) = pool._idle
        assert link.is_open()
        assert await redis_cache.aget("k") is None
        assert list(pool._idle) == [link]

    run(main())


def test_a_connection_for_a_coroutine_that_is_closed(redis_cache, run):
    """The same, where there is no task to tell of it."""
    pool = pool_of(redis_cache)

    async def main():
        call = redis_cache.aget("k")
        call.send(None)
        call.close()
        await until(lambda: pool._idle)

    run(main())


def test_a_coroutine_that_is_closed(redis_cache, run):
    """GeneratorExit ends a call as a cancellation does."""

    async def main():
        await redis_cache.aset("k", 1)
        for call in (redis_cache.aget("k"), redis_cache.aget_or_load("l", load)):
            call.send(None)
            call.close()
            assert is_idle(redis_cache)
        assert await redis_cache.aget("k") == 1

    run(main())


def test_a_server_that_says_nothing(run):
    """SOCKET_TIMEOUT holds for tasks, too: then the call degrades."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        cache = lone_cache(f"redis://127.0.0.1:{port}/0", socket_timeout=0.2)

        async def main():
            began = time.monotonic()
            assert await cache.aget("k") is None
            assert not await cache.aset("k", 1)
            assert await cache.aget_or_load("l", load) == "loaded"
            assert 0.15 < time.monotonic() - began < PATIENCE_S

        run(main())
        eventually(lambda: is_idle(cache))  # pending deletes are tried behind it


def test_a_cancelled_caller_while_all_connections_are_busy(redis_url, run):
    """A turn that came too late goes to the next."""
    cache = lone_cache(redis_url, l1_max_entries=0, max_connections=1)
    pool = pool_of(cache)

    async def main():
        await cache.aset("k", 1)
        for early in (True, False):
            link = await task_pool_of(cache).take()
            struck = Struck(cache.aget("k"), 0, early=early)
            waiting = asyncio.create_task(finish(struck))
            next_one = asyncio.create_task(cache.aget("k"))
            await until(lambda: pool.slots._queue)
            await asyncio.sleep(0.01)  # the next one waits, too: if late, it has it
            task_pool_of(cache).give_back(link)
            assert await next_one == 1
            await waiting
            assert pool.slots.free == 1

    async def finish(struck):
        with pytest.raises(asyncio.CancelledError):
            await struck

    run(main())
