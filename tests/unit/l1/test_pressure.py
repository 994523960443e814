"""A warning, once, if L1 is smaller than what its process works with."""

from __future__ import annotations

import pytest

from cachebridge.core.entry import make_entry
from cachebridge.l1.eviction import POLICIES
from cachebridge.l1.pressure import WINDOW_S, Pressure
from cachebridge.stats import Counters

ENTRY = make_entry(1e9, "kind", "value", 64)


@pytest.fixture
def counters():
    return Counters()


@pytest.fixture
def l1(counters):
    return POLICIES["s3fifo"](max_entries=400, max_bytes=1 << 30, counters=counters)


@pytest.fixture
def pressure(l1, counters):
    pressure = Pressure(l1, counters, "memory://here")
    pressure.observe(0.0)
    return pressure


def cycle(l1, keys):
    """Read the keys over and over, filling what misses."""
    for _ in range(10):
        for number in range(keys):
            key = str(number)
            l1.note(key) if l1.look(key) else l1.put(key, ENTRY)


def test_a_working_set_that_is_larger(l1, pressure, caplog):
    """It names the cache, the figures and the options, once."""
    for minute in (1, 2, 3):
        cycle(l1, 500)
        pressure.observe(minute * WINDOW_S)
    (warning,) = caplog.messages
    assert "memory://here" in warning
    assert "Raise L1_MAX_ENTRIES or L1_MAX_BYTES" in warning
    assert caplog.records[0].name == "cachebridge.l1"


def test_a_working_set_that_fits(l1, pressure, caplog):
    """Nor does a scan of keys that are read once say anything about the bound."""
    cycle(l1, 200)
    pressure.observe(WINDOW_S)
    for number in range(5000):
        l1.put(f"scan{number}", ENTRY)
    pressure.observe(2 * WINDOW_S)
    assert not caplog.messages


def test_only_full_minutes_count(l1, pressure, counters, caplog):
    """What happened before the first one does not; after a fork counters begin anew."""
    cycle(l1, 500)
    pressure.observe(WINDOW_S / 2)
    assert not caplog.messages
    counters.reset()
    pressure.observe(WINDOW_S)
    assert not caplog.messages
    cycle(l1, 500)
    pressure.observe(2 * WINDOW_S)
    assert len(caplog.messages) == 1
