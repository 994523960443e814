"""``cachebridge.Cache``: what each method does."""

from __future__ import annotations

import asyncio
import math
import threading
from datetime import timedelta
from decimal import Decimal
from inspect import CORO_CLOSED, getcoroutinestate

import pytest
import redis

from cachebridge import DEFAULT, Cache, MissingKeyError
from tests.rig import (
    engine_of,
    eventually,
    l2_of,
    listening,
    lone_cache,
    rules_of,
)
from tests.sides import SIDES, on_side


@pytest.fixture(params=SIDES)
def cache(request, plain_cache):
    """Return a cache of each kind, as threads and as tasks use it."""
    return on_side(request.param, plain_cache)


@pytest.fixture(params=["redis", "memory", "no L1"])
def plain_cache(request):
    """Return a cache of each kind, listening where it can."""
    if request.param == "memory":
        return listening(lone_cache("memory://"))
    url = request.getfixturevalue("redis_url")
    if request.param == "no L1":
        return lone_cache(url, l1_max_entries=0)
    return listening(lone_cache(url))


def ttl_of(cache, key):
    """Return the seconds that L2 still keeps the key; None is without expiry."""
    ttl_ms = l2_of(cache).get(key)[1]
    return None if ttl_ms == -1 else ttl_ms / 1000


def test_get_and_set(cache):
    """Values come back; what was never set is the default."""
    assert cache.get("k") is None
    assert cache.get("k", "default") == "default"
    cache.set("k", "v")
    assert cache.get("k") == "v"
    cache.set("k", None)
    assert cache.get("k", "default") is None


def test_has_key(cache):
    """Both spellings; None is a value; a deleted key is gone."""
    assert not cache.has_key("k")
    assert "k" not in cache
    cache.set("k", None)
    assert cache.has_key("k")
    assert "k" in cache
    cache.delete("k")
    assert "k" not in cache


@pytest.mark.parametrize("key", [None, 1, b"k", ("k",), 1.0, True])
def test_keys_are_text(cache, key):
    """A key that is no text raises from every method, and changes nothing."""
    for call in (
        cache.get,
        cache.delete,
        cache.has_key,
        cache.touch,
        cache.incr,
        lambda key: cache.set(key, 1),
        lambda key: cache.add(key, 1),
        lambda key: cache.get_or_load(key, lambda: 1),
        lambda key: cache.get_many([key]),
        lambda key: cache.set_many({key: 1}),
        lambda key: cache.delete_many([key]),
    ):
        with pytest.raises(TypeError, match="must be a str"):
            call(key)


class Shouting(str):
    """A key of a subclass, as Django's SafeString is one."""

    __slots__ = ()


@pytest.mark.parametrize(
    "key", ["", " ", "a\nb", "\0", "\x7f", "é€", "\ud800", "x" * 70_000, Shouting("s")]
)
def test_any_text_is_a_key(cache, key):
    """Control characters, surrogates, very long ones: alike on every backend."""
    cache.set(key, "v")
    assert cache.get(key) == cache.get(key) == "v"
    assert cache.get_many([key]) == {key: "v"}
    assert not cache.add(key, "w")
    assert cache.has_key(key)
    assert cache.touch(key, 50)
    assert cache.delete(key)
    assert cache.get(key) is None


def test_lifetimes(cache):
    """TTLs are seconds; the default is TIMEOUT; None is for ever."""
    cache.set("k", 1)
    assert 290 < ttl_of(cache, "k") <= 300
    cache.set("k", 1, DEFAULT)
    assert 290 < ttl_of(cache, "k") <= 300
    cache.set("k", 1, 50.5)
    assert 45 < ttl_of(cache, "k") <= 50.5
    cache.set("k", 1, None)
    assert ttl_of(cache, "k") is None
    cache.set_many({"k": 1, "l": 2}, 20)
    assert 15 < ttl_of(cache, "k") <= 20
    assert cache.touch("k", 70)
    assert 65 < ttl_of(cache, "k") <= 70
    assert cache.touch("k", None)
    assert ttl_of(cache, "k") is None
    assert cache.touch("k")
    assert 290 < ttl_of(cache, "k") <= 300
    assert cache.add("m", 1, 30)
    assert 25 < ttl_of(cache, "m") <= 30
    assert cache.get_or_load("n", lambda: 1, 40) == 1
    assert 35 < ttl_of(cache, "n") <= 40


