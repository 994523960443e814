"""Loads under a lease, and what voids them."""

from __future__ import annotations

import pytest

from cachebridge.core.lease import LeaseState, LeaseTerms, LoadedRaw
from cachebridge.errors import L2Error
from cachebridge.l2.memcached.requests import Requests
from cachebridge.testing import memcached_server
from cachebridge.waiting.run import run
from tests.unit.l2.conftest import open_memcached
from tests.unit.l2.test_contract import KeptMessages

MINUTE_MS = 60_000
TERMS = LeaseTerms(MINUTE_MS)


def test_a_load_from_before_a_clear(store):
    """What was loaded before a clear is not stored after it, nor is its absence."""
    for stores in (
        lambda lease: store.store_loaded("p:k", LoadedRaw(b"old", None), lease, None),
        lambda lease: store.store_absent("p:k", MINUTE_MS, lease, None),
    ):
        lease = store.get_or_lease("p:k", b"a", TERMS)
        store.clear("p:", bytes)
        assert not stores(lease).stored
        assert store.get("p:k") == (None, -2)
        again = store.get_or_lease("p:k", b"a", TERMS)
        assert again.state is LeaseState.LEASE
        assert stores(again).stored


def test_a_load_from_before_a_restart(store, server):
    """CAS numbers begin anew with the server: an old one may be another item's."""
    lease = store.get_or_lease("k", b"a", TERMS)
    cas = int(lease.generation.split()[0])
    server.restart()
    store.get("k")
    for _ in range(cas + 5):
        store.store([("k", b"new")], None, None)
        requests = Requests(store._cluster, store._clients)
        item = run(requests._read(requests.place("k")))
        if item.cas == cas:
            break
    else:
        pytest.fail("no item has got the CAS number from before the restart")
    reply = store.store_loaded("k", LoadedRaw(b"old", None), lease, None)
    assert not reply.stored
    assert store.get("k")[0] != b"old"


def test_a_long_lease(store):
    """One of over thirty days is no date in 1970."""
    terms = LeaseTerms(40 * 86_400 * 1000)
    assert store.get_or_lease("k", b"a", terms).state is LeaseState.LEASE
    assert store.get_or_lease("k", b"b", terms).state is LeaseState.BUSY


def look_at_many(store):
    for number in range(100_000):
        store.get_or_lease(f"cold{number}", b"a", TERMS)


def test_no_room_to_load():
    """A server that is full, and evicts nothing, is told so at once."""
    with memcached_server(args=("-M", "-m", "2")) as full:
        store = open_memcached(full.url, KeptMessages())
        large, small = b"x" * 100_000, b"x" * 10
        for raw in (large, small):
            number = 0
            while not store.store([(f"k{len(raw)}:{number}", raw)], None, None):
                number += 1
        with pytest.raises(L2Error, match="no room to load"):
            look_at_many(store)
        store.close()
