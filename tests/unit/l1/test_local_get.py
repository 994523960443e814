"""The look-up without a lock: right under threads, exact about time."""

from __future__ import annotations

import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cachebridge.codec.values import SERIALIZERS
from cachebridge.core.entry import MISSING, make_entry
from cachebridge.core.fill import Fill
from cachebridge.l1.copies import CopyRules
from cachebridge.l1.local_get import make_local_get, make_local_get_many
from tests.rig import FakeClock, make_rules

PICKLE = SERIALIZERS["pickle"]


class Bench:
    """A local_get over a real store, with the parts that it reads."""

    def __init__(self, clock, *, max_entries=100):
        self.rules, self.store, self.counters = make_rules(
            clock, max_entries=max_entries
        )
        self.copies = CopyRules(encode=PICKLE.encode, decode=PICKLE.decode)
        self.aliases = {}
        shared = {
            "gate": self.rules.gate,
            "clock": self.rules.clock,
            "copies": self.copies,
            "counters": self.counters,
        }
        self.local_get = make_local_get(self.aliases, self.store, **shared)
        self.local_get_many = make_local_get_many(self.aliases, self.store, **shared)

    def put(self, key, value, *, expires=2000.0):
        form = self.copies.form_of(value, PICKLE.encode(value))
        self.aliases[key] = "full:" + key
        with self.rules.lock:
            self.store.put(
                "full:" + key,
                make_entry(expires, *form),
            )


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def bench(clock):
    return Bench(clock)


def both(bench, key):
    """Ask the single and the batch local_get; they must agree."""
    one = bench.local_get(key)
    found, missed = bench.local_get_many([key])
    assert found == ({} if one is MISSING else {key: one})
    assert missed == ([key] if one is MISSING else [])
    return one


@pytest.mark.parametrize("value", ["text", None, 0, False, {"a": 1}, [[1]]])
def test_hit(bench, value):
    """A usable entry is the answer, falsy values included, and counts as one hit."""
    bench.put("k", value)
    assert both(bench, "k") == value
    assert bench.counters.l1_hits == 2
    assert bench.store._marks == {"full:k"}


def test_miss(bench, clock):
    """Unknown, expired, untrusted, bypassed, of another codec: an uncounted miss."""
    bench.aliases["gone"] = "full:gone"
    assert both(bench, "unknown") is MISSING
    assert both(bench, "gone") is MISSING
    bench.put("k", "v", expires=1001.0)
    clock.advance(1)
    assert both(bench, "k") is MISSING
    for value in ("v", {"a": 1}, [[1]]):
        bench.put("k", value)
        bench.rules.enter_bypass(bench)
        assert both(bench, "k") is MISSING
        bench.rules.leave_bypass(bench)
        assert both(bench, "k") == value
    form = CopyRules(encode=PICKLE.encode, decode=PICKLE.decode).form_of("v", b"")
    bench.store.put("full:k", make_entry(2000.0, *form))
    assert both(bench, "k") is MISSING
    bench.put("k", "v")
    bench.rules.end_trust()
    assert both(bench, "k") is MISSING
    assert bench.counters.l1_hits == 6


def test_many(bench):
    """A batch splits into found and missed; keys that are no plain text are missed."""
    bench.put("a", 1)
    bench.put("b", [[2]])
    found, missed = bench.local_get_many(["a", "x", "b", 7])
    assert found == {"a": 1, "b": [[2]]}
    assert missed == ["x", 7]
    assert bench.counters.l1_hits == 2


def shape_of(key, version):
    """Return a value that names its key, in each of the three forms in turn."""
    return (
        f"{key}:{version}",
        {"key": key, "version": version},
        [[key], [version]],
    )[version % 3]


def key_in(value):
    if isinstance(value, str):
        return value.partition(":")[0]
    return value["key"] if isinstance(value, dict) else value[0][0]


def read_until(stop, bench, chance):
    hits = 0
    while not stop.is_set():
        key = f"k{chance.randrange(40)}"
        value = bench.local_get(key)
        if value is not MISSING:
            hits += 1
            assert key_in(value) == key
        found, missed = bench.local_get_many([key, "other"])
        assert len(found) + len(missed) == 2
        assert all(key_in(each) == key for each in found.values())
    assert hits


def write_much(bench, chance):
    for version in range(4000):
        key = f"k{chance.randrange(40)}"
        value = shape_of(key, version)
        kind, payload, _ = bench.copies.form_of(value, PICKLE.encode(value))
        bench.aliases[key] = "full:" + key
        with Fill(bench.rules, ("full:" + key,)) as fill:
            entry = make_entry(2000.0, kind, payload, 64)
            fill.store("full:" + key, entry)
        if not version % 7:
            bench.rules.on_keys(b"stranger", version, ["full:" + key])
        if not version % 500:
            bench.rules.flush("test")


@pytest.fixture
def often_switching():
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(switch)


def test_never_a_wrong_value_under_threads(often_switching):
    """8 readers while 2 writers put, evict, flush: no error, no other key's value."""
    bench = Bench(lambda: 1000.0, max_entries=20)
    stop = threading.Event()
    with ThreadPoolExecutor(10) as threads:
        readers = [
            threads.submit(read_until, stop, bench, random.Random(seed))
            for seed in range(8)
        ]
        writers = [
            threads.submit(write_much, bench, random.Random(seed)) for seed in range(2)
        ]
        for writer in writers:
            writer.exception()
        stop.set()
    for each in readers + writers:
        each.result()
    assert bench.rules.is_idle()
    assert len(bench.store) <= 20
    assert bench.store.bytes == 64 * len(bench.store)
