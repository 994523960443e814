"""Tags while the shared store is away, and when it is back."""

from __future__ import annotations

import pytest

import cachebridge
from cachebridge.errors import L2Error
from cachebridge.testing import FaultProxy
from tests.rig import (
    breaker_of,
    engine_of,
    eventually,
    l1_of,
    l2_of,
    listening,
    lone_cache,
    pending_deletes_of,
)

FAST = {"breaker_retry": 0.05, "bus_heartbeat": 0.05, "socket_connect_timeout": 1.0}


@pytest.fixture
def server(redis_server_factory):
    server = redis_server_factory()
    with FaultProxy(server.host, server.port) as proxy:
        yield proxy


def away(server, cache):
    """Cut the server off, and let the cache find out."""
    server.refuse()
    server.cut()
    eventually(lambda: cache.get("never-set") is None and breaker_of(cache).is_open)


def back(server, cache):
    """Let the server, which has lost nothing, be reached, and the cache find out."""
    server.restore()
    eventually(lambda: cache.set("here", 1, 60))


def test_a_load_in_an_outage_has_its_tags(server):
    """It serves this process until it is invalidated there, or L2 is back."""
    cache = listening(lone_cache(server.url, key_prefix="t:", **FAST))
    cache.set("set", "old", 60, tags=["x"])
    away(server, cache)
    assert cache.get("set") == "old"  # L1 serves it, for OUTAGE_TTL
    numbers = iter(range(100)).__next__

    def load():
        cachebridge.tag("named")
        return numbers()

    for tag in ("x", "named"):
        first = cache.get_or_load("k", load, 60, tags=["x"])
        assert cache.get_or_load("k", load, 60, tags=["x"]) == first
        assert cache.invalidate_tags(tag) is False
        assert cache.get("k") is None
    assert cache.get("set") is None
    assert cache.set("k", "new", 60, tags=["x"]) is False
    assert cache.get("k") == "new"
    cache.invalidate_tags("x")
    assert cache.get("k") is None


def test_an_invalidation_is_made_up_for(server):
    """Before the first read of a value that it concerns; other tags stay valid."""
    cache = listening(lone_cache(server.url, key_prefix="t:", **FAST))
    peer = listening(lone_cache(server.url, key_prefix="t:", **FAST))
    for each in ("x", "y"):
        cache.set(each, "old", 60, tags=[each])
    away(server, cache)
    assert cache.invalidate_tags("x") is False
    assert len(pending_deletes_of(cache)) == 1
    back(server, cache)
    assert cache.get("x") is None
    assert cache.get("y") == "old"
    eventually(lambda: not pending_deletes_of(cache))
    eventually(lambda: peer.get("x") is None and peer.get("y") == "old")
    assert cache.set("x", "new", 60, tags=["x"])
    assert peer.get("x") == "new"


def test_a_read_before_the_invalidation_is_noted(server):
    """It finds the old stamp in L2, which is back; L1 drops its value nevertheless."""
    cache = listening(lone_cache(server.url, key_prefix="t:", **FAST))
    cache.set("k", "old", 60, tags=["x"])
    pending = pending_deletes_of(cache)
    add = pending.add

    def late(*args):
        server.restore()
        eventually(lambda: cache.get("k") == "old" and l1_of(cache).look("t:k"))
        add(*args)

    pending.add = late
    server.refuse()
    server.cut()
    assert cache.invalidate_tags("x") is False
    assert cache.get("k") is None


def test_a_stamp_that_another_process_has_made_meanwhile_goes_as_well(server):
    """Nothing tells whether what was made under it was computed before."""
    cache = listening(lone_cache(server.url, key_prefix="t:", **FAST))
    peer = listening(lone_cache(server.url, key_prefix="t:", **FAST))
    away(server, cache)
    cache.invalidate_tags("x")
    server.restore()
    eventually(lambda: peer.set("x", "theirs", 60, tags=["x"]))
    eventually(lambda: cache.set("here", 1, 60) and not pending_deletes_of(cache))
    eventually(lambda: peer.get("x") is None)


def test_without_fallbacks_everything_raises(server):
    """ON_ERROR="raise": a load with tags does not run its loader."""
    cache = lone_cache(server.url, key_prefix="t:", on_error="raise", **FAST)
    cache.set("k", 1, 60, tags=["x"])
    server.refuse()
    server.cut()
    ran = []
    calls = [
        lambda: cache.invalidate_tags("x"),
        lambda: cache.set("k", 1, 60, tags=["x"]),
        lambda: cache.add("k", 1, 60, tags=["x"]),
        lambda: cache.get_or_load("l", lambda: ran.append(1), 60, tags=["x"]),
    ]
    for call in calls:
        with pytest.raises(L2Error):
            call()
    assert not ran


def test_a_tag_that_cannot_be_read(server):
    """The value goes to its caller, and to no one later."""
    cache = lone_cache(server.url, key_prefix="t:", **FAST)

    def load():
        server.refuse()
        server.cut()
        cachebridge.tag("x")
        return "loaded"

    assert cache.get_or_load("k", load, 60) == "loaded"
    back(server, cache)
    assert l2_of(cache).get("t:k")[0] is None
    assert engine_of(cache).rules.is_idle()
