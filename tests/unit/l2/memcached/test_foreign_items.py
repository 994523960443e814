"""Items of Memcached that other clients have written: read, or seen to be unreadable.

The flags and bytes are what python-memcached 1.62, pylibmc 1.6.3 and libmc 1.4.17 have
stored for the values beside them; pymemcache is asked itself in
``tests/unit/django/test_memcached.py``.
"""

from __future__ import annotations

import zlib

import pytest

from cachebridge.codec.decoding import UndecodableError
from cachebridge.codec.values import SERIALIZERS
from cachebridge.l2.memcached import protocol
from cachebridge.waiting.run import run
from tests.unit.l2.conftest import open_memcached
from tests.unit.l2.test_contract import KeptMessages

PICKLE, JSON = SERIALIZERS["pickle"], SERIALIZERS["json"]
READABLE = {
    "python-memcached: None": (1, b"N.", None),
    "python-memcached: True": (1, b"I01\n.", True),
    "python-memcached: 7": (2, b"7", 7),
    "python-memcached: float": (1, b"F1.5\n.", 1.5),
    "python-memcached: text": (16, "жx".encode(), "жx"),
    "python-memcached: digits": (16, b"1", "1"),
    "python-memcached: bytes": (0, b"5", b"5"),
    "python-memcached: list": (1, b"(lp0\nI1\na(lp1\nI2\naa.", [1, [2]]),
    "python-memcached: tuple": (1, b"(I1\nI2\ntp0\n.", (1, 2)),
    "pylibmc: None": (1, b"\x80\x05N.", None),
    "pylibmc: True": (2, b"1", 1),  # what it calls a bool is an int for all others
    "pylibmc: -7": (4, b"-7", -7),
    "pylibmc: 2**70": (4, b"1180591620717411303424", 2**70),
    "pylibmc: text": (16, "жx".encode(), "жx"),
    "pylibmc: long text": (24, zlib.compress(b"x" * 5000), "x" * 5000),
    "pylibmc: long bytes": (8, zlib.compress(b"y" * 5000), b"y" * 5000),
    "pylibmc: list": (1, b"\x80\x05]\x94(K\x01]\x94K\x02ae.", [1, [2]]),
    "libmc: 7": (4, b"7", 7),
    "digits that have grown fewer": (2, b"9 ", 9),
}
UNREADABLE = {
    "libmc: True": (8, b"1"),
    "libmc: None": (32, b"N"),
    "libmc: text": (32, b"u\x03\x00\x00\x00\xd0\xb6x"),
    "libmc: long text": (48, zlib.compress(b"u\x88\x13\x00\x00")),
    "libmc: long bytes": (16, zlib.compress(b"y" * 5000)),
    "with a header of ours": (1 << 5, b""),
    "a copy of ours": (3 << 5, b"x" * 12),
    "a mark of ours": (1 << 7, b"N."),
    "no text": (16, b"\xff"),
    "not compressed": (24, b"text"),
}


@pytest.fixture
def store(roomy_memcacheds):
    store = open_memcached(roomy_memcacheds[0].url, KeptMessages())
    store.flush_db(b"")
    return store


@pytest.fixture
def write(store):
    """Return a function that stores an item as another client does."""

    def put(key, flags, block):
        (node,) = store._cluster.nodes
        command = protocol.put(b"set", key.encode(), flags, 60, block)
        (reply,) = run(node.client.run(protocol.Request(command, 1), list))
        assert reply.words == [b"STORED"]

    return put


@pytest.mark.parametrize(
    ("flags", "block", "value"), READABLE.values(), ids=list(READABLE)
)
def test_what_others_have_written_is_read(store, write, flags, block, value):
    """As our serializer reads it, in type and content."""
    write("k", flags, block)
    raw, ttl_ms = store.get("k")
    read = PICKLE.decode(raw)
    assert (type(read), read) == (type(value), value)
    assert 0 < ttl_ms <= 60_000
    ((again, left_ms),) = store.get_many(["k"])
    assert again == raw
    assert 0 < left_ms <= ttl_ms  # a second may have passed
    assert not store.add("k", b"x", None, None)


@pytest.mark.parametrize(("flags", "block"), UNREADABLE.values(), ids=list(UNREADABLE))
def test_what_cannot_be_told_is_there_and_undecodable(store, write, flags, block):
    """A foreign client's lock stays one; the engine deletes what it cannot decode."""
    write("k", flags, block)
    assert store.exists("k")
    assert not store.add("k", b"x", None, None)
    raw, _ = store.get("k")
    for serializer in (PICKLE, JSON):
        with pytest.raises(UndecodableError):
            serializer.decode(raw)
    assert store.replace("k", raw, None, None)
    assert not store.exists("k")
