"""The circuit breaker: when it lets callers through, and whom it tells."""

from __future__ import annotations

import pytest

from cachebridge.core.breaker import RETRY_MAX_S, Breaker
from cachebridge.errors import L2UnavailableError
from tests.rig import FakeClock, Watcher


class Bench:
    """A breaker that opens after three failures and tries again after a second."""

    def __init__(self, threshold=3):
        self.clock = FakeClock()
        self.watcher = Watcher()
        self.breaker = Breaker(
            threshold=threshold,
            retry_s=1.0,
            clock=self.clock,
            jitter=lambda _low, high: high,
            watcher=self.watcher,
        )

    def fail(self, times):
        for _ in range(times):
            self.breaker.fail("no answer")

    def admits(self):
        try:
            self.breaker.admit()
        except L2UnavailableError:
            return False
        return True


@pytest.fixture
def bench():
    return Bench()


def test_opens_after_failures_in_a_row(bench):
    """A success in between begins the count anew; opening is told once."""
    bench.fail(2)
    bench.breaker.succeed()
    bench.fail(2)
    assert not bench.breaker.is_open
    assert bench.watcher.reports == []
    bench.fail(3)
    assert bench.breaker.is_open
    assert bench.watcher.reports == ["no answer"]


def test_opening_tells_when_the_first_call_failed(bench):
    """Of those in a row: that is when the outage began."""
    bench.fail(1)
    bench.breaker.succeed()
    bench.clock.advance(5)
    began = bench.clock()
    for _ in range(3):
        bench.fail(1)
        bench.clock.advance(2)
    assert bench.watcher.since == [began]


def test_closed_admits_every_caller(bench):
    """Nothing is refused before it opens."""
    bench.fail(2)
    assert not bench.breaker.refuses()
    assert bench.admits()


def test_one_trial_at_a_time(bench):
    """While it is open one caller per interval may try; the error says why and when."""
    bench.fail(3)
    assert bench.breaker.refuses()
    with pytest.raises(L2UnavailableError, match=r"next try in 1\.0 s.*no answer"):
        bench.breaker.admit()
    bench.clock.advance(1.0)
    assert not bench.breaker.refuses()
    assert bench.admits()
    assert not bench.admits()


def test_trials_become_rarer(bench):
    """The interval doubles up to its limit, and starts small again next time."""
    bench.fail(3)
    for expected in (1.0, 2.0, 4.0, 8.0, RETRY_MAX_S, RETRY_MAX_S):
        bench.clock.advance(expected - 0.01)
        assert not bench.admits()
        bench.clock.advance(0.01)
        assert bench.admits()
        bench.fail(1)
    bench.breaker.succeed()
    bench.fail(3)
    bench.clock.advance(1.0)
    assert bench.admits()


def test_any_answer_closes_it(bench):
    """It tells before it lets the others through."""
    seen = []
    bench.watcher.on_close = lambda: seen.append(bench.breaker.is_open)
    bench.fail(3)
    bench.breaker.succeed()
    assert seen == [True]
    assert not bench.breaker.is_open
    assert bench.admits()


def test_a_threshold_of_0_never_opens():
    """Then every caller finds out for itself."""
    bench = Bench(threshold=0)
    bench.fail(100)
    assert not bench.breaker.is_open
    assert bench.watcher.reports == []


def test_reset_is_closed(bench):
    """The child of a fork begins closed, without a word."""
    bench.fail(3)
    bench.breaker.reset()
    assert not bench.breaker.is_open
    assert bench.watcher.reports == ["no answer"]
