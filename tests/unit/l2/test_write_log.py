"""When a change failed, by the clock that all writers share."""

from __future__ import annotations

import time

from cachebridge.l2.redis.write_log import TOGETHER_S, instants


def told(began, stalls_s):
    """Return what is said of ``began``, in seconds, if reading both clocks stalls."""

    def ages_s():
        ages = [time.monotonic() - began]
        time.sleep(stalls_s.pop() if stalls_s else 0)
        return ages

    return int(instants(ages_s)[0]) / 1e6


def test_a_thread_that_is_held_up_between_two_clocks():
    """It never names a later instant: others may have written the key meanwhile."""
    began = time.monotonic()
    latest = time.time() + TOGETHER_S  # as the clocks may drift
    assert told(began, [0.05]) <= latest
    assert told(began, [0.05] * 10) <= latest


def test_the_instant_is_right():
    """If nothing interferes it is that of the failure."""
    earliest = time.time() - TOGETHER_S
    began = time.monotonic()
    assert earliest - TOGETHER_S <= told(began, [])
