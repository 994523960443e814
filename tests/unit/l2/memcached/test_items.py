"""What an item holds: TTLs in whole seconds, numbers, values of other writers."""

from __future__ import annotations

import pytest

from cachebridge.l2.memcached.protocol import MONTH_S

MINUTE_MS = 60_000


@pytest.mark.parametrize("seconds", [MONTH_S, MONTH_S + 1, 5 * 365 * 24 * 3600])
def test_long_ttls(store, seconds):
    """A TTL of over thirty days is no date in 1970."""
    store.store([("k", b"1")], seconds * 1000, None)
    _, ttl_ms = store.get("k")
    assert abs(ttl_ms / 1000 - seconds) <= 2
    assert store.touch("k", MINUTE_MS, None)
    assert store.touch("k", seconds * 1000, None)
    assert abs(store.get("k")[1] / 1000 - seconds) <= 2


def test_ttls_are_rounded_up(store):
    """Less than a second is no reason to store nothing, or for ever."""
    store.store([("k", b"1"), ("l", b"1")], [1001, 2000], None)
    assert [ttl_ms for _, ttl_ms in store.get_many(["k", "l"])] == [2000, 2000]


def test_ttls_beyond_2038(store):
    """What is to live longer than 32 bits can say has no expiry."""
    for seconds in (15 * 365 * 86_400, 500 * 365 * 86_400):
        store.store([("k", b"1")], seconds * 1000, None)
        assert store.get("k") == (b"1", -1)
        assert store.touch("k", seconds * 1000, None)
        assert store.get("k") == (b"1", -1)


@pytest.mark.parametrize(
    ("flags", "block"),
    [(8, b"not zlib"), (16, b"\xff\xfe"), (32, b"x"), (128, b"x"), (256, b"x")],
)
def test_items_of_strangers(store, raw, flags, block):
    """What cannot be read is bytes that no serializer reads; nothing is raised."""
    raw.set("k", block, flags=flags)
    found, ttl_ms = store.get("k")
    assert found is not None
    assert ttl_ms == -1
    assert store.exists("k")
    assert store.incr("k", 1, None) == "not an integer"
    assert store.replace("k", found, None, None)
    assert store.get("k") == (None, -2)


@pytest.mark.parametrize("raw_value", [b"18446744073709551615", b"12\0abc"])
def test_what_is_no_number_for_us(store, raw, raw_value):
    """Memcached would count it, and spoil it."""
    store.store([("k", raw_value)], None, None)
    assert store.incr("k", 1, None) == "not an integer"
    assert store.get("k")[0] == raw_value
    if raw_value.isdigit():
        raw.set("k", raw_value, flags=2)
        assert store.incr("k", 2, None) == "not an integer"
        assert store.get("k")[0] == raw_value


def test_digits_without_end(store):
    """No reader takes them for a number, and no call fails."""
    digits = b"7" * 10_000
    store.store([("k", digits)], None, None)
    assert store.incr("k", 1, None) == "not an integer"
    assert store.incr("k", -1, None) == "not an integer"
    assert store.get("k") == (digits, -1)
