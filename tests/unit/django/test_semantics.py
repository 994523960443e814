"""What the random comparison with LocMemCache cannot see, or should name."""

from __future__ import annotations

import asyncio
import pickle
import random
import sys
import threading
import time

import pytest
from django.core.cache import caches
from django.utils.safestring import SafeString

from tests.rig import (
    after_heartbeats,
    eventually,
    followers_in,
    l1_of,
    l2_of,
)
from tests.stores import FORMAT, MESSAGES, MILLISECONDS
from tests.unit.django.support import entry, hits_of, shape_of

pytestmark = pytest.mark.every_store


class Unreadable:
    """Pickles, but cannot be built again."""

    def __reduce__(self):
        return _refuse, ()


def _refuse():
    raise RuntimeError("not again")


def test_incr_is_exact_over_the_whole_range_of_int64(cache):
    """Lua's numbers are doubles; what incr returns must not pass through one."""
    cache.set("n", 2**60 + 1)
    assert cache.incr("n") == 2**60 + 2
    assert cache.decr("n", 2) == 2**60
    assert cache.incr("n", -(2**61) - 1) == -(2**60) - 1
    assert cache.get("n") == -(2**60) - 1


def test_set_without_waiting(bridge):
    """It is seen at once, in its version, and sent before what comes after it."""
    cache = bridge(OPTIONS={"WRITE_BEHIND_MS": 10_000})
    assert cache.set("k", [1], 60, version=2, wait=False) is None
    asyncio.run(cache.aset("other", 1, wait=False))
    assert cache.stats().writes_queued == 2
    assert cache.get("k") is None
    assert cache.get("k", version=2) == [1]
    assert cache.incr("other") == 2
    with pytest.raises(TypeError, match="wait must be True or False"):
        cache.set("k", 1, wait=None)


@pytest.mark.parametrize("timeout", [sys.maxsize, 2.0**60, float("inf")])
def test_an_endless_timeout_is_one_without_expiry(cache, timeout):
    """Redis refuses such numbers; LocMemCache takes them."""
    cache.set("k", 1, timeout)
    assert cache.touch("k", timeout)
    assert cache.add("other", 1, timeout)
    assert cache.get_many(["k", "other"]) == {"k": 1, "other": 1}


def test_get_many_keeps_the_order_and_every_spelling(cache):
    """1 and "1" have one full key; L1's answers do not come before L2's."""
    cache.set_many({"a": "A", "b": "B", "c": "C", 1: "one"})
    with cache.bypass_l1():
        assert list(cache.get_many(["c", 1, "a", "1"])) == ["c", 1, "a", "1"]
    l1_of(cache).pop(":1:a")
    found = cache.get_many(["a", 1, "b", "1", "missing"])
    assert list(found.items()) == [("a", "A"), (1, "one"), ("b", "B"), ("1", "one")]


@pytest.mark.only_on_redis(MESSAGES)
def test_the_shared_random_generator_is_left_to_the_user(cache):
    """Its state stays what it is while heartbeats are drawn."""
    state = random.getstate()
    after_heartbeats(cache)
    assert random.getstate() == state


def test_a_value_that_unpickling_refuses_is_a_miss(cache):
    """From L1 as from L2, and nothing internal leaks out."""
    cache.set("k", Unreadable())
    assert cache.get("k", "default") == "default"
    cache.set("k", Unreadable())
    assert cache.get_many(["k"]) == {}
    value = Unreadable()
    assert cache.get_or_set("k", value) is value
    assert cache.get_or_set("other", lambda: value) is value
    assert cache.stats().undecodable > 0


@pytest.mark.only_on_redis(MILLISECONDS)
def test_half_a_second_is_a_timeout(cache):
    """0.5 s is neither 0 nor 1, for any method that takes a timeout."""
    began = time.monotonic()
    cache.set("set", 1, 0.5)
    cache.set("version", 1, 0.5, version=2)
    cache.set_many({"set_many": 1}, 0.5)
    assert cache.add("add", 1, 0.5)
    assert cache.get_or_set("get_or_set", 1, 0.5) == 1
    cache.set("touch", 1)
    assert cache.touch("touch", 0.5)
    keys = ["set", "set_many", "add", "get_or_set", "touch"]
    alive = cache.get_many(keys)
    if time.monotonic() - began < 0.4:  # the machine may have been busy elsewhere
        assert list(alive) == keys
        assert cache.get("version", version=2) == 1
    eventually(lambda: cache.get_many(keys) == {}, "gone after 0.5 s")
    assert time.monotonic() - began >= 0.5
    assert cache.get("version", version=2) is None


