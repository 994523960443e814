"""``append`` and ``cache[key]`` of the plain cache, over every store."""

from __future__ import annotations

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from cachebridge import EntryNotFoundError
from cachebridge.engine.parts.adding import MOST_APPENDED
from tests.rig import eventually, l2_of, listening, lone_cache
from tests.sides import SIDES, on_side
from tests.stores import FORMAT, MESSAGES

pytestmark = pytest.mark.every_store


@pytest.fixture
def plain(place):
    """Return a cache on each kind of shared level."""
    return place.open("append:")


@pytest.fixture(params=SIDES)
def cache(request, plain):
    """Return it as threads and as tasks use it."""
    return on_side(request.param, plain)


@pytest.mark.parametrize(
    ("one", "two", "three"), [("a", "bé", "\ud800c"), (b"a", b"b\xff", b"c")]
)
def test_append(cache, one, two, three):
    """A missing value is made; the new length is returned, the TTL stays."""
    assert cache.append("k", one, 60) == 1
    assert cache.append("k", two, 999) == 3
    assert cache.append("k", three) == len(one + two + three)
    value = cache.get("k")
    assert value == one + two + three
    assert type(value) is type(one)
    with cache.bypass_l1():
        assert cache.get("k") == one + two + three
    assert 55_000 < l2_of(cache).get("append:k")[1] <= 60_000


def test_append_nothing(cache):
    """An empty text makes an empty value, and leaves a present one as it is."""
    assert cache.append("k", "") == 0
    assert cache.get("k") == ""
    assert cache.append("k", "12") == 2
    assert cache.append("k", "") == 2
    assert cache.get("k") == "12"


def test_append_to_something_else(cache):
    """The error names key and types, and nothing has changed."""
    for value, data in ((7, "a"), ("a", b"b"), (b"a", "b"), (None, "a"), (["a"], "b")):
        cache.set("k", value)
        with pytest.raises(TypeError, match=r"append:k' is a .* can be appended to"):
            cache.append("k", data)
        assert cache.get("k") == value
    for data in (7, None, bytearray(b"a"), ["a"]):
        with pytest.raises(TypeError, match="data must be a str or bytes, not"):
            cache.append("other", data)
    assert "other" not in cache


def test_append_is_bounded(cache):
    """A value that would be too long stays what it was."""
    cache.set("k", "a" * (MOST_APPENDED - 1))
    with pytest.raises(
        ValueError, match="length of 1,000,001: append makes none above"
    ):
        cache.append("k", "bc")
    assert cache.append("k", "b") == MOST_APPENDED
    with pytest.raises(ValueError, match="length of 1,000,001"):
        cache.append("other", "a" * (MOST_APPENDED + 1))


def test_append_is_atomic(cache):
    """Threads that append at the same time lose nothing, the first ones included."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            lengths = list(pool.map(lambda _n: cache.append("k", "x"), range(64)))
    finally:
        sys.setswitchinterval(interval)
    assert sorted(lengths) == list(range(1, 65))
    assert cache.get("k") == "x" * 64


def test_the_json_serializer(place):
    """Texts work; for bytes it says that it cannot write them."""
    cache = lone_cache(
        place.location, key_prefix="json:", serializer="json", **place.options
    )
    assert cache.append("k", "é") == 1
    assert cache.append("k", '"') == 2
    assert cache.get("k") == 'é"'
    with pytest.raises(TypeError, match="cannot be stored"):
        cache.append("other", b"a")


def test_subscripts(cache):
    """The value, or EntryNotFoundError; None is a value."""
    cache.set("k", None)
    face = getattr(cache, "_cache", cache)
    assert face["k"] is None
    del face["k"]
    assert "k" not in face
    with pytest.raises(EntryNotFoundError, match=r"^there is no entry for 'k'$"):
        face["k"]
    with pytest.raises(KeyError):
        del face["k"]
    with pytest.raises(TypeError, match="a key must be a str"):
        face[1]
    with pytest.raises(TypeError, match="not iterable"):
        iter(face)
    with pytest.raises(TypeError, match=r"Cache.* use set\(key, value, ttl\)"):
        face["k"] = 1


@pytest.mark.only_on_redis(FORMAT)
def test_others_read_what_was_appended(plain, redis_url):
    """In Redis stands the plain pickle that other clients read and write."""
    plain.append("k", "a")
    plain.append("k", "b")
    with redis.Redis.from_url(redis_url) as other:
        assert pickle.loads(other.get("append:k")) == "ab"
        other.set("append:k", pickle.dumps("other"))
        assert plain.append("k", "!") == 6
        other.set("append:foreign", b"\xcbnewer")
    with pytest.raises(TypeError, match="append:foreign' cannot be read here"):
        plain.append("foreign", "a")


@pytest.mark.only_on_redis(MESSAGES)
def test_peers_follow(redis_url):
    """What one process has appended another reads, though it had the value in L1."""
    one, two = listening(lone_cache(redis_url)), listening(lone_cache(redis_url))
    one.append("k", "a")
    eventually(lambda: two.get("k") == "a" and two.stats().l1_hits, "a hit in L1")
    one.append("k", "b")
    eventually(lambda: two.get("k") == "ab")
    assert one.get("k") == "ab"
