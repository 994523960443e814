"""Stale, early, negative: what get_or_load serves besides values within their TTL."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from math import nextafter

import pytest
import redis

from cachebridge import ABSENT, ConfigError, Loaded
from tests.rig import (
    PATIENCE_S,
    engine_of,
    eventually,
    let_expire,
    listening,
    lone_cache,
    single_flight_of,
)
from tests.sides import SIDES, on_side

TTL_S = 0.1
LEASE_S = 0.3
TTL_OF_DEAR_S = 10.0
"""Of a value that took 0.3 s: the earliest refresh comes 11 s before the end."""


@pytest.fixture(params=SIDES)
def make(request, make_plain):
    """Return a function that makes caches for threads or for tasks."""
    return lambda **options: on_side(request.param, make_plain(**options))


@pytest.fixture(params=["redis", "memory"])
def make_plain(request):
    """Return a function that makes caches on one store of each kind."""
    url = request.getfixturevalue("redis_url") if request.param == "redis" else ""
    return lambda **options: lone_cache(url or "memory://", **options)


class Loader:
    """Returns 1, 2, 3, ...; raises or waits if told to."""

    def __init__(self):
        self.calls = 0
        self.error = None
        self.threads = []
        self.may_end = threading.Event()
        self.may_end.set()

    def __call__(self):
        self.calls += 1
        self.threads.append(threading.get_ident())
        assert self.may_end.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        return self.calls


def settled(cache):
    eventually(engine_of(cache).refresher.is_idle)
    eventually(engine_of(cache).task_refresher.is_idle)


# -- stale while revalidate ------------------------------------------------------------


def test_stale_value_serves_while_it_is_refreshed(make):
    """Past its TTL the old value comes at once, and soon the new one."""
    cache, loader = make(stale_ttl=60), Loader()
    assert cache.get_or_load("k", loader, ttl=TTL_S) == 1
    let_expire(TTL_S)
    loader.may_end.clear()
    assert cache.get_or_load("k", loader, ttl=60) == 1
    loader.may_end.set()
    settled(cache)
    assert cache.get_or_load("k", loader, ttl=60) == 2
    assert loader.threads[1] != threading.get_ident()
    assert cache.stats().stale_hits == 1
    assert cache.stats().refreshes == 1


def test_many_callers_one_refresh(make):
    """However many are served the stale value, it is loaded once."""
    cache, loader = make(stale_ttl=60), Loader()
    cache.get_or_load("k", loader, ttl=TTL_S)
    let_expire(TTL_S)
    loader.may_end.clear()
    with ThreadPoolExecutor(16) as pool:
        values = list(
            pool.map(lambda _: cache.get_or_load("k", loader, ttl=60), range(64))
        )
    loader.may_end.set()
    settled(cache)
    assert values == [1] * 64
    assert loader.calls == 2


def test_two_processes_one_refresh(redis_url):
    """The lease keeps the processes from refreshing the same key."""
    caches = [lone_cache(redis_url, stale_ttl=60) for _ in range(4)]
    loader = Loader()
    caches[0].get_or_load("k", loader, ttl=TTL_S)
    let_expire(TTL_S)
    loader.may_end.clear()
    assert [cache.get_or_load("k", loader, ttl=60) for cache in caches] == [1] * 4
    loader.may_end.set()
    for cache in caches:
        settled(cache)
    assert loader.calls == 2
    assert [cache.get_or_load("k", loader, ttl=60) for cache in caches] == [2] * 4


def test_only_get_or_load_sees_stale_values(make):
    """For every other method the TTL is the end."""
    cache, loader = make(stale_ttl=60), Loader()
    cache.get_or_load("k", loader, ttl=TTL_S)
    let_expire(TTL_S)
    assert cache.get("k") is None
    assert cache.get_many(["k"]) == {}
    assert not cache.has_key("k")
    assert not cache.touch("k", 60)
    assert cache.add("k", "added", 60)
    assert cache.get_or_load("k", loader) == "added"


@pytest.mark.parametrize("change", ["set", "delete", "delete_many", "clear"])
def test_a_change_takes_the_stale_value_along(make, change):
    """What was changed or deleted comes back in no form."""
    cache, loader = make(stale_ttl=60, key_prefix="p:"), Loader()
    cache.get_or_load("k", loader, ttl=TTL_S)
    let_expire(TTL_S)
    match change:
        case "set":
            cache.set("k", "set", 0.03)
            let_expire(0.03)
        case "delete":
            cache.delete("k")
        case "delete_many":
            cache.delete_many(["k", "l"])
        case "clear":
            cache.clear()
    assert cache.get_or_load("k", loader) == 2


def test_stale_has_an_end(make):
    """Past STALE_TTL callers wait for the loader again."""
    cache, loader = make(stale_ttl=0.1), Loader()
    cache.get_or_load("k", loader, ttl=TTL_S)
    let_expire(TTL_S + 0.1)
    assert cache.get_or_load("k", loader, ttl=60) == 2
    assert cache.stats().stale_hits == 0


def test_a_failing_refresh_leaves_the_stale_value(make):
    """The error is counted; the stale value serves on, and trying is not endless."""
    cache, loader = make(stale_ttl=60, lease_ttl=60), Loader()
    cache.get_or_load("k", loader, ttl=TTL_S)
    loader.error = RuntimeError("database away")
    let_expire(TTL_S)
    for _ in range(20):
        assert cache.get_or_load("k", loader, ttl=60) == 1
        settled(cache)
    assert loader.calls == 2
    assert cache.stats().load_errors == 1


def test_overridden_per_call(make):
    """A call may accept stale values that its cache does not, for what it stored so."""
    cache, loader = make(), Loader()
    cache.get_or_load("k", loader, ttl=TTL_S, stale_ttl=60)
    let_expire(TTL_S)
    assert cache.get_or_load("k", loader, ttl=60, stale_ttl=60) == 1
    settled(cache)
    assert cache.get_or_load("k", loader, ttl=60) == 2


def test_bad_overrides(make):
    """An unknown or unusable override raises, naming it."""
    cache = make()
    with pytest.raises(TypeError, match="stale"):
        cache.get_or_load("k", Loader(), stale=1)
    with pytest.raises(ConfigError, match="stale_ttl must be"):
        cache.get_or_load("k", Loader(), stale_ttl=-1)


# -- stale if error --------------------------------------------------------------------


def test_stale_if_error(make):
    """While the loader fails the last value serves; then callers get the new one."""
    cache, loader = make(stale_if_error=60, lease_ttl=LEASE_S), Loader()
    cache.get_or_load("k", loader, ttl=TTL_S)
    let_expire(TTL_S)
    loader.error = RuntimeError("database away")
    began = time.monotonic()
    assert [cache.get_or_load("k", loader, ttl=60) for _ in range(10)] == [1] * 10
    # Tried once per LEASE_TTL, not once per call, however slow this machine is.
    assert loader.calls - 1 <= 1 + (time.monotonic() - began) / LEASE_S
    loader.error, tried = None, loader.calls
    let_expire(LEASE_S)
    assert cache.get_or_load("k", loader, ttl=60) == tried + 1


def test_stale_if_error_has_an_end(make):
    """A value past its greatest age does not hide the error."""
    cache, loader = make(stale_if_error=0.1), Loader()
    cache.get_or_load("k", loader, ttl=TTL_S)
    let_expire(TTL_S + 0.1)
    loader.error = RuntimeError("database away")
    with pytest.raises(RuntimeError, match="database away"):
        cache.get_or_load("k", loader, ttl=60)


def test_stale_if_error_waits_for_the_loader(make):
    """Unlike STALE_TTL it never serves an old value if a new one can be had."""
    cache, loader = make(stale_if_error=60), Loader()
    cache.get_or_load("k", loader, ttl=TTL_S)
    let_expire(TTL_S)
    assert cache.get_or_load("k", loader, ttl=60) == 2


def test_interruptions_are_no_errors(make_plain):
    """KeyboardInterrupt comes out, whatever could be served."""
    cache, loader = make_plain(stale_if_error=60), Loader()
    cache.get_or_load("k", loader, ttl=TTL_S)
    let_expire(TTL_S)
    loader.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        cache.get_or_load("k", loader, ttl=60)


# -- early refresh ---------------------------------------------------------------------


def test_early_refresh(make):
    """A dear value is loaded anew before its TTL ends; no caller waits for it."""
    cache, loader = make(early_refresh=1, l1_max_entries=0), Loader()
    assert cache.get_or_load("k", taking(0.3, loader), ttl=TTL_OF_DEAR_S) == 1
    engine_of(cache).chance = lambda: nextafter(1, 0)  # refreshes the earliest
    loader.may_end.clear()
    assert cache.get_or_load("k", loader, ttl=60) == 1
    loader.may_end.set()
    settled(cache)
    assert loader.calls == 2
    assert cache.get_or_load("k", loader, ttl=60) == 2


def test_no_early_refresh_far_from_the_end(make):
    """A value with time left is left alone."""
    cache, loader = make(early_refresh=1, l1_max_entries=0), Loader()
    for _ in range(200):
        assert cache.get_or_load("k", taking(0.01, loader), ttl=3600) == 1
    settled(cache)
    assert loader.calls == 1


def taking(seconds, loader):
    """Make the loader cost something: how long it takes is what is remembered."""

    def load():
        time.sleep(seconds)
        return loader()

    return load


# -- no such thing ---------------------------------------------------------------------


def nothing():
    return ABSENT


def test_absent_is_not_none(make):
    """None is a value; ABSENT is remembered as nothing, for its own time."""
    cache = make(negative_ttl=60)
    assert cache.get_or_load("none", lambda: None, default="d") is None
    assert cache.get("none", "default") is None
    assert cache.get_or_load("k", nothing, default="d") == "d"
    assert cache.get_or_load("k", Loader(), default="d") == "d"
    assert cache.get("k", "default") == "default"
    assert not cache.has_key("k")
    assert cache.get_many(["k"]) == {}


def test_absent_costs_nothing_once_l1_knows(make):
    """L1 answers for what is known not to exist, for plain reads, too."""
    cache = listening(make(negative_ttl=60))
    cache.get_or_load("k", nothing)
    before = cache.stats()
    for _ in range(10):
        assert cache.get_or_load("k", nothing) is None
        assert cache.get("k") is None
        assert not cache.has_key("k")
    after = cache.stats()
    assert after.loads == before.loads
    assert after.misses == before.misses
    assert after.negative_hits >= before.negative_hits + 20


def test_absent_ends(make):
    """After NEGATIVE_TTL the loader is asked again; without one each time."""
    cache, loader = make(negative_ttl=TTL_S), Loader()
    cache.get_or_load("k", nothing)
    let_expire(TTL_S)
    assert cache.get_or_load("k", loader) == 1
    cache = make()
    assert cache.get_or_load("l", nothing) is None
    assert cache.get_or_load("l", loader) == 2


@pytest.mark.parametrize("write", ["set", "set_many", "add"])
def test_a_write_ends_absence_everywhere(redis_url, write):
    """Another process that knows of nothing sees what was written."""
    here, there = (listening(lone_cache(redis_url, negative_ttl=60)) for _ in range(2))
    for cache in (here, there):
        assert cache.get_or_load("k", nothing) is None
        assert cache.get_or_load("k", Loader()) is None
    match write:
        case "set":
            here.set("k", "new")
        case "set_many":
            here.set_many({"k": "new"})
        case "add":
            assert here.add("k", "new")
    assert here.get("k") == "new"
    eventually(lambda: there.get("k") == "new")


def test_a_scan_of_impossible_keys_pushes_nothing_out(make):
    """Negative entries have a small share of L1; real values stay."""
    cache = listening(make(negative_ttl=600, l1_max_entries=320, l1_ttl=600))
    cache.set_many({f"real{number}": number for number in range(280)}, None)
    for number in range(500):
        cache.get_or_load(f"impossible{number}", nothing)
    before = cache.stats()
    assert len(cache.get_many([f"real{number}" for number in range(280)])) == 280
    assert cache.stats().l1_hits - before.l1_hits == 280
    assert cache.stats().l1_entries <= 280 + 320 // 16


def test_a_refresh_may_find_nothing(make):
    """What is gone from the source goes from the cache."""
    cache, loader = make(stale_ttl=60, negative_ttl=60), Loader()
    cache.get_or_load("k", loader, ttl=TTL_S)
    let_expire(TTL_S)
    assert cache.get_or_load("k", nothing, ttl=60) == 1
    settled(cache)
    assert cache.get_or_load("k", loader, default="gone") == "gone"


# -- what a loader may say -------------------------------------------------------------


def test_a_loader_may_set_the_ttl(make):
    """Loaded(ttl_ms=...) overrides the call's; None is without expiry."""
    cache = make()
    assert cache.get_or_load("k", lambda: Loaded("v", ttl_ms=50)) == "v"
    let_expire(0.05)
    assert cache.get("k") is None
    assert cache.get_or_load("k", lambda: Loaded("v", ttl_ms=None), ttl=0.05) == "v"
    let_expire(0.05)
    assert cache.get("k") == "v"


