"""Keys by pattern: of the plain cache over every store, and with peers and outages."""

from __future__ import annotations

import pytest
import redis

from cachebridge import L2UnavailableError, UnsupportedOperationError
from cachebridge.core.lease import LeaseTerms
from cachebridge.testing import FaultProxy
from tests.rig import (
    engine_of,
    eventually,
    l1_of,
    l2_of,
    listening,
    lone_cache,
    pending_deletes_of,
)
from tests.sides import SIDES, on_loop, on_side
from tests.stores import MESSAGES, PATTERNS

pytestmark = pytest.mark.every_store

KEYS = ["product:1", "product:2", "product:12", "page:1", "p*", "p*x"]


@pytest.fixture
def plain(place):
    """Return a cache on each kind of shared level, whose prefix looks like a glob."""
    return place.open("app*:")


@pytest.fixture(params=SIDES)
def cache(request, plain):
    """Return it as threads and as tasks use it."""
    return on_side(request.param, plain)


@pytest.fixture
def neighbour(place, cache):
    """Return a cache whose prefix the other's, taken for a glob, would match."""
    neighbour = place.open("apple:")
    for each in (cache, neighbour):
        each.set_many(dict.fromkeys(KEYS, "v"))
    return neighbour


@pytest.fixture
def cache_behind(shared_server, redis_url):
    """Return a function that makes a cache behind a proxy of its own."""
    database = redis_url.rpartition("/")[2]
    with FaultProxy(shared_server.host, shared_server.port) as proxy:

        def make(**options):
            options = {"key_prefix": "p:", "breaker_retry": 0.1, **options}
            return lone_cache(f"{proxy.url[:-1]}{database}", **options), proxy

        yield make


async def _all_of(iterator):
    return [each async for each in iterator]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", KEYS),
        ("product:*", ["product:1", "product:2", "product:12"]),
        ("product:?", ["product:1", "product:2"]),
        ("*:1", ["product:1", "page:1"]),
        ("*:[^1]", ["product:2"]),
        (r"p\*", ["p*"]),
        ("product:1", ["product:1"]),
        ("1", []),
        ("app*:*", []),
    ],
)
def test_a_pattern_is_for_the_callers_part(  # noqa: PLR0917 all are needed
    place, plain, cache, neighbour, pattern, found
):
    """The prefix stands for itself, and a neighbour keeps its values."""
    if place.is_memcached:
        for call in (cache.keys, cache.delete_pattern):
            with pytest.raises(UnsupportedOperationError, match=r"list keys.*tags=\["):
                call(pattern)
        return
    assert sorted(cache.keys(pattern)) == sorted(found)
    assert sorted(plain.iter_keys(pattern, itersize=2)) == sorted(found)
    assert sorted(on_loop(_all_of, plain.aiter_keys(pattern, 2))) == sorted(found)
    assert cache.delete_pattern(pattern, itersize=3) == len(found)
    rest = dict.fromkeys(set(KEYS).difference(found), "v")
    assert cache.get_many(KEYS) == rest
    with cache.bypass_l1():
        assert cache.get_many(KEYS) == rest
    assert cache.delete_pattern(pattern) == 0
    assert neighbour.get_many(KEYS) == dict.fromkeys(KEYS, "v")


def test_clear_with_a_prefix(cache, neighbour):
    """It works everywhere, and glob characters stand for themselves."""
    assert cache.clear(prefix="p*") is True
    assert sorted(cache.get_many(KEYS)) == sorted(KEYS[:4])
    assert cache.clear(prefix="product:1") is True
    assert sorted(cache.get_many(KEYS)) == ["page:1", "product:2"]
    assert cache.clear(prefix="") is True
    assert cache.get_many(KEYS) == {}
    assert neighbour.get_many(KEYS) == dict.fromkeys(KEYS, "v")


def test_bad_input(cache):
    """The error names what is wrong, and nothing was asked."""
    for wrong in (None, 7, b"product:*", ["product:*"]):
        with pytest.raises(TypeError, match="a pattern must be a str such as"):
            cache.delete_pattern(wrong)
        with pytest.raises(TypeError, match="a pattern must be a str such as"):
            cache.keys(wrong)
    with pytest.raises(TypeError, match="prefix must be a str such as 'product:'"):
        cache.clear(prefix=7)
    with pytest.raises(ValueError, match="write '\\*' for all keys"):
        cache.delete_pattern("")
    for wrong in (0, -1, None, 1.5, True):
        with pytest.raises(ValueError, match="itersize must be an int of at least 1"):
            cache.delete_pattern("k*", itersize=wrong)


def test_a_pattern_for_the_whole_database(place):
    """It needs the same option as ``clear()``, whichever way it is written."""
    plain = place.open("")
    plain.set("k", 1)
    if not place.is_memcached:
        assert plain.keys("*") == ["k"]
    for pattern in () if place.is_memcached else ("*", "**", "?*", "*?"):
        with pytest.raises(UnsupportedOperationError, match="set CLEAR_FLUSHES_DB"):
            plain.delete_pattern(pattern)
    with pytest.raises(UnsupportedOperationError, match="set CLEAR_FLUSHES_DB"):
        plain.clear(prefix="")
    assert plain.get("k") == 1
    if not place.is_memcached:
        flushing = lone_cache(place.location, clear_flushes_db=True, **place.options)
        assert flushing.delete_pattern("*") == 1


