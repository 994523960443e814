"""django-redis's methods on the backend: its answers, and the L1 of other processes."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.core.cache.backends.base import DEFAULT_TIMEOUT

from cachebridge.django_backend import CacheBridge
from cachebridge.errors import CounterUnavailableError
from cachebridge.testing import FaultProxy
from tests.rig import (
    after_heartbeats,
    each_reaches,
    eventually,
    l2_of,
    listening,
    lone_cache,
    pending_deletes_of,
)
from tests.sides import SIDES, on_side
from tests.stores import MESSAGES, MILLISECONDS, PATTERNS
from tests.unit.django.support import hits_of

pytestmark = pytest.mark.every_store

HOUR_S = 3600


@pytest.fixture(params=SIDES)
def both(request, cache):
    """Return the cache as threads and as tasks use it."""
    return on_side(request.param, cache)


def test_ttl(both):
    """Seconds and milliseconds; None without end, 0 for what does not exist."""
    assert both.ttl("none") == both.pttl("none") == 0
    both.set("k", 1, HOUR_S)
    assert HOUR_S - 60 < both.ttl("k") <= HOUR_S
    assert (HOUR_S - 60) * 1000 < both.pttl("k") <= HOUR_S * 1000
    both.set("k", 1, None)
    assert both.ttl("k") is None
    assert both.pttl("k") is None
    both.set("k", 1, HOUR_S, version=7)
    assert both.ttl("k", version=7) > 0
    both.set("k", 1, 0)
    assert both.ttl("k") == 0


@pytest.mark.only_on_redis(MILLISECONDS)
def test_seconds_are_rounded(cache):
    """As Redis's TTL does."""
    cache.set("k", 1, 1000)
    cache.pexpire("k", 900_900)
    assert cache.ttl("k") == 901


@pytest.mark.parametrize(
    ("change", "most_s"),
    [
        (lambda cache: cache.expire("k", HOUR_S), HOUR_S),
        (lambda cache: cache.expire("k", timedelta(hours=2)), 2 * HOUR_S),
        (lambda cache: cache.expire("k", DEFAULT_TIMEOUT), 300),
        (lambda cache: cache.pexpire("k", HOUR_S * 1000), HOUR_S),
        (lambda cache: cache.pexpire("k", timedelta(hours=2)), 2 * HOUR_S),
        (lambda cache: cache.pexpire("k", DEFAULT_TIMEOUT), 300),
        (lambda cache: cache.expire_at("k", time.time() + HOUR_S), HOUR_S),
        (lambda cache: cache.expire_at("k", _in(HOUR_S)), HOUR_S),
        (lambda cache: cache.expire_at("k", _in(HOUR_S, UTC)), HOUR_S),
        (lambda cache: cache.pexpire_at("k", (time.time() + 60) * 1000), 60),
        (lambda cache: cache.pexpire_at("k", _in(60)), 60),
    ],
)
def test_expire(both, change, most_s):
    """The key gets this TTL, and keeps its value; one that is missing is not made."""
    assert change(both) is False
    both.set("k", "v", None)
    assert change(both) is True
    assert most_s - 50 < both.ttl("k") <= most_s
    assert both.get("k") == "v"
    assert both.persist("k") is True
    assert both.ttl("k") is None
    assert both.persist("none") is False


def _in(seconds, zone=None):
    return datetime.now(zone) + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "end",
    [
        lambda cache: cache.expire("k", 0),
        lambda cache: cache.expire("k", -5),
        lambda cache: cache.pexpire("k", 0),
        lambda cache: cache.expire_at("k", 1),
        lambda cache: cache.expire_at("k", _in(-HOUR_S)),
        lambda cache: cache.pexpire_at("k", _in(-HOUR_S)),
    ],
)
def test_a_time_that_is_past_deletes(both, end):
    """And answers whether there was something to delete."""
    both.set("k", 1)
    assert both.get("k") == 1
    assert end(both) is True
    assert both.get("k") is None
    assert both.ttl("k") == 0
    assert end(both) is False


def test_wrong_times(cache):
    """The error says what is expected."""
    for wrong in ("60", b"60", [60], True):
        with pytest.raises(TypeError, match="number of milliseconds, a timedelta or"):
            cache.pexpire("k", wrong)
        for call in (cache.expire_at, cache.pexpire_at):
            with pytest.raises(TypeError, match="when must be a datetime or a number"):
                call("k", wrong)
    with pytest.raises(TypeError, match="must be a number of seconds or None"):
        cache.expire("k", "60")
    with pytest.raises(TypeError, match="when must be a datetime or a number"):
        cache.expire_at("k", None)


def test_nx(both):
    """As ``add``: only what does not exist is set, and nothing happens to its TTL."""
    assert both.set("k", 1, HOUR_S, nx=True) is True
    assert both.set("k", 2, None, nx=True) is False
    assert both.set("k", 2, -1, nx=True) is False
    assert both.get("k") == 1
    assert both.ttl("k") > 0
    assert both.set("none", 2, -1, nx=True) is True
    assert both.get("none") is None


