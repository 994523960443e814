"""Flask-Caching's MemcachedCache and ours on one Memcached.

None of the clients that cachelib looks for is installed.  It takes any object like
them, and pymemcache's client stores the same items; ``tests/unit/l2/`` has the others'.
"""

from __future__ import annotations

import flask
import pymemcache
import pytest
from pymemcache.serde import pickle_serde

from cachebridge.flask_ext import Cache
from tests.rig import Plain
from tests.stores import ALONE, WITH_BUS, make_place
from tests.unit.django.support import trusted
from tests.unit.flask.support import Calls
from tests.unit.flask.test_migration import VALUES

flask_caching = pytest.importorskip(
    "flask_caching", reason="compares with Flask-Caching"
)


@pytest.fixture(params=[WITH_BUS, ALONE])
def place(request, redis_url):
    """Return an empty Memcached, with messages or without."""
    return make_place(request, request.param, redis_url)


@pytest.fixture
def client_of_theirs(place):
    client = pymemcache.Client(
        place.location.removeprefix("memcached://"),
        serde=pickle_serde,
        allow_unicode_keys=True,
        default_noreply=False,
    )
    yield client
    client.close()


@pytest.fixture
def theirs(client_of_theirs):
    app = flask.Flask("theirs")
    app.config.update(
        CACHE_TYPE="MemcachedCache", CACHE_MEMCACHED_SERVERS=client_of_theirs
    )
    return flask_caching.Cache(app)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_pass_both_ways(cache, theirs, value):
    """Every value, in its type, from L2 and from L1, under the same key."""
    theirs.set("theirs", value, 60)
    cache.set("ours", value, 60)
    for read in (*[cache.get("theirs") for _ in range(3)], theirs.get("ours")):
        assert (type(read), read) == (type(value), value)
    assert cache.has("theirs")
    assert cache.delete("theirs")
    assert theirs.get("theirs") is None


def test_the_prefix_stands_before_every_key(app, cache, theirs, client_of_theirs):
    """As in Flask-Caching; ``clear`` leaves other prefixes alone, theirs does not."""
    other = Cache(app, config={"CACHE_KEY_PREFIX": "other:"})
    cache.set("k", 1)
    other.set("k", 2)
    theirs.set("l", 3)
    assert client_of_theirs.get("flask_cache_k") == 1
    assert client_of_theirs.get("other:k") == 2
    assert cache.get("l") == 3
    cache.clear()
    assert cache.get_many("k", "l") == [None, None]
    assert other.get("k") == 2


def test_timeouts_are_those_of_all_backends(cache):
    """0 is for ever, less is over; longer than a month is no date."""
    raw = Plain(cache.cache._engine.l2)
    cache.set("ever", 1, 0)
    cache.set("year", 1, 365 * 86400)
    cache.set("over", 1, -1)
    assert raw.get("flask_cache_ever")[1] == -1
    year_ms = raw.get("flask_cache_year")[1]
    assert 364 * 86_400_000 < year_ms <= 365 * 86_400_000 + 1000
    assert cache.get_many("ever", "year", "over") == [1, 1, None]


@pytest.mark.parametrize("key", ["k" * 300, "a b", "a!b", "ключ", "", "a\n"], ids=ascii)
def test_every_key_is_one(cache, key):
    """Where cachelib reads None and its clients raise: Memcached could not take it."""
    cache.set(key, 1)
    assert cache.get(key) == 1
    with cache.bypass_l1():
        assert cache.get_many(key, "k") == [1, None]
    assert cache.add(key, 2) is False
    assert cache.delete(key) is True


def test_counting_is_one_step(cache, theirs):
    """Where cachelib reads, adds and sets, and so loses counts."""
    backend = cache.cache
    theirs.set("n", 5)
    assert [backend.inc("n"), backend.dec("n", 10), backend.inc("n", 5)] == [6, -4, 1]
    assert theirs.get("n") == 1
    assert backend.dec("m", 3) == -3


def test_memoized_entries_are_the_same(cache, theirs):
    """Keys, versions and values: what they have computed we find, and delete."""
    calls = Calls()

    def f(a, b=2):
        return calls()

    old, new = theirs.memoize(60)(f), cache.memoize(60)(f)
    assert old(1) == new(1) == 1
    cache.delete_memoized(new)
    assert old(1) == 2
    theirs.delete_memoized(old)
    with cache.bypass_l1():
        assert new(1) == 3


def test_messages_go_by_the_bus(app, place):
    """BUS_LOCATION in CACHE_BRIDGE; without it there is nothing to hear."""
    cache = trusted(Cache(app))
    cache.set("k", 1)
    cache.clear()
    assert cache.health().l2_reachable
    assert cache.stats().messages_sent == (2 if place.name == WITH_BUS else 0)