@pytest.mark.parametrize("ttl", [0, -1, -0.5])
def test_ttl_that_is_over(cache, ttl):
    """Set and touch delete; add stores nothing and says whether it could have."""
    cache.set("k", 1)
    cache.set("k", 2, ttl)
    assert cache.get("k") is None
    cache.set_many({"k": 1, "l": 2})
    cache.set_many({"k": 3, "l": 4}, ttl)
    assert cache.get_many(["k", "l"]) == {}
    assert cache.add("k", 1, ttl)
    assert cache.get("k") is None
    cache.set("k", 1)
    assert not cache.add("k", 2, ttl)
    assert cache.get("k") == 1
    assert cache.touch("k", ttl)
    assert cache.get("k") is None
    assert not cache.touch("k", ttl)


def test_add(cache):
    """The first wins."""
    assert cache.add("k", 1)
    assert not cache.add("k", 2)
    assert cache.get("k") == 1
    cache.delete("k")
    assert cache.add("k", None)
    assert not cache.add("k", 2)


def test_delete(cache):
    """It returns whether the key existed; L1 and L2 lose it."""
    assert cache.delete("k") is False
    cache.set("k", 1)
    cache.get("k")
    assert cache.delete("k") is True
    assert cache.get("k") is None


BIG = 2**63


@pytest.mark.parametrize(
    ("start", "delta", "result"),
    [
        (5, 1, 6),
        (5, -10, -5),
        (-5, 3, -2),
        (0, 0, 0),
        (BIG - 1, 1, BIG),
        (-BIG, -1, -BIG - 1),
        (BIG, 1, BIG + 1),
        (10**30, 10**30, 2 * 10**30),
        (1, BIG, BIG + 1),
        (1, 0.5, 1.5),
        (1.5, 1, 2.5),
        (-0.5, 0.25, -0.25),
        (True, 1, 2),
        (Decimal("1.10"), 1, Decimal("2.10")),
    ],
)
def test_incr(cache, start, delta, result):
    """Integers of any size, floats and decimals; the TTL stays; L1 agrees."""
    cache.set("k", start, 50)
    assert cache.get("k") == start
    value = cache.incr("k", delta)
    assert value == result
    assert type(value) is type(result)
    assert cache.get("k") == result
    assert cache.get("k") == result
    assert 40 < ttl_of(cache, "k") <= 50
    assert cache.decr("k", delta) == start


def test_incr_without_expiry_stays_so(cache):
    """KEEPTTL in each way of counting."""
    for start, delta in ((1, 1), (1.5, 1), (BIG, 1)):
        cache.set("k", start, None)
        cache.incr("k", delta)
        assert ttl_of(cache, "k") is None


@pytest.mark.parametrize("delta", [1, -1, 0, 0.5, BIG])
def test_incr_of_nothing(cache, delta):
    """A ValueError that names the key, in whichever way it would have counted."""
    with pytest.raises(MissingKeyError, match="'k'"):
        cache.incr("k", delta)
    with pytest.raises(ValueError, match="'k'"):
        cache.decr("k", delta)
    assert not cache.has_key("k")
    assert rules_of(cache).is_idle()


def test_incr_of_what_cannot_be_added_to(cache):
    """The caller's TypeError; the value stays, and no activity of the key is left."""
    cache.set("k", "text")
    with pytest.raises(TypeError):
        cache.incr("k")
    assert cache.get("k") == "text"
    assert rules_of(cache).is_idle()


@pytest.mark.parametrize(("start", "delta"), [(0, 1), (0.0, 0.5), (BIG, 1)])
def test_counting_loses_nothing(cache, start, delta):
    """I13: many threads, every increment counts, in each way of counting."""
    cache.set("k", start)

    def count():
        for _ in range(25):
            cache.incr("k", delta)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.get("k") == start + 100 * delta


# -- errors that name what is wrong ---------------------------------------------------


TTL_CALLS = {
    "set": lambda cache, ttl: cache.set("k", 1, ttl),
    "add": lambda cache, ttl: cache.add("k", 1, ttl),
    "touch": lambda cache, ttl: cache.touch("k", ttl),
    "set_many": lambda cache, ttl: cache.set_many({"k": 1}, ttl),
    "get_or_load": lambda cache, ttl: cache.get_or_load("k", lambda: 1, ttl),
}


