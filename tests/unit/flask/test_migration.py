"""Processes of Flask-Caching and of ours on one Redis, while one replaces the other."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import flask
import pytest
import redis
from cachelib.serializers import RedisSerializer

from cachebridge.flask_ext import Cache, make_template_fragment_key
from tests.unit.django.support import trusted
from tests.unit.flask.support import Calls

flask_caching = pytest.importorskip(
    "flask_caching", reason="compares with Flask-Caching"
)

VALUES = [None, True, 0, -7, 2**70, 1.5, "", "5", b"5", [1, [2]], {"a": {"b": 1}}, (1,)]


@pytest.fixture
def theirs(config, redis_url):
    """Return Flask-Caching on the same database."""
    address = redis.Redis.from_url(redis_url).connection_pool.connection_kwargs
    app = flask.Flask("theirs")
    app.config.update(
        CACHE_TYPE="RedisCache",
        CACHE_REDIS_HOST=address["host"],
        CACHE_REDIS_PORT=address["port"],
        CACHE_REDIS_DB=address["db"],
    )
    return flask_caching.Cache(app)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_they_have_written_is_read(cache, theirs, value):
    """Every value, in its type, from L2 and from L1."""
    theirs.set("k", value, 60)
    for _ in range(3):
        read = cache.get("k")
        assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_we_write_is_read_by_them(app, theirs, value):
    """With CACHE_SERIALIZER = RedisSerializer, as long as they are there."""
    app.config["CACHE_SERIALIZER"] = RedisSerializer
    cache = trusted(Cache(app))
    cache.set("k", value, 60)
    for read in (theirs.get("k"), cache.get("k"), cache.get("k")):
        assert (type(read), read) == (type(value), value)


def test_values_survive_the_end_of_the_migration(app, config):
    """Without CACHE_SERIALIZER what was written with it is read, and the reverse."""
    before = Cache(app, config={"CACHE_SERIALIZER": RedisSerializer})
    after = Cache(app)
    before.set("k", [1])
    assert after.get("k") == [1]
    after.set("l", [2])
    assert before.get("l") == [2]


def test_memoized_entries_are_the_same(cache, theirs):
    """Keys, versions and values: what they have computed we find, and delete."""
    calls = Calls()

    def f(a, b=2, *, c=3):
        return calls()

    class Shop:
        def __repr__(self):
            return "shop 1"

        def price(self, product):
            return calls()

    f.__qualname__ = "f"  # of a function in a function, the key has its defaults
    old, new = theirs.memoize(60)(f), cache.memoize(60)(f)
    shop = Shop()
    old_price = theirs.memoize(60)(Shop.price)
    new_price = cache.memoize(60)(Shop.price)
    assert old(1) == new(1) == 1
    assert old(1, c=4) == new(1, c=4) == 2
    assert old_price(shop, "x") == new_price(shop, "x") == 3
    cache.delete_memoized(new)
    assert old(1) == 4
    theirs.delete_memoized(old)
    with cache.bypass_l1():
        assert new(1) == 5


def test_pages_are_the_same(app, theirs):
    """Keys of views, with and without a query string, with CACHE_COMPATIBLE_KEYS."""
    cache = trusted(Cache(app, config={"CACHE_COMPATIBLE_KEYS": True}))
    old = theirs.cached(60, query_string=True)(lambda: "old")
    new = cache.cached(60, query_string=True)(lambda: "new")
    with theirs.app.test_request_context("/page?b=2&a=1"):
        old_key = old.make_cache_key()
        assert theirs.cached(60)(old.uncached)() == "old"
    with app.test_request_context("/page?b=2&a=1"):
        assert new.make_cache_key() == old_key
        assert cache.cached(60)(new.uncached)() == "old"


ARGUMENTS = [
    (1, "x"),
    ([1, "x"], (1,), {"a": 1}, b"x", None, 1.5),
    ({"b": 1, "a": {2}},),
    (datetime(2020, 1, 1, tzinfo=UTC), Decimal("1.0"), UUID(int=1)),
    (Path("/x"), type("Own", (), {"__repr__": lambda self: "own"})()),
]


@pytest.mark.parametrize(
    "arguments", ARGUMENTS, ids=lambda given: type(given[0]).__name__
)
def test_memoized_keys_of_any_arguments(app, theirs, arguments):
    """With CACHE_COMPATIBLE_KEYS all that have no address; else the simple ones."""
    cache = trusted(Cache(app, config={"CACHE_COMPATIBLE_KEYS": True}))
    calls = Calls()

    def f(*args, **kwargs):
        return calls()

    old, new = theirs.memoize(60)(f), cache.memoize(60)(f)
    assert old(*arguments) == new(*arguments) == 1
    assert old(x=arguments[0]) == new(x=arguments[0]) == 2
    is_simple = arguments in ARGUMENTS[:2] + ARGUMENTS[3:4]
    cache.compatible_keys = False
    assert (new(*arguments) == 1) is is_simple


def test_fragments_are_the_same(app, theirs):
    """Keys of fragments, with CACHE_COMPATIBLE_KEYS."""
    cache = Cache(app, config={"CACHE_COMPATIBLE_KEYS": True})
    parts = ("a_b?", ["c", "d_%"])
    same = flask_caching.make_template_fragment_key(*parts)
    with app.app_context():
        assert make_template_fragment_key(*parts) == same
    assert make_template_fragment_key(*parts) == same
    cache.compatible_keys = False
    assert make_template_fragment_key(*parts) != same


@pytest.mark.parametrize("raw", [b"Awesome", b"\x80broken", b"", b"!x"], ids=repr)
def test_what_cannot_be_read_is_a_miss(cache, redis_url, raw):
    """Flask-Caching gives such bytes to the caller; ours leaves and counts them."""
    with redis.Redis.from_url(redis_url) as client:
        client.set("flask_cache_k", raw)
        assert cache.get("k") is None
        assert client.get("flask_cache_k") == raw
    assert cache.stats().undecodable


@pytest.mark.parametrize("serializer", [None, RedisSerializer, "their own"])
@pytest.mark.parametrize("keys", ["SIGNING_KEYS", "ENCRYPTION_KEYS"])
def test_sealed_values(app, redis_url, serializer, keys):
    """Whatever the serializer: with keys in CACHE_BRIDGE nothing planted is decoded."""
    kind = Zipped if serializer == "their own" else serializer
    app.config["CACHE_SERIALIZER"] = kind
    app.config["CACHE_KEY_PREFIX"] = "sealed:"
    options = {keys: ["k" * 32], "COMPRESSOR": "zstd", "COMPRESS_MIN_BYTES": 500}
    app.config["CACHE_BRIDGE"] = {**app.config.get("CACHE_BRIDGE", {}), **options}
    cache = trusted(Cache(app))
    for value in ([1, "x" * 1000], ["short"], 7):
        cache.set("k", value, 60)
        assert cache.get("k") == cache.get("k") == value
        with cache.bypass_l1():
            assert cache.get("k") == value
    with redis.Redis.from_url(redis_url) as client:
        planted = (kind or RedisSerializer)().dumps(["planted"])
        client.set("sealed:l", planted)
        assert cache.get("l") is None
        assert client.get("sealed:k")[:1] == b"\xcb"
    assert cache.stats().unverified == 1


class Zipped(RedisSerializer):
    """A serializer of a site's own, whose bytes begin as compressed ones do."""

    def dumps(self, value, *args):
        return zlib.compress(super().dumps(value, *args))

    def loads(self, bvalue):
        return super().loads(zlib.decompress(bvalue))
