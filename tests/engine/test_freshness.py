"""Stale, early, negative: what get_or_load serves besides values within their TTL."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from cachebridge import ABSENT, ConfigError, Loaded
from tests.colours import COLOURS, in_colour
from tests.rig import engine_of, eventually, listening, lone_cache

TTL_S = 0.1


@pytest.fixture(params=COLOURS)
def make(request, make_plain):
    """Return a function that makes caches for threads or for tasks."""
    return lambda **options: in_colour(request.param, make_plain(**options))


@pytest.fixture(params=["redis", "memory"])
def make_plain(request):
    """Return a function that makes caches on one store of each kind."""
    url = request.getfixturevalue("redis_url") if request.param == "redis" else ""
    return lambda **options: lone_cache(url or "memory://", **options)


class Loader:
    """Returns 1, 2, 3, ...; raises or waits if told to."""

    def __init__(self, *, seconds=0.0):
        self.calls = 0
        self.error = None
        self.seconds = seconds
        self.threads = []
        self.may_end = threading.Event()
        self.may_end.set()

    def __call__(self):
        self.calls += 1
        self.threads.append(threading.get_ident())
        time.sleep(self.seconds)
        assert self.may_end.wait(5)
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
    time.sleep(TTL_S + 0.05)
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
    cache, loader = make(stale_ttl=60), Loader(seconds=0.1)
    cache.get_or_load("k", loader, ttl=TTL_S)
    time.sleep(TTL_S + 0.05)
    with ThreadPoolExecutor(16) as pool:
        values = list(
            pool.map(lambda _: cache.get_or_load("k", loader, ttl=60), range(64))
        )
    settled(cache)
    assert set(values) <= {1, 2}
    assert loader.calls == 2


def test_two_processes_one_refresh(redis_url):
    """The lease keeps the processes from refreshing the same key."""
    caches = [lone_cache(redis_url, stale_ttl=60) for _ in range(4)]
    loader = Loader(seconds=0.1)
    caches[0].get_or_load("k", loader, ttl=TTL_S)
    time.sleep(TTL_S + 0.05)
    assert [cache.get_or_load("k", loader, ttl=60) for cache in caches] == [1] * 4
    for cache in caches:
        settled(cache)
    assert loader.calls == 2
    assert [cache.get_or_load("k", loader, ttl=60) for cache in caches] == [2] * 4


def test_only_get_or_load_sees_stale_values(make):
    """For every other method the TTL is the end."""
    cache, loader = make(stale_ttl=60), Loader()
    cache.get_or_load("k", loader, ttl=TTL_S)
    time.sleep(TTL_S + 0.05)
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
    time.sleep(TTL_S + 0.05)
    match change:
        case "set":
            cache.set("k", "set", 0.03)
            time.sleep(0.06)
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
    time.sleep(TTL_S + 0.2)
    assert cache.get_or_load("k", loader, ttl=60) == 2
    assert cache.stats().stale_hits == 0


def test_a_failing_refresh_leaves_the_stale_value(make):
    """The error is counted; the stale value serves on, and trying is not endless."""
    cache, loader = make(stale_ttl=60), Loader()
    cache.get_or_load("k", loader, ttl=TTL_S)
    loader.error = RuntimeError("database away")
    time.sleep(TTL_S + 0.05)
    for _ in range(20):
        assert cache.get_or_load("k", loader, ttl=60) == 1
        settled(cache)
    assert loader.calls == 2
    assert cache.stats().load_errors == 1


def test_overridden_per_call(make):
    """A call may accept stale values that its cache does not, for what it stored so."""
    cache, loader = make(), Loader()
    cache.get_or_load("k", loader, ttl=TTL_S, stale_ttl=60)
    time.sleep(TTL_S + 0.05)
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
    cache, loader = make(stale_if_error=60, lease_ttl=0.2), Loader()
    cache.get_or_load("k", loader, ttl=TTL_S)
    time.sleep(TTL_S + 0.05)
    loader.error = RuntimeError("database away")
    assert [cache.get_or_load("k", loader, ttl=60) for _ in range(10)] == [1] * 10
    assert loader.calls == 2  # tried once per LEASE_TTL, not per call
    loader.error = None
    time.sleep(0.3)
    assert cache.get_or_load("k", loader, ttl=60) == 3


def test_stale_if_error_has_an_end(make):
    """A value past its greatest age does not hide the error."""
    cache, loader = make(stale_if_error=0.1), Loader()
    cache.get_or_load("k", loader, ttl=TTL_S)
    time.sleep(TTL_S + 0.2)
    loader.error = RuntimeError("database away")
    with pytest.raises(RuntimeError, match="database away"):
        cache.get_or_load("k", loader, ttl=60)


def test_stale_if_error_waits_for_the_loader(make):
    """Unlike STALE_TTL it never serves an old value if a new one can be had."""
    cache, loader = make(stale_if_error=60), Loader()
    cache.get_or_load("k", loader, ttl=TTL_S)
    time.sleep(TTL_S + 0.05)
    assert cache.get_or_load("k", loader, ttl=60) == 2


def test_interruptions_are_no_errors(make_plain):
    """KeyboardInterrupt comes out, whatever could be served."""
    cache, loader = make_plain(stale_if_error=60), Loader()
    cache.get_or_load("k", loader, ttl=TTL_S)
    time.sleep(TTL_S + 0.05)
    loader.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        cache.get_or_load("k", loader, ttl=60)


# -- early refresh ---------------------------------------------------------------------


def test_early_refresh(make):
    """A dear value is loaded anew before its TTL ends; nobody waits for it."""
    cache, loader = make(early_refresh=1, l1_max_entries=0), Loader(seconds=0.1)
    cache.get_or_load("k", loader, ttl=0.4)
    loader.may_end.clear()
    deadline = time.monotonic() + 5
    while loader.calls < 2 and time.monotonic() < deadline:
        assert cache.get_or_load("k", loader, ttl=60) == 1
        time.sleep(0.005)
    loader.may_end.set()
    settled(cache)
    assert cache.get_or_load("k", loader, ttl=60) >= 2


def test_no_early_refresh_far_from_the_end(make):
    """A value with time left is left alone."""
    cache, loader = make(early_refresh=1, l1_max_entries=0), Loader(seconds=0.01)
    for _ in range(200):
        assert cache.get_or_load("k", loader, ttl=3600) == 1
    settled(cache)
    assert loader.calls == 1


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
    time.sleep(TTL_S + 0.05)
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
    cache = listening(make(negative_ttl=60, l1_max_entries=320))
    cache.set_many({f"real{number}": number for number in range(280)})
    for number in range(2000):
        cache.get_or_load(f"impossible{number}", nothing)
    before = cache.stats()
    assert len(cache.get_many([f"real{number}" for number in range(280)])) == 280
    assert cache.stats().l1_hits - before.l1_hits == 280
    assert cache.stats().l1_entries <= 280 + 320 // 16


def test_a_refresh_may_find_nothing(make):
    """What is gone from the source goes from the cache."""
    cache, loader = make(stale_ttl=60, negative_ttl=60), Loader()
    cache.get_or_load("k", loader, ttl=TTL_S)
    time.sleep(TTL_S + 0.05)
    assert cache.get_or_load("k", nothing, ttl=60) == 1
    settled(cache)
    assert cache.get_or_load("k", loader, default="gone") == "gone"


# -- what a loader may say -------------------------------------------------------------


def test_a_loader_may_set_the_ttl(make):
    """Loaded(ttl_ms=...) overrides the call's; None is without expiry."""
    cache = make()
    assert cache.get_or_load("k", lambda: Loaded("v", ttl_ms=50)) == "v"
    time.sleep(0.1)
    assert cache.get("k") is None
    assert cache.get_or_load("k", lambda: Loaded("v", ttl_ms=None), ttl=0.05) == "v"
    time.sleep(0.1)
    assert cache.get("k") == "v"


