"""clear() removes this cache's keys, all of them, and nothing else."""

from __future__ import annotations

import hashlib

import pytest
import redis
from django.core.cache import caches

from cachebridge.errors import UnsupportedOperationError
from tests.rig import l2_of
from tests.stores import PATTERNS, PEEKS
from tests.unit.django.support import entry, hits_of, trusted

pytestmark = pytest.mark.every_store

HERE = "tests.unit.django.test_clear"
NEIGHBOURS = ["", "a", "ab", "a:b", "b*", "b?", "bx", "[ab]", "c\\", "c", "ж"]


def hashing(key, key_prefix, version):
    return hashlib.md5(f"{key_prefix}{version}{key}".encode()).hexdigest()


def bare(key, key_prefix, version):
    return key


def number(key, key_prefix, version):
    return f"{key_prefix}:{version:d}:{key}"


def version_first(key, key_prefix, version):
    return f"{version}/{key_prefix}/{key}"


def _raw(cache):
    return l2_of(cache)


@pytest.mark.parametrize("mine", [p for p in NEIGHBOURS if p != "a"], ids=repr)
def test_clear_leaves_other_prefixes_and_foreign_keys(set_caches, place, mine):
    """Glob characters in KEY_PREFIX stand for themselves."""
    aliases = {f"c{n}": entry(place, KEY_PREFIX=p) for n, p in enumerate(NEIGHBOURS)}
    set_caches(**aliases)
    made = {p: caches[f"c{n}"] for n, p in enumerate(NEIGHBOURS)}
    trusted(made[mine])
    for prefix, cache in made.items():
        for version in (None, 2, "v"):
            cache.set("k", prefix, version=version)
    _raw(made[mine]).store([("foreign", b"x"), ("a", b"x"), ("b*", b"x")], None, None)
    made[mine].clear()
    for prefix, cache in made.items():
        for version in (None, 2, "v"):
            expected = None if prefix == mine else prefix
            assert cache.get("k", version=version) == expected, (prefix, version)
            with cache.bypass_l1():
                assert cache.get("k", version=version) == expected, (prefix, version)
    for key in ("foreign", "a", "b*"):
        assert _raw(made[mine]).get(key)[0] == b"x"


def test_a_prefix_that_goes_on_after_a_colon_is_cleared_along(set_caches, place):
    """The full key a:b:1:k may as well be key 1:k of version b under the prefix a."""
    set_caches(
        default=entry(place, KEY_PREFIX="a"),
        inner=entry(place, KEY_PREFIX="a:b"),
    )
    caches["inner"].set("k", 1)
    assert caches["default"].get("1:k", version="b") == 1
    caches["default"].clear()
    assert caches["inner"].get("k") is None


def test_clear_empties_l1_and_serves_on(cache):
    """What was hot is gone at once; what is set afterwards stays."""
    cache.set_many({f"k{n}": n for n in range(2500)})
    assert hits_of(cache, lambda: cache.get("k7")) == 1
    cache.clear()
    assert cache.get_many([f"k{n}" for n in range(2500)]) == {}
    cache.set("k7", "new")
    assert cache.get("k7") == "new"
    cache.clear()
    assert cache.get("k7") is None


def test_clear_reaches_keys_that_never_enter_l1(cache):
    """Sessions and throttles are this cache's keys too."""
    cache.set("throttle_anon_1", [1])
    cache.set("django.contrib.sessions.cacheabc", {})
    cache.clear()
    assert cache.get("throttle_anon_1") is None
    assert not cache.has_key("django.contrib.sessions.cacheabc")


@pytest.mark.only_on_redis(PEEKS)
def test_clear_keeps_the_servers_own_marks(cache, redis_url):
    """The server id and the fleet's switch are no cache's keys."""
    cache.set("k", 1)
    cache.clear()
    with redis.Redis.from_url(redis_url) as client:
        assert client.get("cachebridge:server-id")


@pytest.mark.parametrize("function", ["hashing", "bare", "number"])
def test_clear_raises_if_no_pattern_finds_the_keys(bridge, function):
    """And says which option lets it delete the whole database."""
    cache = bridge(KEY_FUNCTION=f"{HERE}.{function}", KEY_PREFIX="p")
    cache.set("k", 1)
    _raw(cache).store([("foreign", b"x")], None, None)
    with pytest.raises(UnsupportedOperationError, match="CLEAR_FLUSHES_DB"):
        cache.clear()
    assert cache.get("k") == 1
    assert _raw(cache).get("foreign")[0] == b"x"


def test_with_the_option_clear_deletes_the_whole_database(bridge):
    """The option names what it does."""
    cache = bridge(KEY_FUNCTION=f"{HERE}.hashing", OPTIONS={"CLEAR_FLUSHES_DB": True})
    cache.set("k", 1)
    _raw(cache).store([("foreign", b"x")], None, None)
    cache.clear()
    assert cache.get("k") is None
    assert _raw(cache).get("foreign")[0] is None


@pytest.mark.only_on_redis(PATTERNS)
def test_clear_follows_a_key_function_of_another_order(set_caches, place):
    """The pattern comes from the function, not from Django's default."""
    function = f"{HERE}.version_first"
    set_caches(
        default=entry(place, KEY_FUNCTION=function, KEY_PREFIX="mine"),
        other=entry(place, KEY_FUNCTION=function, KEY_PREFIX="other"),
    )
    for cache in caches.all(initialized_only=False)[-2:]:
        cache.set_many({"a": 1, "b/c": 2})
        cache.set("a", 1, version=3)
    caches["default"].clear()
    assert caches["default"].get_many(["a", "b/c"]) == {}
    assert caches["default"].get("a", version=3) is None
    assert caches["other"].get_many(["a", "b/c"]) == {"a": 1, "b/c": 2}