@pytest.mark.only_on_redis(PATTERNS)
def test_keys_have_values(plain):
    """A key that only has a load record is not listed; its record is deleted."""
    l2 = l2_of(plain)
    lease = l2.get_or_lease("app*:k", b"token", LeaseTerms(60_000))
    assert l2.scan("app\\*:*", 0)[1] == ["app*:k"]
    assert plain.keys() == []
    assert plain.delete_pattern("k*") == 0
    assert l2.scan("app\\*:*", 0)[1] == []
    assert not l2.release("app*:k", lease, 0, None)


@pytest.mark.only_on_redis(PATTERNS)
def test_own_keys_are_not_listed(plain, place):
    """What cachebridge keeps for itself is no caller's key, whatever the prefix."""
    plain.set("k", 1)
    everything = lone_cache(place.location)
    assert everything.keys() == ["app*:k"]


@pytest.mark.only_on_redis(PATTERNS)
def test_tags_are_no_keys(plain):
    """They are neither listed nor counted, and what does not match keeps its own."""
    plain.set_many({"product:1": 1, "other": 2}, 60, tags=["product:1"])
    assert plain.keys("*product*") == list(plain.iter_keys("*product*"))
    assert plain.keys("*product*") == ["product:1"]
    assert plain.delete_pattern("*product*") == 1
    plain.set("product:1", 3, 60)
    engine_of(plain).rules.flush("clear")
    assert plain.get_many(["product:1", "other"]) == {"product:1": 3, "other": 2}
    plain.invalidate_tags("product:1")
    assert plain.get_many(["product:1", "other"]) == {"product:1": 3}


@pytest.mark.only_on_redis(PATTERNS)
def test_keys_of_all_kinds(plain, place):
    """Keys past L1, counters, and keys too long for a message are deleted as well."""
    mixed = lone_cache(place.location, key_prefix="m:", l1_exclude=["direct"])
    mixed.set("direct", 1)
    mixed.set("k" * 70_000, 1)
    mixed.counter("c").give(3)
    mixed.set("plain", 1)
    assert mixed.clear() is True
    assert mixed.keys() == []
    mixed.set("direct", 1)
    mixed.set("k" * 70_000, 1)
    mixed.counter("c").give(3)
    mixed.set("plain", 1)
    assert len(mixed.keys()) == 4
    assert mixed.delete_pattern("*") == 4
    assert mixed.keys() == []


@pytest.mark.only_on_redis(MESSAGES)
def test_peers_follow(plain, place):
    """So they do for keys that L2 has evicted, but other prefixes stay in their L1."""
    peer = listening(lone_cache(place.location, key_prefix="app*:"))
    peer.set_many({"product:1": 1, "product:2": 2, "page:1": 3})
    with redis.Redis.from_url(place.location) as client:
        client.delete("app*:product:2")
    assert peer.get("product:2") == 2
    assert plain.delete_pattern("product:[0-9]") == 1
    eventually(lambda: len(l1_of(peer)) == 1)
    assert peer.get_many(["product:1", "product:2", "page:1"]) == {"page:1": 3}


@pytest.mark.only_on_redis(PATTERNS)
def test_while_the_store_is_away(place, cache_behind):
    """Nothing is listed, and a delete is owed until the next read of such a key."""
    cache, proxy = cache_behind(on_error="degrade")
    cache.set_many({"product:1": 1, "product:2": 2, "page:1": 3})
    proxy.refuse()
    proxy.cut()
    assert cache.keys() == []
    assert list(cache.iter_keys()) == []
    assert cache.delete_pattern("product:*1") == 0
    assert cache.clear(prefix="page:") is False
    assert len(pending_deletes_of(cache)) == 2
    proxy.restore()
    eventually(lambda: cache.get_many(KEYS) == {"product:2": 2})
    assert not pending_deletes_of(cache)


@pytest.mark.only_on_redis(PATTERNS)
def test_a_server_that_is_left(plain):
    """A listing begins anew if that is before its end, and then comes to one."""
    plain.set_many({f"k{number}": 1 for number in range(100)})
    engine = engine_of(plain)
    listing = plain.iter_keys(itersize=1)
    seen = {next(listing)}
    engine.departures += 1
    assert seen | set(listing) == set(plain.keys())


@pytest.mark.only_on_redis(PATTERNS)
def test_errors_come_out_if_so_wanted(cache_behind):
    """With ON_ERROR="raise" nothing is owed."""
    cache, proxy = cache_behind(on_error="raise")
    proxy.refuse()
    proxy.cut()
    for call in (cache.keys, cache.delete_pattern, lambda p: list(cache.iter_keys(p))):
        with pytest.raises(L2UnavailableError):
            call("product:*")
    assert not pending_deletes_of(cache)


@pytest.mark.only_on_redis(PATTERNS)
def test_queued_values_come_first(plain):
    """A value that waits to be sent is deleted by a pattern that it matches."""
    plain.set("product:1", 1, wait=False)
    plain.set("page:1", 2, wait=False)
    assert plain.delete_pattern("product:*") == 1
    assert plain.keys() == ["page:1"]
    assert plain.get_many(KEYS) == {"page:1": 2}