@pytest.mark.parametrize("how", [{"store": False}, {"ttl_ms": 0}])
def test_a_loader_may_refuse_to_share(make, how):
    """Nothing is stored; each caller that waited loads by itself, all together."""
    cache = make()
    single_flight = single_flight_of(cache)
    lock, numbers = threading.Lock(), iter(range(100))
    value = object()  # not even serializable
    followers = threading.Barrier(7)

    def load():
        with lock:
            number = next(numbers)
        if number:
            followers.wait(PATIENCE_S)  # breaks if they load one after the other
        else:
            eventually(lambda: len(single_flight._waiting) == 7)
        return Loaded((number, value, load), **how)

    with ThreadPoolExecutor(8) as pool:
        futures = [
            pool.submit(lambda: cache.get_or_load("k", load)[0]) for _ in range(8)
        ]
        answers = [future.result(2 * PATIENCE_S) for future in futures]
    assert sorted(answers) == list(range(8))
    assert cache.get("k") is None


# -- jitter ----------------------------------------------------------------------------


def test_jitter_spreads_the_ends(redis_url):
    """Values written together, one by one or in a batch, do not expire together."""
    cache = lone_cache(redis_url, ttl_jitter=0.5)
    ttl_s = 10_000
    cache.set_many({f"many{number}": 1 for number in range(50)}, ttl_s)
    for number in range(50):
        cache.set(f"one{number}", 1, ttl_s)
        cache.add(f"add{number}", 1, ttl_s)
        cache.get_or_load(f"load{number}", lambda: 1, ttl_s)
    with redis.Redis.from_url(redis_url) as client:
        for kind in ("many", "one", "add", "load"):
            ttls = [client.ttl(f"{kind}{number}") for number in range(50)]
            assert all(0.49 * ttl_s < ttl <= ttl_s for ttl in ttls)
            assert max(ttls) - min(ttls) > 0.2 * ttl_s
        cache.set_many({"forever": 1, "too": 2}, None)
        assert client.pttl("forever") == -1


