"""What stands in L2, and whether it is alive: as calls see it that act on that."""

from __future__ import annotations

import os

import pytest

from cachebridge.codec.envelope import make_header
from cachebridge.core.ttl import GONE_MS
from cachebridge.waiting.run import run
from tests.rig import (
    after_next_read,
    binding_of,
    engine_of,
    l2_of,
    lone_cache,
)
from tests.sides import SIDES, on_side

pytestmark = pytest.mark.every_store

STAMP = "tags:cachebridge-tag:x"
NEXT_TO_ZERO = 2.0**-1007
"""In MessagePack it begins as tagged values do."""


@pytest.fixture
def plain(place):
    """Return a cache on each kind of shared level."""
    return place.open("tags:")


@pytest.fixture(params=SIDES)
def cache(request, plain):
    """Return it as threads and as tasks use it."""
    return on_side(request.param, plain)


@pytest.fixture(params=SIDES)
def packing(request, place):
    """Return one that writes MessagePack."""
    how = {"key_prefix": "tags:", "serializer": "msgpack", **place.options}
    return on_side(request.param, lone_cache(place.location, **how))


def ttl_ms(cache, key):
    """Return the TTL as the store's PTTL does; only Django's adapter has a method."""
    return binding_of(cache).coherent.for_threads.ttl(f"tags:{key}")


def set_unheard(cache, key, value):
    """Let another process invalidate the tag and set a value; no message has come."""
    stamp = os.urandom(8)
    raw = make_header({"x": stamp}) + b"%d" % value
    l2_of(cache).store([(STAMP, stamp), (f"tags:{key}", raw)], 60_000, None)


def test_what_l2_calls_alive_is_not_deleted(cache):
    """Though this process has not heard so far that the tag was invalidated."""
    for key in ("added", "there", "touched"):
        cache.set("seen", 1, 60, tags=["x"])
        assert cache.get("seen") == 1
        set_unheard(cache, key, 2)
        if key == "added":
            assert not cache.add(key, 3, 60)
        elif key == "there":
            assert cache.has_key(key)
        else:
            assert cache.touch(key, 60)
        assert l2_of(cache).get(f"tags:{key}")[0].endswith(b"2")


def test_the_ttl_of_an_invalid_value(plain):
    """There is none, as there is no value; L2 keeps it until something removes it."""
    plain.set("k", 1, 60, tags=["x"])
    plain.set("untagged", 1, 60)
    assert 50_000 < run(ttl_ms(plain, "k")) <= 60_000
    plain.invalidate_tags("x")
    assert run(ttl_ms(plain, "k")) == GONE_MS
    assert l2_of(plain).get("tags:k")[0] is not None
    assert 50_000 < run(ttl_ms(plain, "untagged")) <= 60_000
    assert plain.delete("k")  # there was something to delete
    assert not plain.delete("k")


def test_a_tagged_value_that_comes_between_read_and_add(plain):
    """It can be read, and so it is appended to."""
    after_next_read(plain, lambda: plain.set("k", "a", 60, tags=["x"]))
    assert plain.append("k", "b", 60) == 2
    assert plain.get("k") == "ab"
    plain.invalidate_tags("x")
    assert plain.get("k") is None


@pytest.mark.parametrize("tags", [None, ["x"]], ids=["untagged", "tagged"])
def test_floats_that_begin_as_tagged_values_do(packing, tags):
    """They are values like others, whichever process has written them."""
    cache = packing
    assert cache.set("k", NEXT_TO_ZERO, 60, tags=tags)
    assert cache.set_many({"a": NEXT_TO_ZERO, "b": 1.5}, 60, tags=tags) == []
    assert cache.add("added", NEXT_TO_ZERO, 60, tags=tags)
    load = {"ttl": 60, "tags": tags}
    assert cache.get_or_load("loaded", lambda: NEXT_TO_ZERO, **load) == NEXT_TO_ZERO
    raw = l2_of(cache).get("tags:k")[0]
    assert raw.endswith(b"\xcb\x01" + bytes(7))
    assert (len(raw) == 9) is (tags is None)
    for _ in range(2):
        engine_of(cache).rules.flush("clear")
        assert cache.get("k") == NEXT_TO_ZERO
        assert cache.get_many(["a", "b"]) == {"a": NEXT_TO_ZERO, "b": 1.5}
        for key in ("k", "a", "added", "loaded"):
            assert cache.has_key(key)
            assert not cache.add(key, 7, 60)
            assert cache.touch(key, 60)
            assert cache.get_or_load(key, lambda: 7, 60) == NEXT_TO_ZERO
    assert cache.incr("k", 1) == 1.0
    assert cache.incr("a", NEXT_TO_ZERO) == 2 * NEXT_TO_ZERO
    if tags:
        cache.invalidate_tags("x")
        assert cache.get_many(["k", "a", "b", "added", "loaded"]) == {}
