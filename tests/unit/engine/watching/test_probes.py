"""PROBE_EVERY: what another client changes is found, what caches write never is."""

from __future__ import annotations

import logging
import pickle
import random

import pytest
import redis

from cachebridge import ABSENT
from cachebridge.engine.fleet.reasons import why
from tests.rig import (
    after_heartbeats,
    engine_of,
    eventually,
    l1_of,
    listening,
    lone_cache,
    refreshed,
    rules_of,
)

OPTIONS = {"KEY_PREFIX": "p:", "PROBE_EVERY": 1}


class Point:
    """A value that cannot be compared."""

    def __init__(self, x):
        self.x = x

    def __repr__(self):
        return f"Point({self.x})"


@pytest.fixture
def cache(redis_url):
    return quiet(listening(lone_cache(redis_url, **OPTIONS)))


def quiet(cache):
    """Let only the test compare, so that it knows when."""
    engine_of(cache).probes.beat = lambda: None
    refreshed(cache)
    return cache


@pytest.fixture
def foreign(redis_url):
    """Another program, which knows nothing of us."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


def looked_twice(cache, key="p:k"):
    """Compare an entry, and again after the bound; return how many were stale."""
    probes, before = engine_of(cache).probes, cache.stats().probes_stale
    probes.compare([key])
    assert cache.stats().probes_stale == before, "once is no finding"
    probes.compare([], [key])
    return cache.stats().probes_stale - before


VALUES = [1, "text", b"bytes", None, 1.5, float("nan"), True, (1, "a"), {"a": 1}]
VALUES += [[1, 2], {1, 2}, [[1], {"a": [Point(1)]}], Point(2)]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_foreign_change(cache, foreign, caplog, value):
    """It is found at the second look, counted, named, and served no more."""
    cache.set("k", value)
    assert looked_twice(cache) == 0
    foreign.set("p:k", pickle.dumps("foreign"), keepttl=True)
    with caplog.at_level(logging.WARNING):
        assert looked_twice(cache) == 1
    assert "p:k" in caplog.text
    assert caplog.records[-1].cachebridge["event"] == "probe.stale"
    engine = engine_of(cache)
    assert why(engine, "p:k", [])[0] == "stale"
    assert cache.get("k") == "foreign"


@pytest.mark.parametrize(
    "options",
    [
        {"COMPRESSOR": "zlib", "COMPRESS_MIN_BYTES": 32},
        {"SIGNING_KEYS": ["a secret of thirty-two characters"]},
        {"SERIALIZER": "json"},
    ],
    ids=["compressed", "signed", "json"],
)
def test_what_the_bytes_in_l2_mean(redis_url, foreign, options):
    """Values are compared, not bytes; what cannot be read is another value."""
    cache = quiet(listening(lone_cache(redis_url, **OPTIONS, **options)))
    cache.set("k", {"text": "x" * 200})
    assert looked_twice(cache) == 0
    foreign.set("p:k", b"\x80no value")
    assert looked_twice(cache) == 1
    assert cache.get("k") is None


def test_a_foreign_change_of_what_the_host_shares(redis_url, foreign, tmp_path):
    """It leaves there, too: no process of the host reads the old value on."""
    options = {**OPTIONS, "L1_SHARED": f"1M {tmp_path}", "BUS_HEARTBEAT": 0.05}
    cache = quiet(listening(lone_cache(redis_url, **options)))
    eventually(lambda: cache.health().l1_shared == "on")
    cache.set("k", "old")
    shared = rules_of(cache).sharing.store

    def is_shared():
        l1_of(cache).pop("p:k")
        return cache.get("k") == "old" and shared.look("p:k") is not None

    eventually(is_shared)  # the message of the write may still drop it
    eventually(lambda: cache.get("k") and l1_of(cache).look("p:k"))
    assert looked_twice(cache) == 0
    foreign.set("p:k", pickle.dumps("foreign"))
    assert looked_twice(cache) == 1
    assert shared.look("p:k") is None
    assert cache.get("k") == "foreign"


def test_a_value_where_there_was_none(redis_url, foreign):
    """A mark of absence is stale as soon as there is a value."""
    cache = quiet(listening(lone_cache(redis_url, **OPTIONS, NEGATIVE_TTL=60)))
    assert cache.get_or_load("k", lambda: ABSENT) is None
    assert l1_of(cache).look("p:k") is not None
    assert looked_twice(cache) == 0
    foreign.set("p:k", pickle.dumps(1))
    assert looked_twice(cache) == 1


def test_what_the_server_has_evicted(cache, foreign):
    """A server that is full evicts: that is no change, and no finding."""
    cache.set("k", 1)
    foreign.delete("p:k")
    assert looked_twice(cache) == 0
    assert cache.get("k") == 1


def test_a_message_that_comes_between(cache, foreign):
    """A write is under way at the first look, its message arrives before the second."""
    cache.set("k", 1)
    probes = engine_of(cache).probes
    foreign.set("p:k", pickle.dumps(2))
    probes.compare(["p:k"])
    rules_of(cache).on_keys(b"a peer..", 1, ["p:k"])
    probes.compare([], ["p:k"])
    assert cache.get("k") == 2
    probes.compare([], ["p:k"])
    assert looked_twice(cache) == 0
    assert cache.stats().probes_stale == 0


def test_the_second_look_waits_for_the_bound(cache, foreign):
    """Nothing is compared again before; then it is, whether it was hit or not."""
    cache.set("k", 1)
    engine = engine_of(cache)
    probes, real = engine.probes, engine.clock
    foreign.set("p:k", pickle.dumps(2))
    probes.compare(["p:k"])
    del probes.beat
    ((_, at),) = probes._doubted.values()
    assert at == pytest.approx(real() + engine.options.bus_trust, abs=1.0)
    asked = []
    engine.refresher.submit = lambda _name, task: asked.append(task)
    try:
        engine.clock = lambda: at - 0.01
        probes.beat()
        assert asked == []
        engine.clock = lambda: at
        probes.beat()
        (compare,) = asked
    finally:
        del engine.refresher.submit
        engine.clock = real
        probes.beat = lambda: None
    compare()
    assert cache.stats().probes_stale == 1


def test_a_queued_write(cache):
    """L1 has it before L2 does."""
    cache.set("k", 1)
    cache.set("k", 2, wait=False)
    assert looked_twice(cache) == 0


def test_while_l1_is_not_trusted(cache, foreign):
    """What answers no read is not stale."""
    cache.set("k", 1)
    foreign.set("p:k", pickle.dumps(2))
    rules_of(cache).end_trust()
    probes = engine_of(cache).probes
    assert probes._differing(["p:k"]) == {}


def test_no_server(redis_server_factory):
    """An outage is no finding, and no error."""
    server = redis_server_factory()
    cache = quiet(listening(lone_cache(server.url, **OPTIONS)))
    cache.set("k", 1)
    server.stop()
    engine_of(cache).probes.compare(["p:k"], [])
    assert cache.stats().probes_stale == 0


@pytest.mark.parametrize("eviction", ["s3fifo", "lru", "fifo"])
def test_one_hit_in_so_many(redis_url, eviction):
    """The listener's beat has hits compared in the background, with every policy."""
    options = {**OPTIONS, "PROBE_EVERY": 10, "BUS_HEARTBEAT": 0.05}
    cache = listening(lone_cache(redis_url, L1_EVICTION=eviction, **options))
    cache.set("k", 1)

    def compared():
        for _ in range(10):
            cache.get("k")
        return cache.stats().probes

    eventually(compared)
    assert compared() <= cache.stats().l1_hits / 10