# -- waiting for another process -------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({}, "k"),
        ({"bus": "none"}, "k"),
        ({"l1_exclude": ["k"]}, "k"),
        ({}, "x" * 70_000),
    ],
    ids=["bus", "no bus", "excluded", "long"],
)
def test_a_waiting_caller_goes_on_soon(redis_url, options, key):
    """When the other's load is done its value comes, with a message or without one."""
    options = {"lease_ttl": 2 * PATIENCE_S, **options}
    first, second = (lone_cache(redis_url, **options) for _ in range(2))
    if len(options) == 1 and len(key) == 1:
        listening(first)
        listening(second)
    loading = threading.Event()

    def load():
        loading.set()
        eventually(lambda: second.stats().lease_waits)
        return "loaded"

    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(first.get_or_load, key, load)
        assert loading.wait(PATIENCE_S)
        began = time.monotonic()
        assert second.get_or_load(key, Loader()) == "loaded"
        assert time.monotonic() - began < PATIENCE_S  # the lease is twice as long
        assert leader.result() == "loaded"


def test_a_waiting_caller_is_told_of_a_failure(redis_url):
    """The next process loads at once when the first one's loader has failed."""
    options = {"lease_ttl": 2 * PATIENCE_S}
    first, second = (listening(lone_cache(redis_url, **options)) for _ in range(2))
    loading = threading.Event()

    def fail():
        loading.set()
        eventually(lambda: second.stats().lease_waits)
        raise RuntimeError("database away")

    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(first.get_or_load, "k", fail)
        assert loading.wait(PATIENCE_S)
        began = time.monotonic()
        assert second.get_or_load("k", Loader()) == 1
        assert time.monotonic() - began < PATIENCE_S  # the lease is twice as long
        with pytest.raises(RuntimeError):
            leader.result()
