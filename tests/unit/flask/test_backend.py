"""The methods of the cache, as cachelib means them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import flask
import pytest
import redis
from django.core.cache import caches
from flask_session.cachelib import CacheLibSessionInterface

from cachebridge import ConfigError, UnsupportedOperationError
from cachebridge.core.entry import MISSING
from cachebridge.flask_ext import Cache, CacheBridgeBackend
from tests.rig import Plain, eventually
from tests.stores import ALONE, PEEKS
from tests.unit.django.support import entry, hits_of
from tests.unit.flask.support import at_once

pytestmark = pytest.mark.every_store


@pytest.fixture
def raw(cache):
    """Return the shared level itself, which holds bytes by full keys."""
    return Plain(cache.cache._engine.l2)


def test_zero_is_for_ever_and_less_is_over(cache, raw):
    """A timeout of 0 has no expiry, None is the default, a negative one is over."""
    cache.set("ever", 1, 0)
    cache.set("default", 1)
    cache.set("short", 1, timedelta(seconds=90))
    cache.set("over", 1, -1)
    assert raw.get("flask_cache_ever")[1] == -1
    assert 298_000 < raw.get("flask_cache_default")[1] <= 300_000
    assert 88_000 < raw.get("flask_cache_short")[1] <= 90_000
    assert cache.get_many("ever", "default", "short", "over") == [1, 1, 1, None]


def test_set_without_waiting(place):
    """It is seen at once, and sent before what comes after it; also of NullCache."""
    app = flask.Flask("later")
    cache = Cache(app, config=place.flask_config(WRITE_BEHIND_MS=10_000))
    assert cache.set("k", 1, 60, wait=False) is True
    assert asyncio.run(cache.aset("other", 1, wait=False)) is True
    assert cache.cache._engine.counters.writes_queued == 2
    assert cache.get("k") == 1
    assert cache.cache.inc("other") == 2
    with pytest.raises(TypeError, match="wait must be True or False"):
        cache.set("k", 1, wait="no")
    nothing = {"CACHE_TYPE": "NullCache", "CACHE_NO_NULL_WARNING": True}
    null = Cache(flask.Flask("null"), config=nothing)
    assert null.set("k", 1, wait=False) is True


@pytest.mark.only_on_redis(PEEKS)
def test_add_is_one_step_with_its_timeout(cache, redis_url):
    """The key never exists without its expiry, whenever the process dies."""
    raw = redis.Redis.from_url(redis_url)
    before = raw.info("commandstats")
    assert cache.add("k", 1, 60) is True
    assert cache.add("k", 2, 60) is False
    after = raw.info("commandstats")
    assert after.get("cmdstat_expire") == before.get("cmdstat_expire")
    assert after.get("cmdstat_setnx") == before.get("cmdstat_setnx")
    assert 59_000 < raw.pttl("flask_cache_k") <= 60_000
    raw.close()
    assert sorted(at_once(lambda: cache.add("race", 1, 60))) == [False] * 15 + [True]


def test_shapes_of_answers(cache):
    """Lists, dicts and truths are those of cachelib."""
    assert cache.set("a", 1) is True
    assert cache.set_many({"b": 2, "c": None}) == ["b", "c"]
    assert cache.get_many("a", "b", "c", "none") == [1, 2, None, None]
    assert cache.get_dict("c", "none", "a") == {"c": None, "none": None, "a": 1}
    assert cache.has("c") is True
    assert cache.has("none") is False
    assert cache.delete("a") is True
    assert cache.delete("a") is False
    assert cache.delete_many("b", "none") == ["b", "none"]
    assert cache.unlink("c", "none") == 1
    assert cache.clear() is True


def test_a_look_up_tells_none_from_a_miss(cache):
    """``lookup`` of the backend and ``get_or_load`` know that None is a value."""
    cache.set("none", None)
    assert cache.cache.lookup("none") is None
    assert cache.cache.lookup("nothing") is MISSING
    assert cache.get_or_load("none", lambda: 1 / 0) is None
    assert cache.get_or_load("nothing", lambda: 1, 5) == 1


def test_a_refresh_in_the_background_has_its_app(app, cache):
    """Readers get the stale value at once; the loader runs in the app of the reader."""
    names = []

    def load():
        names.append(flask.current_app.name)
        return len(names)

    with app.app_context():
        assert cache.get_or_load("k", load, 1, stale_ttl=60) == 1

        def is_renewed():
            return cache.get_or_load("k", load, 1, stale_ttl=60) == 2

        eventually(is_renewed, "renewed in the background")
    assert names[:2] == ["scratch", "scratch"]


def test_inc_and_dec_lose_nothing(cache, raw):
    """They are atomic; a number that is not there begins at the delta."""
    backend = cache.cache
    at_once(lambda: [backend.inc("n") for _ in range(25)])
    assert backend.get("n") == 16 * 25
    assert backend.dec("n", 100) == 300
    assert backend.dec("m", 3) == -3
    assert raw.get("flask_cache_n")[1] == -1
    cache.set("timed", 5, 60)
    assert backend.inc("timed", 2) == 7
    assert raw.get("flask_cache_timed")[1] > 0


def test_clear_leaves_other_prefixes_alone(cache, raw):
    """It deletes this cache's keys; a prefix with glob marks stands for itself."""
    raw.store([("foreign", b"x"), ("flask_cacheX", b"x")], None, None)
    cache.set("k", 1)
    cache.clear()
    assert raw.exists("foreign")
    assert raw.exists("flask_cacheX")
    assert cache.get("k") is None