def test_off(redis_url):
    """By default nothing is compared, and no note is taken."""
    cache = listening(lone_cache(redis_url, KEY_PREFIX="p:", BUS_HEARTBEAT=0.05))
    cache.set("k", 1)
    l1_of(cache).hit_lately = None
    for _ in range(5):
        cache.get("k")
    after_heartbeats(cache)
    assert cache.stats().probes == 0


def test_ordinary_writes(redis_url):
    """Peers that write and read the same keys, compared all the while, without end."""
    caches = [quiet(listening(lone_cache(redis_url, **OPTIONS))) for _ in range(2)]
    chance = random.Random(5)
    keys = [f"k{n}" for n in range(5)]
    for number in range(120):
        writer, reader = chance.sample(caches, 2)
        key = chance.choice(keys)
        if chance.random() < 0.3:
            writer.set(key, number, wait=chance.random() < 0.5)
        elif chance.random() < 0.1:
            writer.delete(key)
        else:
            reader.get(key)
        probes = engine_of(reader).probes
        at_once = [f"p:{each}" for each in keys]
        if number % 3 == 0:
            probes.compare(at_once)
    after_heartbeats(reader)
    for each in caches:
        probes = engine_of(each).probes
        after_heartbeats(each)  # what was sent has been heard: the bound is over
        probes.compare([], list(probes._doubted))
        assert each.stats().probes > 0
        assert each.stats().probes_stale == 0
