"""Single commands: limits, counting, and changes that meet others."""

from __future__ import annotations

import threading

import pytest

from cachebridge.core.lease import LeaseState, LeaseTerms, LoadedRaw
from cachebridge.errors import L2Error
from tests.rig import eventually

MINUTE_MS = 60_000
TERMS = LeaseTerms(MINUTE_MS)


def test_too_large(store, raw):
    """What the server has no room for stays out, with its old value; others come in."""
    huge = b"x" * (1 << 20)
    store.store([("k", b"old"), ("l", b"old")], None, None)
    refused = store.store([("k", huge), ("l", b"new")], None, None)
    assert refused == ["k"]
    assert store.get_many(["k", "l"]) == [(None, -2), (b"new", -1)]
    assert raw.get("k") is None
    assert store.add("k", huge, None, None) is False
    assert store.get("k") == (None, -2)
    with pytest.raises(L2Error, match="no room for 'l'"):
        store.replace("l", b"new", huge, None)
    lease = store.get_or_lease("m", b"a", TERMS)
    assert not store.store_loaded("m", LoadedRaw(huge, None), lease, None).stored
    assert store.get_or_lease("m", b"b", TERMS).state is LeaseState.LEASE


def test_counting_keeps_the_ttl(store):
    """Whatever the server counts itself keeps its TTL exactly, both ways."""
    store.store([("k", b"10")], 5 * MINUTE_MS, None)
    eventually(lambda: store.get("k")[1] < 5 * MINUTE_MS)
    for delta in (5, -3, 0, -12):
        store.incr("k", delta, None)
    raw, ttl_ms = store.get("k")
    assert raw == b"0"
    assert ttl_ms < 5 * MINUTE_MS


def test_subtracting_races(store):
    """Subtractions at the same time never go below zero, and none is lost."""
    store.store([("k", b"100")], None, None)
    answers = []

    def subtract():
        answers.extend([store.incr("k", -1, None) for _ in range(30)])

    threads = [threading.Thread(target=subtract) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each for each in answers if type(each) is int) == list(range(100))
    assert answers.count("not an integer") == 20
    assert store.get("k")[0] == b"0"


def test_round_trips(store, monkeypatch):
    """A hit costs one, a cold load one more than without a lease."""
    store.get("k")  # learns what has been cleared
    store.get("k")
    client, asked = store._cluster.nodes[0].client, []
    send = client.run
    monkeypatch.setattr(client, "run", lambda *args: asked.append(1) or send(*args))

    def count_of(call):
        asked.clear()
        call()
        return len(asked)

    assert count_of(lambda: store.get("k")) == 1
    assert count_of(lambda: store.store([("k", b"1")], None, None)) == 1
    assert count_of(lambda: store.get_many([f"k{n}" for n in range(100)])) == 1
    assert count_of(lambda: store.get_or_lease("k", b"a", TERMS)) == 1
    assert count_of(lambda: store.incr("k", 1, None)) == 1
    assert count_of(lambda: store.delete(["k"], None)) == 1
    assert count_of(lambda: store.add("k", b"1", None, None)) == 1
    looks = []
    assert count_of(lambda: looks.append(store.get_or_lease("cold", b"a", TERMS))) == 2
    loaded = LoadedRaw(b"1", None)
    stores = count_of(lambda: store.store_loaded("cold", loaded, looks[0], None))
    assert stores == 1


def test_an_increment_that_meets_an_add(store, monkeypatch):
    """What was counted is told, though the key was not there a moment before."""
    node = store._cluster.nodes[0]
    store.get("k")
    send = node.client.run

    async def send_late(request, read):
        if b"ma k " in request.packed:
            monkeypatch.setattr(node.client, "run", send)
            look, count = request.packed.split(b"ma k ")
            first = request._replace(packed=look, replies=request.replies - 1)
            before = await send(first, read)
            assert store.add("k", b"10", None, None)
            second = request._replace(packed=b"ma k " + count, replies=1)
            return before + await send(second, read)
        return await send(request, read)

    monkeypatch.setattr(node.client, "run", send_late)
    assert store.incr("k", 1, b"message") == 11
    assert store._outbox.kept[-1] == b"message"


def test_an_increment_of_what_was_cleared(store, monkeypatch):
    """It counts on from the value that comes, not from the one that is dead."""
    store.store([("k", b"10")], None, None)
    store.clear("k", lambda: b"cleared")
    node = store._cluster.nodes[0]
    send = node.client.run

    async def send_early(request, read):
        replies = await send(request, read)
        if b"ma k " in request.packed:
            monkeypatch.setattr(node.client, "run", send)
            assert store.add("k", b"50", None, None)
        return replies

    monkeypatch.setattr(node.client, "run", send_early)
    assert store.incr("k", 1, None) == 51
    assert store.get("k")[0] == b"51"
    store.clear("k", lambda: b"cleared")
    assert store.incr("k", 1, None) is None


def test_a_mark_is_not_touched(store, raw, monkeypatch):
    """One that comes between look and touch does not live on for ever."""
    store.store([("k", b"1")], None, None)
    node = store._cluster.nodes[0]
    send = node.client.run

    async def send_late(request, read):
        if b"touch k" in request.packed:
            monkeypatch.setattr(node.client, "run", send)
            store.delete(["k"], None)
            lease = store.get_or_lease("k", b"a", TERMS)
            store.store_absent("k", MINUTE_MS, lease, None)
        return await send(request, read)

    monkeypatch.setattr(node.client, "run", send_late)
    store.touch("k", None, None)
    assert store.get_or_lease("k", b"b", TERMS).ttl_ms != -1


@pytest.mark.parametrize("key", ["k", "a key with spaces"])
def test_a_new_ttl_of_a_value_that_leaves_a_copy(store, key):
    """It holds, however much longer the copy was to be kept."""
    lease = store.get_or_lease(key, b"a", TERMS)
    loaded = LoadedRaw(b"1", MINUTE_MS, keep_ms=10 * MINUTE_MS)
    assert store.store_loaded(key, loaded, lease, None).stored
    assert store.touch(key, 2 * MINUTE_MS, None)
    raw, ttl_ms = store.get(key)
    assert raw == b"1"
    assert MINUTE_MS < ttl_ms <= 2 * MINUTE_MS
