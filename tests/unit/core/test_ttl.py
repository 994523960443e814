"""The lifetime in L1 never exceeds its share of the lifetime in L2."""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachebridge.core.ttl import (
    GONE_MS,
    TtlRule,
    jittered,
    refreshes_early,
    to_milliseconds,
)

RULE = TtlRule(60.0, 0.5)


@pytest.mark.parametrize(
    ("ttl_ms", "lifetime_s"),
    [
        (None, 60.0),
        (-1, 60.0),
        (GONE_MS, 0.0),
        (0, 0.0),
        (1, 0.0005),
        (1000, 0.5),
        (119_999, 59.9995),
        (120_000, 60.0),
        (10**12, 60.0),
    ],
)
def test_half_of_what_is_left_at_most_the_limit(ttl_ms, lifetime_s):
    """Without expiry it is L1_TTL, else the smaller of L1_TTL and half of the rest."""
    assert math.isclose(RULE.l1_lifetime_s(ttl_ms), lifetime_s)


@given(
    st.floats(0.001, 1e6),
    st.floats(0.01, 1.0),
    st.none() | st.integers(-2, 10**12),
)
def test_never_outlives_l2(limit_s, ratio, ttl_ms):
    """I12: whatever the options, L1 keeps no value longer than L2 does."""
    lifetime_s = TtlRule(limit_s, ratio).l1_lifetime_s(ttl_ms)
    assert 0.0 <= lifetime_s <= limit_s
    if ttl_ms is not None and ttl_ms >= 0:
        assert lifetime_s <= ttl_ms / 1000


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [
        (None, None),
        (0, 0),
        (-1, 0),
        (-0.001, 0),
        (0.0001, 1),
        (0.5, 500),
        (1, 1000),
        (True, 1000),
        (1.9999, 1999),
    ],
)
def test_seconds_to_milliseconds(seconds, milliseconds):
    """A positive TTL is at least 1 ms, one that is over is 0, None is none."""
    assert to_milliseconds(seconds) == milliseconds


@pytest.mark.parametrize("wrong", ["60", b"60", [], object(), timedelta(1), 1j])
def test_what_is_no_number_raises(wrong):
    """A TTL that is no number is the caller's error, not a cache without expiry."""
    with pytest.raises(TypeError, match="number of seconds or None") as raised:
        to_milliseconds(wrong)
    assert type(wrong).__name__ in str(raised.value)
    assert ("total_seconds" in str(raised.value)) == isinstance(wrong, timedelta)


@pytest.mark.parametrize("nan", [math.nan, Decimal("NaN"), Decimal("sNaN")])
def test_nan_raises(nan):
    """It is neither over nor not."""
    with pytest.raises(ValueError, match="not NaN"):
        to_milliseconds(nan)


@pytest.mark.parametrize("number", [Decimal("1.5"), Fraction(3, 2)])
def test_every_kind_of_real_number_is_a_ttl(number):
    """Not only those of Python's own types."""
    assert to_milliseconds(number) == 1500


def test_jitter_only_shortens():
    """A TTL loses up to the share, never all, and none if there is no end."""
    assert jittered(1000, 0.5, lambda: 0.0) == 1000
    assert jittered(1000, 0.5, lambda: 0.999) == 500
    assert jittered(1000, 0.0, lambda: 0.999) == 1000
    assert jittered(1, 0.9, lambda: 0.999) == 1
    assert jittered(None, 0.5, lambda: 0.5) is None
    assert jittered(0, 0.5, lambda: 0.5) == 0


def test_early_refresh_is_likelier_near_the_end_and_for_dear_loads():
    """XFetch: at random, by what the load costs and what is left."""
    draws = [number / 1000 for number in range(1000)]

    def share(left_ms, cost_ms, factor=1.0):
        draw = iter(draws).__next__
        return (
            sum(refreshes_early(left_ms, cost_ms, factor, draw) for _ in draws) / 1000
        )

    assert share(0, 50) == 1.0
    assert share(50, 50) == pytest.approx(math.exp(-1), abs=0.01)
    assert share(100, 50) == pytest.approx(math.exp(-2), abs=0.01)
    assert share(100, 50, factor=2.0) == pytest.approx(math.exp(-1), abs=0.01)
    assert share(60_000, 50) == 0.0
    assert share(10, 50, factor=0.0) == share(10, 0) == share(-1, 50) == 0.0
