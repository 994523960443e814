"""An entry that was read while L1 was off does not become a hit when L1 opens again.

Between its two looks, at the entry and at the gate, a thread can lose the processor for
as long as the listener needs to subscribe, flush L1 and hear its heartbeat.  The clock
is the place between them where the test lets that happen.
"""

from __future__ import annotations

from cachebridge.config import CacheOptions, EngineOptions
from cachebridge.core.entry import MISSING
from cachebridge.engine.engine import Engine
from cachebridge.engine.kinds.key_operations import KeyOperations
from cachebridge.l1.local_get import make_local_get
from cachebridge.l2.location import parse_location
from cachebridge.waiting.run import run

KEY = "key"


class Interrupted:
    """A clock during whose next reading the bus comes back."""

    def __init__(self):
        self.now = 100.0
        self.happens = None

    def __call__(self):
        happens, self.happens = self.happens, None
        if happens:
            happens()
        return self.now


def stale_engine(clock):
    """An engine whose L1 holds a value from before the bus broke."""
    engine = Engine(parse_location("memory://hit-order"), EngineOptions(), clock=clock)
    values = engine.values_for("pickle")
    made = KeyOperations(
        engine,
        values,
        CacheOptions(),
        enters_l1=True,
        publishes=True,
        in_background=lambda load: load,
        key_of_tag=str,
    )
    operations = made.for_threads._operations
    rules = engine.rules
    rules.on_subscribed()
    rules.extend_trust(clock.now + 2)
    run(operations.set(KEY, "old", None))
    assert operations.get_from_l1(KEY) == "old"
    rules.on_break()
    clock.now += 10  # longer than BUS_TRUST, shorter than L1_TTL

    def bus_comes_back():
        rules.on_subscribed()
        rules.extend_trust(clock.now + 2)

    clock.happens = bus_comes_back
    return engine, operations


def test_the_fast_path():
    """The local get of the caches misses."""
    clock = Interrupted()
    engine, operations = stale_engine(clock)
    local_get = make_local_get(
        {KEY: KEY},
        engine.l1,
        gate=engine.rules.gate,
        clock=engine.rules.clock,
        copies=engine.values_for("pickle").copies,
        counters=engine.counters,
    )
    assert local_get(KEY) is MISSING
    assert clock.happens is None
    assert operations.get_from_l1(KEY) is MISSING


def test_the_other_path():
    """So does the look-up of the operations."""
    clock = Interrupted()
    _, operations = stale_engine(clock)
    assert operations.get_from_l1(KEY) is MISSING
    assert clock.happens is None
