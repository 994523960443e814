"""What was cleared is dead, in every process, also if the list of clears is lost."""

from __future__ import annotations

import json

from cachebridge.l2.memcached import clears
from cachebridge.l2.memcached.clears import MAX_PREFIXES, Clears
from cachebridge.l2.memcached.names import CLEARS
from tests.unit.l2.conftest import open_memcached
from tests.unit.l2.test_contract import KeptMessages


def test_another_process_clears(store, server):
    """Every process sees a clear at once, whatever it knew before."""
    other = open_memcached(server.url, KeptMessages())
    for number in range(3):
        store.store([("p:k", b"%d" % number)], None, None)
        other.clear("p:", bytes)
        assert store.get("p:k") == (None, -2)
        store.store([("p:k", b"again"), ("p:l", b"1")], None, None)
        assert other.get_many(["p:k", "p:l"]) == [(b"again", -1), (b"1", -1)]
        other.clear("p:", bytes)
        assert store.add("p:k", b"added", None, None)
        assert other.get("p:k") == (b"added", -1)
        other.clear("q:", bytes)
        assert store.add("p:new", b"1", None, None)
        store.delete(["p:new"], None)


def test_the_list_of_clears_is_lost(store, raw):
    """If the server evicts it, all that may have been cleared is gone, and stays so."""
    keys = [f"p:{number}" for number in range(8)]
    for key in keys:
        store.store([(key, b"1")], None, None)
        store.clear("p:", bytes)
    raw.delete(CLEARS.decode())
    for _ in range(20):
        assert store.get_many(keys) == [(None, -2)] * len(keys)
        store.clear("q:", bytes)
    store.store([("p:k", b"2")], None, None)
    assert store.get("p:k") == (b"2", -1)
    raw.set(CLEARS.decode(), b"spoilt")
    assert store.get("p:k") is not None
    store.store([("p:k", b"3")], None, None)
    assert store.get("p:k") == (b"3", -1)


def test_strangers_live_until_the_first_clear(store, raw):
    """Items without a stamp are read, and are gone with the first clear."""
    raw.set("p:k", b"7", flags=2)
    raw.set("q:k", b"7", flags=2)
    assert store.get_many(["p:k", "q:k"]) == [(b"7", -1)] * 2
    assert store.incr("p:k", 1, None) == 8
    store.clear("p:", bytes)
    assert store.get_many(["p:k", "q:k"]) == [(None, -2), (b"7", -1)]


def test_clears_are_bounded():
    """Of many prefixes the oldest become a clear of everything of their time."""
    known = Clears.begin()
    first = known.latest
    for number in range(MAX_PREFIXES + 10):
        known = known.cleared(f"p{number:04}:")
    assert len(known.prefixes) == MAX_PREFIXES
    assert known.is_dead("anything", first)
    assert known.is_dead("anything", 0)
    assert known.is_dead("p0000:k", first + 1)
    assert not known.is_dead("p0000:k", known.latest)
    assert known.is_dead("anything", known.latest + 1)
    assert len(known.raw) < 2_000
    assert Clears.parse(known.raw) == known


def test_a_clear_covers_what_begins_so():
    """Of nested prefixes the later clear counts, whichever is longer."""
    known = Clears.begin().cleared("a:b:").cleared("a:")
    assert list(known.prefixes) == ["a:"]
    assert known.is_dead("a:b:k", known.latest - 1)
    later = known.cleared("a:b:")
    assert later.is_dead("a:b:k", known.latest)
    assert not later.is_dead("a:c:k", known.latest)
    assert json.loads(later.raw)[2].keys() == {"a:", "a:b:"}


def test_stamps_run_out(store, monkeypatch):
    """Then the server is flushed, and the stamps begin anew."""
    store.store([("p:k", b"1"), ("q:k", b"1")], None, None)
    monkeypatch.setattr(clears, "MAX_STAMP", store._cluster.nodes[0].clears.latest + 1)
    store.clear("p:", bytes)
    assert store.get("q:k") == (b"1", -1)
    store.clear("p:", bytes)
    assert store.get_many(["p:k", "q:k"]) == [(None, -2)] * 2
    store.store([("p:k", b"2")], None, None)
    assert store.get("p:k") == (b"2", -1)
