"""No caller waits for another one of its process longer than LEASE_TTL (I24)."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.rig import (
    PATIENCE_S,
    eventually,
    followers_in,
    is_idle,
    load_slots_of,
    lone_cache,
)

SHORT = {"lease_ttl": 0.2}


@pytest.fixture(params=["redis", "memory"])
def cache(request):
    url = "memory://" if request.param == "memory" else None
    return lone_cache(url or request.getfixturevalue("redis_url"), **SHORT)


class Hanging:
    """A loader that hangs until it is told to go on."""

    def __init__(self):
        self.started, self.go_on = threading.Event(), threading.Event()

    def __call__(self):
        self.started.set()
        assert self.go_on.wait(PATIENCE_S)
        return "leader's"

    async def load(self):
        return await asyncio.to_thread(self)


@pytest.fixture
def hanging():
    loader = Hanging()
    yield loader
    loader.go_on.set()


@pytest.fixture
def pool(hanging):
    with ThreadPoolExecutor(12) as pool:
        yield pool
        hanging.go_on.set()


@pytest.mark.parametrize("leader", ["thread", "task"])
@pytest.mark.parametrize("follower", ["thread", "task"])
def test_a_leader_that_hangs(cache, hanging, pool, leader, follower):
    """Those that follow it load themselves, and the key can be read meanwhile."""
    if leader == "thread":
        first = pool.submit(cache.get_or_load, "k", hanging)
    else:
        first = pool.submit(asyncio.run, cache.aget_or_load("k", hanging.load))
    assert hanging.started.wait(PATIENCE_S)
    if follower == "thread":
        others = [pool.submit(cache.get_or_load, "k", lambda: "own") for _ in range(4)]
    else:
        others = [
            pool.submit(asyncio.run, cache.aget_or_load("k", lambda: "own"))
            for _ in range(4)
        ]
    assert [each.result(PATIENCE_S) for each in others] == ["own"] * 4
    assert not hanging.go_on.is_set()
    hanging.go_on.set()
    assert first.result(PATIENCE_S) in {"own", "leader's"}
    assert is_idle(cache)


def test_a_leader_whose_loop_stands_still(cache, pool):
    """A loop that was stopped, not closed, may never go on: no caller counts on it."""
    started = []

    async def load():
        started.append(1)
        await asyncio.Event().wait()

    loop = asyncio.new_event_loop()
    task = loop.create_task(cache.aget_or_load("k", load))
    while not started:
        loop.run_until_complete(asyncio.sleep(0.005))
    other = pool.submit(cache.get_or_load, "k", lambda: "own")
    assert other.result(PATIENCE_S) == "own"
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    loop.close()
    assert is_idle(cache)


def test_a_loader_that_asks_through_a_pool(cache, pool):
    """Loads that need each other's keys where no context shows it, and own locks."""
    both, lock = threading.Barrier(2), threading.Lock()

    def ask(key, other):
        def load():
            both.wait(PATIENCE_S)
            asked = pool.submit(cache.get_or_load, other, lambda: f"{other} again")
            return f"{key}, {asked.result(PATIENCE_S)}"

        return cache.get_or_load(key, load)

    crossed = [pool.submit(ask, "x", "y"), pool.submit(ask, "y", "x")]
    for each in crossed:
        assert " again" in each.result(PATIENCE_S)

    inside = threading.Event()

    def load_with_lock():
        inside.set()
        with lock:
            return "leader's"

    with lock:  # which the leader needs, and its follower has
        leader = pool.submit(cache.get_or_load, "locked", load_with_lock)
        assert inside.wait(PATIENCE_S)
        assert cache.get_or_load("locked", lambda: "own") == "own"
    assert leader.result(PATIENCE_S)
    assert is_idle(cache)


@pytest.mark.parametrize("kind", ["thread", "task"])
def test_max_loads_and_a_loader_that_asks_through_a_pool(redis_url, pool, kind):
    """Outer loads have all slots, and inner ones go on without after a while."""
    cache = lone_cache(redis_url, max_loads=2, **SHORT)
    slots = load_slots_of(cache)
    outer_run = threading.Barrier(2)

    def part(name):
        if kind == "task":
            return asyncio.run(cache.aget_or_load(name, lambda: "part"))
        return cache.get_or_load(name, lambda: "part")

    def page(number):
        def load():
            outer_run.wait(PATIENCE_S)
            parts = [pool.submit(part, f"part:{number}:{i}") for i in range(2)]
            return [each.result(PATIENCE_S) for each in parts]

        return cache.get_or_load(f"page:{number}", load)

    pages = [pool.submit(page, number) for number in range(2)]
    assert [each.result(PATIENCE_S) for each in pages] == [["part"] * 2] * 2
    assert slots.free == 2
    assert not slots._queue
    assert is_idle(cache)


def test_who_goes_on_alone_stores_nothing_that_another_owns(redis_url, hanging, pool):
    """A load beside the owner of the lease is for its caller alone."""
    cache, peer = (lone_cache(redis_url, lease_ttl=60) for _ in range(2))
    owner = pool.submit(peer.get_or_load, "k", hanging)
    assert hanging.started.wait(PATIENCE_S)
    waits = pool.submit(cache.get_or_load, "k", lambda: "waits")
    eventually(lambda: cache.stats().lease_waits)
    assert cache.get_or_load("k", lambda: "own", lease_ttl=0.05) == "own"
    assert cache.get("k") is None
    assert followers_in(cache) == 0
    hanging.go_on.set()
    assert owner.result(PATIENCE_S) == waits.result(PATIENCE_S) == "leader's"
    assert cache.get("k") == "leader's"
