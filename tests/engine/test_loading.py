"""get_or_load: one load per key however many ask, and no wait that cannot end."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cachebridge.core.entry import MISSING
from cachebridge.core.loading import Outcome
from cachebridge.engine.flights import Flights
from tests.colours import COLOURS, in_colour
from tests.rig import engine_of, eventually, listening, lone_cache

URLS = ["redis", "memory"]


@pytest.fixture(params=COLOURS)
def cache(request, plain_cache):
    """Return a cache on each kind of store, as threads and as tasks use it."""
    return in_colour(request.param, plain_cache)


@pytest.fixture(params=URLS)
def plain_cache(request):
    """Return a cache on each kind of store."""
    if request.param == "redis":
        return lone_cache(request.getfixturevalue("redis_url"))
    return lone_cache("memory://")


def all_idle(cache):
    engine = engine_of(cache)
    return engine.flights.is_idle() and engine.rules.is_idle()


class Loader:
    """Counts its calls and takes a moment, so that others come to wait."""

    def __init__(self, value="loaded", *, fail_first=0, error=RuntimeError):
        self.calls = 0
        self._value = value
        self._fail_first = fail_first
        self._error = error
        self._lock = threading.Lock()

    def __call__(self):
        with self._lock:
            self.calls += 1
            number = self.calls
        time.sleep(0.02)
        if number <= self._fail_first:
            raise self._error
        return self._value


def ask_together(cache, key, loader, threads=64):
    """Let many threads ask at the same time; return values and exceptions."""
    start = threading.Barrier(threads)

    def ask():
        start.wait()
        return cache.get_or_load(key, loader)

    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(ask) for _ in range(threads)]
    return [future.exception() or future.result() for future in futures]


def test_64_threads_one_load(cache):
    """The loader runs once; everybody gets its value, and a copy of their own."""
    loader = Loader({"list": [1]})
    values = ask_together(cache, "k", loader)
    assert loader.calls == 1
    assert values == [{"list": [1]}] * 64
    assert len({id(value) for value in values}) == 64
    assert len({id(value["list"]) for value in values}) == 64
    values[0]["list"].append("changed")
    assert cache.get("k") == {"list": [1]}
    assert all_idle(cache)


def test_what_is_there_is_not_loaded(cache):
    """A value of L2 or L1 spares the loader."""
    loader = Loader()
    cache.set("k", None)
    assert cache.get_or_load("k", loader) is None
    listening(cache)
    cache.get_or_load("k", loader)
    assert cache.get_or_load("k", loader) is None
    assert loader.calls == 0


@pytest.mark.parametrize("value", [None, 0, "", False, [], {"a": [1]}])
def test_loaded_value_is_stored(cache, value):
    """Whatever was loaded is there afterwards, falsy values and None included."""
    assert cache.get_or_load("k", lambda: value, ttl=100) == value
    assert cache.get("k", "default") == value
    assert cache.get_or_load("k", Loader()) == value


def test_caller_shares_nothing_with_the_loader(cache):
    """The loader's own object stays its own: what callers get is a copy."""
    original = {"list": [1]}
    value = cache.get_or_load("k", lambda: original)
    value["list"].append(2)
    original["list"].append(3)
    assert cache.get("k") == {"list": [1]}


def test_failing_leader_hands_over(cache):
    """Whoever leads and fails gets the error; the next in line tries."""
    loader = Loader(fail_first=3)
    results = ask_together(cache, "k", loader, threads=16)
    errors = [each for each in results if isinstance(each, RuntimeError)]
    assert len(errors) == 3
    assert results.count("loaded") == 13
    assert loader.calls == 4
    assert all_idle(cache)


@pytest.mark.parametrize(
    "error", [RuntimeError, StopIteration, KeyboardInterrupt, GeneratorExit]
)
def test_error_reaches_the_caller(plain_cache, error):
    """Every kind of exception comes out as it is, and nothing remains."""
    cache = plain_cache

    def fail():
        raise error

    for _ in range(2):
        with pytest.raises(error):
            cache.get_or_load("k", fail)
    assert all_idle(cache)
    assert cache.get_or_load("k", Loader()) == "loaded"


def test_loader_that_asks_for_its_own_key(cache):
    """It loads by itself instead of waiting for itself."""
    depth = []

    def load():
        depth.append(1)
        if len(depth) < 3:
            return cache.get_or_load("k", load) + "!"
        return "base"

    assert cache.get_or_load("k", load) == "base"
    assert len(depth) == 3
    assert all_idle(cache)