def test_xx(both):
    """Only what exists is set, with the new TTL; L1 has the new value."""
    assert both.set("k", 1, xx=True) is False
    assert both.get("k") is None
    both.set("k", 1, None)
    assert both.set("k", 2, HOUR_S, xx=True) is True
    assert both.get("k") == 2
    with both.bypass_l1():
        assert both.get("k") == 2
    assert 0 < both.ttl("k") <= HOUR_S
    assert both.set("k", 3, 0, xx=True) is True
    assert both.get("k") is None
    assert both.set("k", 3, 0, xx=True) is False


def test_xx_enters_l1(cache):
    """The value that was set is a hit, unless the echo of an earlier write disturbs."""
    cache.set("k", 1)

    def hits():
        cache.set("k", {"a": 1}, xx=True)
        return hits_of(cache, lambda: cache.get("k")) == 1

    eventually(hits)


def test_conditions_that_make_no_sense(cache):
    """The error says why."""
    with pytest.raises(ValueError, match="nx and xx exclude each other"):
        cache.set("k", 1, nx=True, xx=True)
    for how in ({"nx": True}, {"xx": True}):
        with pytest.raises(ValueError, match="leave out wait"):
            cache.set("k", 1, wait=False, **how)
    assert cache.get("k") is None


def test_incr_of_nothing(both):
    """A number that is missing becomes the delta, if so wanted."""
    with pytest.raises(ValueError, match="k"):
        both.incr("k")
    assert both.incr("k", ignore_key_check=True) == 1
    assert both.incr("k", 10, ignore_key_check=True) == 11
    assert both.incr("k") == 12
    assert both.ttl("k") is None
    both.set("text", "a")
    with pytest.raises(TypeError):
        both.incr("text", ignore_key_check=True)
    for delta in ("1", None):
        with pytest.raises(TypeError, match=r"the delta for '.*new' is no"):
            both.incr("new", delta, ignore_key_check=True)
    assert not both.has_key("new")


@pytest.mark.only_on_redis(MESSAGES)
def test_every_change_reaches_the_other_l1(cache, redis_url):
    """No peer's entry outlives a TTL that became shorter, or has an old value."""
    peer = _peer(redis_url, cache)
    cache.set("k", 1, None)
    peer.get("k")
    assert peer.get("k") == 1
    sent = cache.stats().messages_sent
    for change in (
        lambda: cache.expire("k", HOUR_S),
        lambda: cache.pexpire_at("k", _in(HOUR_S)),
        lambda: cache.persist("k"),
    ):
        change()
    assert cache.stats().messages_sent == sent + 3
    after_heartbeats(peer)
    each_reaches(
        [
            (lambda: cache.set("k", 2, xx=True), 2),
            (lambda: cache.expire("k", 0), None),
            (lambda: cache.incr("k", 5, ignore_key_check=True), 5),
            (lambda: cache.expire_at("k", 1), None),
            (lambda: cache.set("k", 7, nx=True), 7),
        ],
        cache,
        peer,
    )
    assert cache.set("none", 1, xx=True) is False
    assert cache.expire("none", 5) is False


def _peer(url, _cache):
    """Return the same cache, without Django, as in another process."""
    return listening(lone_cache(url, key_prefix=":1:"))


@pytest.mark.only_on_redis(PATTERNS)
def test_xx_in_a_race(cache, redis_url):
    """A caller that deletes meanwhile wins: nothing is made of nothing."""
    l2 = l2_of(cache)
    cache.set("k", 1)
    l2.delete([":1:k"], None)
    assert cache.set("k", 2, xx=True) is False
    assert l2.get(":1:k")[0] is None
    assert cache.get("k") is None


@pytest.mark.only_on_redis(PATTERNS)
def test_while_redis_is_away(shared_server, redis_url):
    """TTLs are those of missing keys; what could not be set is deleted later."""
    with FaultProxy(shared_server.host, shared_server.port) as proxy:
        url = f"{proxy.url[:-1]}{redis_url.rpartition('/')[2]}"
        cache = CacheBridge(url, {"OPTIONS": {"BREAKER_RETRY": 0.1}})
        cache.set_many({"a": 1, "b": 2, "c": 3})
        proxy.refuse()
        proxy.cut()
        assert cache.ttl("a") == cache.pttl("a") == 0
        assert cache.expire("a", HOUR_S) is False
        assert cache.persist("a") is False
        assert cache.set("a", 5, xx=True) is False
        assert cache.set("n", 5, nx=True) is False
        assert cache.expire_at("b", 1) is False
        with pytest.raises(CounterUnavailableError):
            cache.incr("c", ignore_key_check=True)
        assert len(pending_deletes_of(cache)) == 2
        proxy.restore()


def test_awaited_twins_are_all_there(cache):
    """Each method of the API has one, and takes what the method takes."""
    for name in ("ttl", "pttl", "persist", "expire", "pexpire", "expire_at"):
        assert asyncio.iscoroutinefunction(getattr(cache, f"a{name}"))
    assert cache.client is cache
