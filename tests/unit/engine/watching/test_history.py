"""The points of the last ten minutes, by a clock that the test moves."""

from __future__ import annotations

import json

import pytest

from cachebridge.engine.watching.history import COLUMNS, EVERY_S, KEPT, History
from tests.rig import FakeClock, make_rules


class Host:
    """What a history needs of an engine."""

    def __init__(self):
        self.clock = FakeClock()
        self.rules, self.l1, self.counters = make_rules(self.clock)


@pytest.fixture
def host():
    return Host()


def test_a_point_has_what_has_grown(host):
    """Counters grow since the last point; those by cause are summed, shares too."""
    host.counters.l1_hits = 5
    history = History(host)
    host.counters.l1_hits += 7
    host.counters.of("default").l1_hits += 3
    host.counters.flushes.update(clear=1, gap=2)
    history.beat()
    assert history.columns()["at"] == []
    host.clock.advance(EVERY_S + 1)
    found = history.columns()
    assert found["l1_hits"] == [10]
    assert found["flushes"] == [3]
    assert found["seconds"] == [EVERY_S + 1]
    assert found["trusted"] == [1]
    host.clock.advance(EVERY_S)
    assert history.columns()["l1_hits"] == [10, 0]


def test_bounded(host):
    """Ten minutes are kept, in less than an answer has room for."""
    history = History(host)
    for _ in range(2 * KEPT):
        host.clock.advance(EVERY_S)
        host.counters.l1_hits += 1_000_000
        history.beat()
    found = history.columns()
    assert {len(found[name]) for name in COLUMNS} == {KEPT}
    assert len(json.dumps(found)) < 16_000


def test_begins_anew(host):
    """A forked child has no past, and no growth below zero when counters restart."""
    history = History(host)
    host.counters.l1_hits = 50
    host.clock.advance(EVERY_S)
    history.beat()
    host.counters.reset()
    history.reset()
    host.clock.advance(EVERY_S)
    assert history.columns()["l1_hits"] == [0]