@pytest.mark.parametrize("timeout", [None, 100])
def test_default_timeout_is_that_of_the_settings(bridge, timeout):
    """DEFAULT_TIMEOUT is TIMEOUT, for every method; None is without expiry."""
    cache = bridge(TIMEOUT=timeout)
    cache.set("set", 1)
    cache.add("add", 1)
    cache.set_many({"set_many": 1})
    cache.get_or_set("get_or_set", 1)
    cache.set("touch", 1, 10)
    cache.touch("touch")
    for key in ("set", "add", "set_many", "get_or_set", "touch"):
        ttl_ms = l2_of(cache).get(f":1:{key}")[1]
        assert ttl_ms == -1 if timeout is None else 90_000 < ttl_ms <= 100_000, key


def test_incr_and_decr_keep_the_timeout(cache):
    """BaseCache's incr would set the default one anew; LocMemCache keeps it."""
    for value in (1, 1.5, 2**70):
        cache.set("n", value, 1000)
        cache.incr("n")
        cache.decr("n", 3)
        assert 900_000 < l2_of(cache).get(":1:n")[1] <= 1_000_000


def test_get_or_set_calls_once_for_all_threads(cache):
    """64 threads on a cold key are one load, and each has its own copy."""
    calls, results = [], []
    gate = threading.Barrier(64)

    def load():
        calls.append(1)
        eventually(lambda: followers_in(cache) == 63)
        return {"list": [1]}

    def ask():
        mine = caches["default"]
        gate.wait()
        results.append(mine.get_or_set("cold", load))

    threads = [threading.Thread(target=ask) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len({id(result["list"]) for result in results}) == 64


def test_get_or_set_knows_a_cached_none(cache):
    """None is a value: a callable is not asked for it again."""
    assert cache.get_or_set("k", None) is None
    assert cache.get_or_set("k", lambda: pytest.fail("called")) is None
    assert cache.get("k", "default") is None
    assert "k" in cache
    assert cache.get_or_set("k", 2, version=2) == 2


@pytest.mark.parametrize(
    "value",
    [[1], [[1]], {"a": 1}, {"a": [1]}, {1}, ([1],), bytearray(b"x")],
    ids=repr,
)
def test_no_caller_can_change_a_cached_value(cache, value):
    """Neither the writer afterwards nor any reader, from L1 or L2."""
    original = pickle.loads(pickle.dumps(value))
    cache.set("k", value)
    for read in (
        lambda: cache.get("k"),
        lambda: cache.get_many(["k"])["k"],
        lambda: cache.get("k", version=1),
        lambda: cache.get_or_set("k", None),
    ):
        got = [read(), read()]
        assert got == [original, original]
        _spoil(got[0])
    _spoil(value)
    assert cache.get("k") == original


def _spoil(value):
    if isinstance(value, dict):
        value["spoilt"] = True
    elif isinstance(value, set):
        value.add("spoilt")
    elif isinstance(value, tuple):
        _spoil(value[0])
    else:
        value.append(9)


def test_a_safe_string_stays_safe(cache):
    """Marked HTML must not be escaped when it comes out of L1 or L2."""
    cache.set("html", SafeString("<b>"))
    assert hits_of(cache, lambda: cache.get("html")) == 1
    assert type(cache.get("html")) is SafeString
    with cache.bypass_l1():
        assert type(cache.get("html")) is SafeString


@pytest.mark.parametrize("value", [1, True, 1.0, "1", b"1", None], ids=repr)
def test_types_come_back_as_they_were(cache, value):
    """Out of L1, out of L2 and in a batch."""
    cache.set("k", value)
    assert hits_of(cache, lambda: cache.get("k")) == 1
    answers = [cache.get("k"), cache.get_many(["k"])["k"]]
    with cache.bypass_l1():
        answers += [cache.get("k"), cache.get_many(["k"])["k"]]
    assert [shape_of(answer) for answer in answers] == [shape_of(value)] * 4


@pytest.mark.parametrize(
    "store",
    [
        lambda cache, value: cache.set("k", value),
        lambda cache, value: cache.add("k", value),
        lambda cache, value: cache.set_many({"{k}": 1, "{k}2": value}),
        lambda cache, value: cache.get_or_set("k", lambda: value),
        lambda cache, value: cache.set("k", value, 0),
        lambda cache, value: cache.add("k", value, 0),
    ],
)
def test_what_cannot_be_pickled_raises_and_changes_nothing(cache, store):
    """The error is pickle's own.  Of several servers each has a batch of its own."""
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        store(cache, lambda: None)
    assert cache.get_many(["k", "{k}", "{k}2"]) == {}


def test_a_timeout_that_is_no_number_raises(cache):
    """TypeError, as from LocMemCache; nothing is stored."""
    for call in (cache.set, cache.add, cache.get_or_set):
        with pytest.raises(TypeError):
            call("k", 1, "5")
    assert "k" not in cache


def test_return_types(cache):
    """What Django documents, and no truthy stand-in; of many deletes the number."""
    assert cache.set("k", 1) is None
    assert cache.add("k", 1) is False
    assert cache.add("new", 1) is True
    assert cache.touch("k") is True
    assert cache.touch("absent") is False
    assert cache.has_key("k") is True
    assert cache.set_many({"a": 1}) == []
    assert cache.delete_many(["a", "none"]) == 1
    assert cache.delete("k") is True
    assert cache.delete("k") is False
    assert cache.clear() is None
    assert cache.close() is None


@pytest.mark.only_on_redis(FORMAT)
def test_values_of_other_backends_are_read(set_caches, redis_url):
    """A project switches over without flushing Redis, and back again."""
    set_caches(
        default=entry(redis_url),
        django={
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": redis_url,
        },
        django_redis={
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": redis_url,
            "OPTIONS": {"COMPRESSOR": "django_redis.compressors.zlib.ZlibCompressor"},
        },
    )
    values = {"int": 7, "float": 1.5, "none": None, "text": "x" * 500, "list": [1]}
    for alias in ("django", "django_redis"):
        caches[alias].set_many(values)
        assert caches["default"].get_many(values) == values, alias
        assert caches["default"].incr("int") == 8
    caches["default"].set_many(values)
    assert caches["django"].get_many(values) == values


def test_append(cache):
    """Texts and bytes, a safe one as a plain one; keys and versions are Django's."""
    assert cache.append("k", SafeString("a"), 60) == 1
    assert cache.append("k", "b") == 2
    assert cache.append("k", "c", version=2) == 1
    assert cache.get("k") == "ab"
    assert type(cache.get("k")) is str
    assert cache.append("bytes", b"\xff") == 1
    cache.set("n", 1)
    with pytest.raises(TypeError, match="is a int"):
        cache.append("n", "a")


def test_aappend(cache):
    """The same for tasks."""

    async def main():
        assert await cache.aappend("k", "a", 60) == 1
        assert await cache.aappend("k", "b") == 2
        assert await cache.aget("k") == "ab"

    asyncio.run(main())


def test_counters(cache):
    """Keys have the prefix of the cache; clear() takes them."""
    stock = cache.counter("stock", ceiling=5)
    assert stock.reset(1)
    assert cache.counter("stock", ceiling=5).take()
    assert not stock.take()
    assert stock.give(5)
    assert not asyncio.run(stock.agive())
    assert cache.get("cachebridge-counter:stock") == 5
    assert cache.incr("cachebridge-counter:stock") == 6
    views = cache.batched_counter("views")
    views.add(3)
    assert views.flush()
    assert asyncio.run(views.avalue()) == 3
    cache.delete("cachebridge-counter:stock")
    assert stock.value() == 0
