"""Keys by pattern in Django: versions, key functions, and django-redis's answers."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from django.core.cache import caches

from cachebridge.errors import UnsupportedOperationError
from tests.stores import PATTERNS
from tests.unit.django.support import entry, trusted

pytestmark = pytest.mark.every_store

HERE = "tests.unit.django.test_key_sets"


def hashing(key, key_prefix, version):
    return hashlib.md5(f"{key_prefix}{version}{key}".encode()).hexdigest()


def key_first(key, key_prefix, version):
    return f"{key}|{key_prefix}|{version}"


@pytest.fixture
def filled(bridge):
    """Return a cache with values of two versions."""
    cache = bridge(KEY_PREFIX="a*")
    for version in (1, 2):
        cache.set_many({"foo-aa": 1, "foo-bb": 2, "bar": 3}, version=version)
    return cache


def test_delete_pattern(filled, place):
    """It is for one version, and returns how many keys there were."""
    if place.is_memcached:
        with pytest.raises(NotImplementedError, match="Memcached cannot list keys"):
            filled.delete_pattern("*")
        return
    assert filled.delete_pattern("foo-a*", itersize=1) == 1
    assert sorted(filled.keys("*")) == ["bar", "foo-bb"]
    assert filled.delete_pattern("*", version=2) == 3
    assert filled.keys(version=2) == []
    assert sorted(filled.iter_keys("foo*")) == ["foo-bb"]
    assert filled.delete_pattern("foo-a*") == 0
    assert filled.get_many(["foo-aa", "foo-bb", "bar"]) == {"foo-bb": 2, "bar": 3}


@pytest.mark.only_on_redis(PATTERNS)
def test_awaited(filled):
    """The same for tasks."""

    async def use():
        assert sorted(await filled.akeys("foo*")) == ["foo-aa", "foo-bb"]
        assert [key async for key in filled.aiter_keys("b*")] == ["bar"]
        assert await filled.adelete_pattern("foo*") == 2
        assert await filled.akeys(version=2) != []
        assert await filled.aclear(prefix="", version=2) is None
        return await filled.akeys(version=2)

    assert asyncio.run(use()) == []
    assert filled.keys() == ["bar"]


def test_clear_with_a_prefix(filled):
    """Of one version; over Memcached as well."""
    assert filled.clear(prefix="foo") is None
    assert filled.get_many(["foo-aa", "foo-bb", "bar"]) == {"bar": 3}
    assert len(filled.get_many(["foo-aa", "foo-bb", "bar"], version=2)) == 3
    filled.clear(prefix="b", version=2)
    assert filled.get("bar", version=2) is None


def test_delete_many_counts(filled):
    """As in django-redis; Django itself returns nothing."""
    assert filled.delete_many(["foo-aa", "bar", "none"]) == 2
    assert filled.delete_many(iter(["foo-aa"])) == 0
    assert asyncio.run(filled.adelete_many(["foo-bb"])) == 1


@pytest.mark.only_on_redis(PATTERNS)
def test_key_functions(set_caches, place):
    """What stands behind the key is escaped too; a hidden key cannot be found."""
    set_caches(
        default=entry(place, KEY_FUNCTION=f"{HERE}.key_first", KEY_PREFIX="*"),
        other=entry(place, KEY_FUNCTION=f"{HERE}.key_first", KEY_PREFIX="x"),
        hashed=entry(place, KEY_FUNCTION=f"{HERE}.hashing"),
    )
    first, other = trusted(caches["default"]), trusted(caches["other"])
    for cache in (first, other):
        cache.set_many({"foo-aa": 1, "bar": 3})
    assert first.delete_pattern("foo*") == 1
    assert first.keys() == ["bar"]
    assert sorted(other.keys()) == ["bar", "foo-aa"]
    assert first.clear(prefix="b") is None
    assert first.get("bar") is None
    assert other.get_many(["foo-aa", "bar"]) == {"foo-aa": 1, "bar": 3}
    for call in (caches["hashed"].keys, caches["hashed"].delete_pattern):
        with pytest.raises(UnsupportedOperationError, match="KEY_FUNCTION"):
            call("*")


def test_a_replaced_make_key(bridge, place):
    """A subclass's or an object's own make_key is asked."""
    if place.is_memcached:
        return
    cache = bridge()
    cache.make_key = lambda key, version=None: f"mine/{key}"
    cache.set("k", 1)
    assert cache.keys() == ["k"]
    assert cache.delete_pattern("k*") == 1
