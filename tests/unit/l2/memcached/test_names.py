"""Names of keys: no key reaches the server as anything but a name."""

from __future__ import annotations

import pytest

from cachebridge.core.lease import LeaseTerms, LoadedRaw
from cachebridge.l2.memcached.names import BEGAN, CLEARS, MAX_BYTES, name_of

MINUTE_MS = 60_000
TERMS = LeaseTerms(MINUTE_MS)
HOSTILE = (
    "x\r\nflush_all\r\n",
    "x\r\ndelete canary\r\n",
    "nul\0byte",
    "with space",
    "\t",
    "",
    "é" * 126,  # 252 bytes
    "k" * 251,
    "lone \ud800 surrogate",
    "\x7f",
    BEGAN.decode(),
    CLEARS.decode(),
    "cachebridge-key:" + "0" * 64,
    "x" * 100_000,
)


@pytest.mark.parametrize("prefix", ["", "p:"])
@pytest.mark.parametrize("key", HOSTILE, ids=lambda key: ascii(key[:14]))
def test_hostile_keys(store, raw, key, prefix):
    """No key, and no prefix, reaches the server as anything but a name."""
    raw.set("canary", b"alive")
    for full_key in (prefix + key, key + prefix):
        store.store([(full_key, b"1")], MINUTE_MS, None)
        assert store.get(full_key)[0] == b"1"
        assert store.incr(full_key, 1, None) in {2, "not an integer"}
        assert store.delete([full_key], None) == 1
        assert store.add(full_key, b"2", None, None)
        lease = store.get_or_lease(full_key + "2", b"token \r\n", TERMS)
        assert store.store_loaded(
            full_key + "2", LoadedRaw(b"3", MINUTE_MS), lease, None
        ).stored
        reads = store.get_many([full_key, full_key + "2"])
        assert reads == [(b"2", -1), (b"3", MINUTE_MS)]
        store.clear(full_key, bytes)
        assert store.get(full_key) == (None, -2)
    assert raw.get("canary") == b"alive"
    assert store.get(CLEARS.decode()) == (None, -2)


def test_names_are_the_keys_where_they_can_be():
    """Other clients find what we store; 250 bytes are a name, 251 are not."""
    for key in ("k", ":1:key", "é", "x" * MAX_BYTES, "\U0001f600" * 62):
        assert name_of(key) == (key.encode(), False)
    for key in HOSTILE:
        name, is_hashed = name_of(key)
        assert is_hashed
        assert len(name) <= MAX_BYTES
        assert name.isascii()
        assert name.decode().isprintable()
        assert b" " not in name


def test_a_hash_is_not_taken_for_a_key(store, raw):
    """Under a hashed name only the very key's value is read."""
    store.store([("a b", b"1")], None, None)
    name, _ = name_of("a b")
    block = raw.get(name.decode())
    other, _ = name_of("c d")
    flags = int(raw.raw_command(b"mg " + name + b" f").split()[1][1:])
    raw.set(other.decode(), block, flags=flags)
    assert store.get("a b") == (b"1", -1)
    assert store.get("c d") == (None, -2)
    raw.set(other.decode(), b"foreign")
    assert store.get("c d") == (None, -2)
    assert not store.exists("c d")
    assert store.add("c d", b"2", None, None)
    assert store.get("c d") == (b"2", -1)