@pytest.mark.parametrize("call", TTL_CALLS.values(), ids=TTL_CALLS)
@pytest.mark.parametrize("ttl", ["10", timedelta(1), math.nan, [1]])
def test_a_ttl_that_is_no_number_changes_nothing(cache, call, ttl):
    """One error for every method, before anything is sent."""
    with pytest.raises((TypeError, ValueError), match="must be a number of seconds"):
        call(cache, ttl)
    assert not cache.has_key("k")


LONG_KEY = "a\nb" + 200 * "x"


def test_a_text_cannot_be_counted(cache):
    """The error has the key, escaped and shortened, and not the value."""
    cache.set(LONG_KEY, "geheim")
    with pytest.raises(TypeError, match=r"the value of 'a\\nbx+...' is no number"):
        cache.incr(LONG_KEY)
    cache.set("n", 1)
    with pytest.raises(TypeError, match="the delta for 'n' is no number"):
        cache.incr("n", "2")
    with pytest.raises(MissingKeyError) as raised:
        cache.incr(2 * LONG_KEY)
    assert len(str(raised.value)) < 120


@pytest.mark.parametrize("method", ["set", "add", "set_many", "get_or_load"])
def test_what_cannot_be_pickled_is_named_by_its_key(cache, method):
    """The type of the exception is the serializer's own."""
    value = ["geheim", threading.Lock()]
    calls = {
        "set": lambda: cache.set(LONG_KEY, value),
        "add": lambda: cache.add(LONG_KEY, value),
        "set_many": lambda: cache.set_many({LONG_KEY: value}),
        "get_or_load": lambda: cache.get_or_load(LONG_KEY, lambda: value),
    }
    with pytest.raises(TypeError, match="cannot pickle") as raised:
        calls[method]()
    assert str(raised.value).startswith("the value for 'a\\nbxxx")
    assert "geheim" not in str(raised.value)


def test_a_plain_load_by_a_coroutine_function(plain_cache):
    """The error names the awaited method, and the coroutine is closed."""
    made = []

    async def load_price():
        raise AssertionError("must not run")

    def loader():
        made.append(load_price())
        return made[-1]

    for each in (load_price, loader):
        with pytest.raises(TypeError, match=r"load_price.*aget_or_load"):
            plain_cache.get_or_load("k", each)
    assert getcoroutinestate(made[0]) == CORO_CLOSED
    assert not plain_cache.has_key("k")


# -- the end ---------------------------------------------------------------------------


def test_a_closed_cache_raises(plain_cache):
    """Every method, at every key; closing again does nothing."""
    plain_cache.set("k", 1)
    plain_cache.close()
    plain_cache.close()
    calls = [
        lambda: plain_cache.get("k"),
        lambda: plain_cache.get_many(["k"]),
        lambda: plain_cache.set("k", 1),
        lambda: plain_cache.set_many({"k": 1}),
        lambda: plain_cache.get_or_load("k", lambda: 1),
        lambda: "k" in plain_cache,
        lambda: plain_cache.incr("k"),
        lambda: plain_cache.delete_many(["k"]),
        plain_cache.clear,
        plain_cache.health,
        plain_cache.stats,
        plain_cache.bypass_l1,
        plain_cache.l1_off,
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="the cache was closed"):
            call()


def test_the_last_cache_closes_the_connections(redis_url):
    """Others on the server go on; the next one begins anew, with other options."""
    first, second = (Cache(redis_url, key_prefix="p:") for _ in range(2))
    engine = engine_of(first)
    with first as same:
        assert same is first
        listening(first).set("k", 1)
    assert second.get("k") == 1
    assert engine.listening.is_running()
    with redis.Redis.from_url(redis_url) as admin:
        second.close()
        eventually(lambda: not engine.listening.is_running())
        db = admin.get_connection_kwargs()["db"]
        eventually(lambda: sum(int(c["db"]) == db for c in admin.client_list()) == 1)
    with Cache(redis_url, key_prefix="p:", l1_ttl=7) as third:
        assert third.get("k") == 1


def test_an_async_block_closes_too():
    """With the same meaning."""

    async def work():
        async with Cache("memory://async-block", key_prefix="p:") as cache:
            await cache.aset("k", 1)
            assert await cache.aget("k") == 1
        with pytest.raises(RuntimeError, match="closed"):
            await cache.aget("k")
        await cache.aclose()

    asyncio.run(work())