@pytest.mark.parametrize("how", [{"store": False}, {"ttl_ms": 0}])
def test_a_loader_may_refuse_to_share(make, how):
    """Nothing is stored, and everybody who waited loads for themselves, at once."""
    cache = make()
    lock, numbers = threading.Lock(), iter(range(100))
    value = object()  # not even serializable

    def load():
        time.sleep(0.1)
        with lock:
            return Loaded((next(numbers), value, load), **how)

    start = threading.Barrier(8)

    def ask():
        start.wait()
        return cache.get_or_load("k", load)[0]

    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        answers = [future.result() for future in [pool.submit(ask) for _ in range(8)]]
    assert sorted(answers) == list(range(8))
    assert time.monotonic() - began < 0.6  # not one after the other
    assert cache.get("k") is None


# -- jitter ----------------------------------------------------------------------------


def test_jitter_spreads_the_ends(redis_url):
    """Values written together, one by one or in a batch, do not expire together."""
    cache = lone_cache(redis_url, ttl_jitter=0.5)
    cache.set_many({f"many{number}": 1 for number in range(50)}, 100)
    for number in range(50):
        cache.set(f"one{number}", 1, 100)
        cache.add(f"add{number}", 1, 100)
        cache.get_or_load(f"load{number}", lambda: 1, 100)
    with redis.Redis.from_url(redis_url) as client:
        for kind in ("many", "one", "add", "load"):
            ttls = [client.pttl(f"{kind}{number}") for number in range(50)]
            assert all(49_000 < ttl <= 100_000 for ttl in ttls)
            assert max(ttls) - min(ttls) > 20_000
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
def test_whoever_waits_goes_on_soon(redis_url, options, key):
    """When the other's load is done its value comes, with a message or without one."""
    first, second = (lone_cache(redis_url, **options) for _ in range(2))
    if not options and len(key) == 1:
        listening(first)
        listening(second)
    loading = threading.Event()

    def load():
        loading.set()
        time.sleep(0.2)
        return "loaded"

    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(first.get_or_load, key, load)
        assert loading.wait(5)
        began = time.monotonic()
        assert second.get_or_load(key, Loader()) == "loaded"
        assert time.monotonic() - began < 0.7
        assert leader.result() == "loaded"
    assert second.stats().lease_waits >= 1


def test_whoever_waits_is_told_of_a_failure(redis_url):
    """The next process loads at once when the first one's loader has failed."""
    first, second = (listening(lone_cache(redis_url)) for _ in range(2))
    loading = threading.Event()

    def fail():
        loading.set()
        time.sleep(0.1)
        raise RuntimeError("database away")

    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(first.get_or_load, "k", fail)
        assert loading.wait(5)
        began = time.monotonic()
        assert second.get_or_load("k", Loader()) == 1
        assert time.monotonic() - began < 0.7
        with pytest.raises(RuntimeError):
            leader.result()
