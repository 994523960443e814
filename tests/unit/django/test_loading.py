"""get_or_load and get_or_set of the backend, and the answers while Redis is away."""

from __future__ import annotations

import threading

import pytest
from django.core.cache import caches
from django.db import connections

from cachebridge import ABSENT, ConfigError
from tests.rig import eventually
from tests.unit.django.support import entry

pytestmark = pytest.mark.every_store


@pytest.fixture
def make(set_caches, place):
    """Return a function that makes the default cache with some options."""

    def made(at=place, **options):
        set_caches(default=entry(at, OPTIONS=options))
        return caches["default"]

    return made


@pytest.fixture
def down(make, place):
    """Return a cache whose server does not answer."""
    return make(place._replace(location=place.nowhere))


def test_get_or_load(make):
    """Version, timeout and default are Django's; ABSENT is no such thing."""
    cache = make(NEGATIVE_TTL=60)
    assert cache.get_or_load("k", lambda: "v", 100, version=7) == "v"
    assert cache.get("k") is None
    assert cache.get("k", version=7) == "v"
    assert cache.get_or_load("none", lambda: ABSENT, default="d") == "d"
    assert cache.get_or_load("none", lambda: 1 / 0, default="d") == "d"
    assert cache.get_or_set("none", lambda: 1 / 0) is None
    assert cache.get_or_set("callable", lambda: "called") == "called"
    assert cache.get_or_set("plain", "value") == "value"
    with pytest.raises(ConfigError, match="stale_ttl"):
        cache.get_or_load("k", lambda: "v", stale_ttl=-1)


@pytest.mark.parametrize("method", ["get_or_load", "get_or_set"])
def test_a_coroutine_function_needs_the_awaited_method(make, method):
    """The error names it, and no warning tells of a coroutine never awaited."""

    async def load_price():
        raise AssertionError("must not run")

    cache = make()
    with pytest.raises(TypeError, match=r"load_price.*aget_or_load or aget_or_set"):
        getattr(cache, method)("k", load_price)
    assert cache.get("k") is None


def test_a_refresh_leaves_no_database_connection_open(make, monkeypatch):
    """The thread that refreshes closes what the loader has opened there."""
    closed = []
    monkeypatch.setattr(
        connections, "close_all", lambda: closed.append(threading.get_ident())
    )
    cache = make(STALE_TTL=60)
    cache.get_or_set("k", lambda: "old", 0.05)
    assert closed == []
    loaded_in = []

    def load():
        loaded_in.append(threading.get_ident())
        return "new"

    def is_over():
        assert cache.get_or_set("k", load, 60) == "old" or loaded_in
        return closed

    eventually(is_over, "closed")
    assert closed == loaded_in
    assert closed != [threading.get_ident()]
    eventually(lambda: cache.get("k") == "new", "refreshed")


def test_the_answers_of_an_outage(down):
    """Each method answers in Django's own terms, and none raises but incr."""
    cache = down
    for _ in range(2):  # before the breaker opens, and after
        assert cache.get("k") is None
        assert cache.get("k", "default") == "default"
        assert cache.get_many(["k", "l"]) == {}
        assert cache.has_key("k") is False
        assert "k" not in cache
        assert cache.set("k", "v") is None
        assert cache.set_many({"k": 1, "l": 2}) == ["k", "l"]
        assert cache.add("new", "v") is False
        assert cache.touch("k") is False
        assert cache.delete("x") is False
        assert cache.delete_many(["x", "y"]) == 0
        assert cache.clear() is False
        assert cache.get_or_set("computed", lambda: "value") == "value"
        for call in (cache.incr, cache.decr):
            with pytest.raises(ValueError, match="away"):
                call("n")
    assert cache.health().breaker_open
    assert cache.stats().degraded > 20


def test_what_was_written_serves_this_process(down):
    """Once the breaker is open, own writes and loads are kept for the outage."""
    cache = down
    while not cache.health().breaker_open:
        cache.get("k")
    cache.set("k", "v")
    assert cache.get("k") == "v"
    assert cache.has_key("k")
    assert cache.get_many(["k"]) == {"k": "v"}
    cache.delete("k")
    assert cache.get("k") is None
    calls = []
    for _ in range(3):
        assert cache.get_or_set("computed", lambda: calls.append(1) or "value")
    assert len(calls) == 1


def test_excluded_keys_are_not_kept(down):
    """Sessions and throttles have no L1: without Redis there is nothing of them."""
    cache = down
    while not cache.health().breaker_open:
        cache.get("k")
    key = "django.contrib.sessions.cache" + "x" * 32
    cache.set(key, {"cart": 1})
    assert cache.get(key) is None