def test_two_loaders_that_need_each_other(cache):
    """Two threads, two keys, crosswise: one of them loads for itself; none waits."""
    barrier = threading.Barrier(2)

    def load(key, other, *, inner):
        if inner:
            return f"{key}-inner"
        barrier.wait(5.0)
        return cache.get_or_load(other, lambda: load(other, key, inner=True)) + key

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(cache.get_or_load, "a", lambda: load("a", "b", inner=False))
        two = pool.submit(cache.get_or_load, "b", lambda: load("b", "a", inner=False))
        values = [one.result(5.0), two.result(5.0)]
    assert all(isinstance(value, str) for value in values)
    assert all_idle(cache)


def test_ring_of_three(cache):
    """The same with three threads in a ring."""
    keys = ["a", "b", "c"]
    barrier = threading.Barrier(3)

    def load(number):
        barrier.wait(5.0)
        other = keys[(number + 1) % 3]
        return cache.get_or_load(other, lambda: f"{other}-inner")

    with ThreadPoolExecutor(3) as pool:
        futures = [
            pool.submit(cache.get_or_load, keys[n], lambda n=n: load(n))
            for n in range(3)
        ]
        for future in futures:
            assert future.result(5.0)
    assert all_idle(cache)


def test_earlier_writer_wins(cache):
    """A value that somebody wrote while the loader ran is the one that counts."""

    def load():
        cache.set("k", "written")
        return "loaded"

    assert cache.get_or_load("k", load) == "written"
    assert cache.get("k") == "written"


def test_deleted_while_loading(cache):
    """A delete before the load ends does not make it fail."""

    def load():
        cache.set("k", "written")
        cache.delete("k")
        return "loaded"

    assert cache.get_or_load("k", load) == "loaded"


@pytest.mark.parametrize("ttl", [0, -1])
def test_ttl_that_is_over(cache, ttl):
    """The value is given and not kept."""
    loader = Loader()
    assert cache.get_or_load("k", loader, ttl=ttl) == "loaded"
    assert cache.get("k") is None


def test_value_that_cannot_be_stored(cache):
    """An unpicklable value is an error for its loader's caller, and leaves nothing."""
    with pytest.raises((TypeError, AttributeError, Exception)):
        cache.get_or_load("k", threading.Lock)
    assert cache.get("k") is None
    assert all_idle(cache)


def test_different_keys_do_not_wait(cache):
    """Loads of different keys run side by side."""
    barrier = threading.Barrier(8)

    def load():
        barrier.wait(5.0)
        return "v"

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(cache.get_or_load, f"k{n}", load) for n in range(8)]
        assert [future.result(5.0) for future in futures] == ["v"] * 8


def test_excluded_keys_load_once_too(cache):
    """Single-flight has nothing to do with L1."""
    loader = Loader()
    assert set(ask_together(cache, "throttle_x", loader, 16)) == {"loaded"}
    assert loader.calls == 1


@pytest.mark.parametrize("lease_ttl", [0, 5])
def test_two_processes_agree(redis_url, lease_ttl):
    """Two engines end with one value for both, also if nothing keeps them apart."""
    one, two = (lone_cache(redis_url, lease_ttl=lease_ttl) for _ in range(2))
    start = threading.Barrier(2)

    def ask(cache, value):
        start.wait(5.0)
        return cache.get_or_load("k", Loader(value))

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, one, "one")
        second = pool.submit(ask, two, "two")
        assert first.result() == second.result() == one.get("k") == two.get("k")


def test_follower_is_interrupted():
    """A follower that is thrown out of its wait leaves the flight to the others."""
    flights = Flights()
    started, release = threading.Event(), threading.Event()

    def lead(_flight):
        started.set()
        release.wait(5.0)
        return Outcome(b"raw", MISSING)

    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(flights.lead_or_follow, "k", lead)
        started.wait(5.0)
        follower = pool.submit(
            flights.lead_or_follow, "k", lambda _flight: Outcome(b"own", MISSING)
        )
        eventually(lambda: flights._waiting)
        release.set()
        assert leader.result(5.0)[0].raw == b"raw"
        assert follower.result(5.0)[0].raw in {b"raw", b"own"}
    assert flights.is_idle()
    assert not flights._waiting