def test_clear_without_a_prefix_is_refused(config):
    """No prefix would mean the whole database; CLEAR_FLUSHES_DB allows it."""
    app = flask.Flask("unprefixed")
    unprefixed = Cache(app, config=config | {"CACHE_KEY_PREFIX": ""})
    unprefixed.set("k", 1)
    with pytest.raises(UnsupportedOperationError, match="CACHE_KEY_PREFIX"):
        unprefixed.clear()
    assert unprefixed.get("k") == 1
    config["CACHE_BRIDGE"] = {
        **config.get("CACHE_BRIDGE", {}),
        "CLEAR_FLUSHES_DB": True,
    }
    allowed = Cache(app, config=config | {"CACHE_KEY_PREFIX": ""})
    assert allowed.clear() is True
    assert allowed.get("k") is None


def test_a_callable_prefix_is_asked_each_time(place):
    """As in cachelib: the current tenant is part of every key."""
    tenant = ["a:"]
    backend = CacheBridgeBackend(
        place.location, key_prefix=lambda: tenant[0], options=place.options
    )
    backend.set("k", 1)
    tenant[0] = "b:"
    assert backend.get("k") is None
    backend.set("k", 2)
    assert all(map(Plain(backend._engine.l2).exists, ("a:k", "b:k")))
    tenant[0] = "a:"
    assert backend.get_many("k") == [1]


def test_the_prefix_of_django_makes_the_same_keys(place, set_caches, app):
    """CACHE_KEY_PREFIX ":1:" is Django's VERSION 1 without a prefix, both ways."""
    set_caches(default=entry(place))
    django_cache = caches["default"]
    app.config["CACHE_KEY_PREFIX"] = ":1:"
    flask_cache = Cache(app)
    flask_cache.set("ours", {"a": 1}, 60)
    django_cache.set("theirs", [1, 2], 60)
    raw = Plain(flask_cache.cache._engine.l2)
    assert all(map(raw.exists, (":1:ours", ":1:theirs")))
    assert django_cache.get("ours") == {"a": 1}
    assert flask_cache.get("theirs") == [1, 2]
    flask_cache.clear()
    assert django_cache.get("theirs") is None


def test_a_read_is_answered_by_l1(cache):
    """The second read of a key is a hit of L1, by every method that reads."""
    cache.set_many({"a": 1, "b": [1]})
    cache.get_many("a", "b")
    assert hits_of(cache, lambda: cache.get("a")) == 1
    assert hits_of(cache, lambda: cache.get_many("a", "b")) == 2
    assert hits_of(cache, lambda: cache.get_dict("a")) == 1


def test_sessions_stay_out_of_l1(app, place):
    """Flask-Session on the backend works, and no session is answered by L1."""
    backend = CacheBridgeBackend(place.location, key_prefix="", options=place.options)
    app.session_interface = CacheLibSessionInterface(app, client=backend)

    @app.route("/visit")
    def visit():
        flask.session["visits"] = flask.session.get("visits", 0) + 1
        return str(flask.session["visits"])

    client = app.test_client()

    def is_trusted():
        backend.get("unknown")
        return backend.stats().trusted

    eventually(is_trusted, "L1 is trusted")
    before = backend.stats().l1_hits
    answers = [client.get("/visit").text for _ in range(4)]
    assert answers == ["1", "2", "3", "4"]
    assert backend.stats().l1_hits == before


def test_what_runs_the_cache_is_in_reach(cache, place):
    """Statistics, health and the switches are methods of the extension."""
    cache.set("k", 1)
    cache.get("k")
    assert cache.health().l2_reachable
    with cache.bypass_l1():
        assert hits_of(cache, lambda: cache.get("k")) == 0
    if place.name == ALONE:
        with pytest.raises(UnsupportedOperationError, match="BUS_LOCATION"):
            cache.l1_off()
        return
    cache.l1_off()
    assert not cache.stats().trusted
    cache.l1_on()


def test_append(cache, raw):
    """By the extension and by its backend, for threads and for tasks."""
    assert cache.append("k", "a", 60) == 1
    assert cache.cache.append("k", "b") == 2
    assert asyncio.run(cache.aappend("k", "c")) == 3
    assert cache.get("k") == "abc"
    assert 55_000 < raw.get("flask_cache_k")[1] <= 60_000
    with pytest.raises(TypeError, match="is a str"):
        cache.append("k", b"d")


def test_append_to_nothing(app):
    """A cache that keeps nothing answers as for a value that does not exist."""
    app.config.update(CACHE_TYPE="NullCache", CACHE_NO_NULL_WARNING=True)
    assert Cache(app).append("k", "abc") == 3


def test_counters(cache):
    """Of the extension and of its backend, one key for both."""
    assert cache.counter("stock").reset(1)
    assert cache.cache.counter("stock").take()
    assert not asyncio.run(cache.counter("stock").atake())
    views = cache.batched_counter("views")
    views.add(3)
    assert cache.cache.batched_counter("views").flush()
    assert views.value() == 3


def test_there_are_no_counters_of_nothing(app):
    """A cache that keeps nothing cannot keep what must not be sold twice."""
    app.config.update(CACHE_TYPE="NullCache", CACHE_NO_NULL_WARNING=True)
    with pytest.raises(ConfigError, match=r"counter\(\).*RedisSentinelCache"):
        Cache(app).counter("stock")
