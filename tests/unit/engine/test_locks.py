"""A lock made of ``add`` protects what its owner reads, on every way to read (I23)."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager

import pytest

from cachebridge import Cache
from cachebridge.engine.messages import fences
from tests.rig import (
    after_heartbeats,
    eventually,
    listening,
    lone_cache,
    receiver_of,
    rules_of,
)
from tests.sides import SIDES, on_side

SLOW_TRUST = {"bus_trust": 120.0, "bus_heartbeat": 0.05}
"""A listener that is held up in a test must not lose its trust by that."""


@contextmanager
def deaf(cache):
    """Hold the listener up at the next message."""
    receiver, may_go_on = receiver_of(cache), threading.Event()
    on_frame = receiver.on_frame

    def wait(frame):
        may_go_on.wait()
        return on_frame(frame)

    receiver.on_frame = wait
    try:
        yield may_go_on
    finally:
        may_go_on.set()
        del receiver.on_frame


@pytest.fixture(params=["redis", "memcached"])
def make(request, redis_url):
    """Return a function that makes a cache as in a process of its own."""

    def make(**options):
        given = {"key_prefix": f"{id(request)}:", **SLOW_TRUST, **options}
        if request.param == "redis":
            return lone_cache(redis_url, **given)
        place = request.getfixturevalue("shared_memcached")
        return lone_cache(place.url, bus_location=redis_url, **given)

    return make


@pytest.fixture
def ours(make):
    """Return a cache that listens, with one warm key."""
    cache = listening(make())
    cache.set("k", "old")
    assert cache.get("k") == "old"
    return cache


@pytest.fixture
def impatient(monkeypatch):
    """Let no read wait for a fence."""
    monkeypatch.setattr(fences, "FENCE_PATIENCE_S", 0.0)


READS = {
    "get": lambda cache: cache.get("k"),
    "get_many": lambda cache: cache.get_many(["k"])["k"],
    "get_or_load": lambda cache: cache.get_or_load("k", lambda: "loaded"),
}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("lock", ["lock", "excluded"])
@pytest.mark.parametrize("read", READS)
def test_owner_reads_what_was_written_before(make, impatient, side, lock, read):
    """L1 has not heard of the last owner's write; the new owner reads it all the same.

    Also if no peer is told of the lock, since no L1 may hold its key.
    """
    ours = listening(make(l1_exclude=["excluded"]))
    theirs, cache = make(l1_exclude=["excluded"]), on_side(side, ours)
    ours.set("k", "old")
    assert ours.get("k") == "old"
    with deaf(ours):
        theirs.set("k", "new")
        assert ours.get("k") == "old"
        assert cache.add(lock, 1, 30)
        assert READS[read](cache) == "new"
        assert cache.has_key("k")


def test_deleted_key_is_gone_for_the_owner(ours, make, impatient):
    """``has_key`` is a read as well."""
    with deaf(ours):
        make().delete("k")
        assert ours.has_key("k")
        assert ours.add("lock", 1, 30)
        assert not ours.has_key("k")


def test_other_tasks_and_threads_of_the_process(ours, make, impatient):
    """The owner may hand its work over: the fence is for all of the process."""

    async def work():
        assert await asyncio.to_thread(ours.add, "lock", 1, 30)
        return await ours.aget("k"), await asyncio.to_thread(ours.get, "k")

    with deaf(ours):
        make().set("k", "new")
        assert asyncio.run(work()) == ("new", "new")


def test_fill_that_was_under_way_is_not_kept_for_the_owner(ours, make, impatient):
    """Another thread has read the old value before the lock, and stores it after."""
    rules, theirs = rules_of(ours), make()
    with rules.lock:
        rules.drop(f"{ours._prefix}k")
    store, asked, may_store = ours._binding.engine.l2, threading.Event(), []
    get = store.get

    async def slow_get(key):
        reply = await get(key)
        if not asked.is_set():
            asked.set()
            eventually(lambda: may_store)
        return reply

    store.get = slow_get
    reader = threading.Thread(target=ours.get, args=("k",))
    with deaf(ours):
        reader.start()
        eventually(asked.is_set)
        theirs.set("k", "new")
        assert ours.add("lock", 1, 30)
        may_store.append(1)
        reader.join()
        assert ours.get("k") == "new"
    after_heartbeats(ours)
    assert ours.get("k") == "new"


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("lock", ["lock", "excluded"])
def test_read_waits_for_the_echo_and_hits(make, monkeypatch, side, lock):
    """A read that comes too early loses a moment, not its hit."""
    monkeypatch.setattr(fences, "FENCE_PATIENCE_S", 60.0)
    ours = listening(make(l1_exclude=["excluded"]))
    cache = on_side(side, ours)
    ours.set("k", "v")
    assert ours.get("k") == "v"
    before = ours.stats()
    for number in range(20):
        assert cache.add(f"{lock}{number}", 1, 30)
        assert cache.get("k") == "v"
        assert cache.get_many(["k"]) == {"k": "v"}
        assert cache.get_or_load("k", lambda: "loaded") == "v"
    after = ours.stats()
    assert after.l1_hits - before.l1_hits == 60
    assert after.l2_hits == before.l2_hits


def test_later_fences_of_others_do_not_hold_a_reader_up(ours, monkeypatch):
    """A read waits for the fences that were there when it came, and then hits."""
    monkeypatch.setattr(fences, "FENCE_PATIENCE_S", 60.0)
    rules, before = rules_of(ours), ours.stats()
    rules.fences.awaited.update((101, 102))
    rules.raise_fence(101, is_announced=True)
    found = []
    reader = threading.Thread(target=lambda: found.append(ours.get("k")))
    reader.start()
    eventually(lambda: rules.fences.up[101]._ended is not None)
    rules.raise_fence(102, is_announced=True)
    rules.on_keys(rules.origin, 101, ())
    reader.join()
    assert found == ["old"]
    assert ours.stats().l1_hits == before.l1_hits + 1
    assert 102 in rules.fences.up or ours.stats().trusted


def test_what_raises_no_fence(ours):
    """Losing, failing, counting, touching, deleting: hits stay hits."""
    ours.set("n", 1)
    assert ours.add("lock", 1, 30)
    assert ours.get("k") == "old"
    after_heartbeats(ours)
    ours_fences = rules_of(ours).fences
    with deaf(ours):
        assert not ours.add("lock", 1, 30)
        assert not ours.add("k", 1, 0)
        ours.incr("n")
        ours.touch("lock", 60)
        ours.delete("lock")
        ours.get_or_load("loaded", lambda: 1)
        before = ours.stats()
        assert ours.get("k") == "old"
        assert ours.stats().l1_hits == before.l1_hits + 1
        assert not ours_fences.up
        assert not ours_fences.awaited


def test_failed_add_leaves_nothing(redis_server_factory):
    """An ``add`` without an answer has not won."""
    server = redis_server_factory()
    cache = listening(lone_cache(server.url, breaker_failures=0))
    server.stop()
    assert not cache.add("lock", 1, 30)
    assert not rules_of(cache).fences.up
    assert not rules_of(cache).fences.awaited


def test_hit_ratio_with_one_won_add_in_a_hundred_calls(ours, monkeypatch):
    """The fence costs at most half a point of the hit ratio."""
    monkeypatch.setattr(fences, "FENCE_PATIENCE_S", 5.0)  # a busy machine
    before = ours.stats()
    for number in range(30):
        assert ours.add(f"once:{number}", 1, 30)
        for _ in range(99):
            assert ours.get("k") == "old"
    after = ours.stats()
    reads = 30 * 99
    assert after.l1_hits - before.l1_hits >= 0.995 * reads


def test_without_a_bus_there_is_no_fence(redis_url):
    """There is no echo to wait for: L1_TTL is the bound, as for every read."""
    cache = listening(Cache(redis_url, bus="none", key_prefix="nobus:"))
    cache.set("k", 1)
    assert cache.add("lock", 1, 30)
    before = cache.stats()
    assert cache.get("k") == 1
    assert cache.stats().l1_hits == before.l1_hits + 1


def test_in_memory_the_echo_is_always_first():
    """``memory://`` handles messages before the ``add`` returns."""
    cache = listening(lone_cache("memory://", l1_exclude=["x"]))
    cache.set("k", 1)
    assert cache.add("lock", 1, 30)
    assert not rules_of(cache).fences.up
    assert cache.add("x", 1, 30)
    assert cache.get("k") == 1
    assert not rules_of(cache).fences.up


def test_read_that_waits_ends_the_pause_of_the_listener(redis_url, monkeypatch):
    """After echoes of own writes the listener rests a moment, but not now."""
    monkeypatch.setattr(fences, "FENCE_PATIENCE_S", 60.0)
    cache = listening(lone_cache(redis_url, **SLOW_TRUST))
    hurry, pauses = rules_of(cache).fences.hurry, []
    wait = hurry.wait

    def long(seconds):
        pauses.append(seconds)
        wait(600.0)

    monkeypatch.setattr(receiver_of(cache), "pause", lambda s: (long(s), hurry.clear()))
    cache.set("k", 1)
    eventually(lambda: pauses)
    before = cache.stats()
    assert cache.add("lock", 1, 30)
    assert cache.get("k") == 1
    assert cache.stats().l1_hits == before.l1_hits + 1
    hurry.set()
