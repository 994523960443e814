"""get_or_load: one load per key however many ask, and no wait that cannot end."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cachebridge.core.entry import MISSING
from cachebridge.core.loading import Outcome
from cachebridge.engine.loading.single_flight import SingleFlight
from cachebridge.waiting.io import THREADS
from cachebridge.waiting.run import run
from tests.rig import (
    PATIENCE_S,
    engine_of,
    eventually,
    followers_in,
    listening,
    lone_cache,
)
from tests.sides import SIDES, on_side

URLS = ["redis", "memory"]


@pytest.fixture(params=SIDES)
def cache(request, plain_cache):
    """Return a cache on each kind of store, as threads and as tasks use it."""
    return on_side(request.param, plain_cache)


@pytest.fixture(params=URLS)
def plain_cache(request):
    """Return a cache on each kind of store."""
    if request.param == "redis":
        return lone_cache(request.getfixturevalue("redis_url"))
    return lone_cache("memory://")


def all_idle(cache):
    engine = engine_of(cache)
    return engine.single_flight.is_idle() and engine.rules.is_idle()


class Loader:
    """Counts its calls and takes a moment, so that others come to wait."""

    def __init__(self, value="loaded", *, fail_first=0, error=RuntimeError, once=None):
        """``once``: the first call goes on when that is true."""
        self.calls = 0
        self._once = once
        self._value = value
        self._fail_first = fail_first
        self._error = error
        self._lock = threading.Lock()

    def __call__(self):
        with self._lock:
            self.calls += 1
            number = self.calls
        if self._once is not None and number == 1:
            eventually(self._once)
        time.sleep(0.02)  # who comes later finds the value: this only makes it likely
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
    """The loader runs once; each caller gets a copy of its value."""
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


def test_a_failure_is_shared(cache):
    """All that wait for a load that fails get its error, each a copy of its own."""
    loader = Loader(fail_first=1, once=lambda: followers_in(cache) == 15)
    errors = ask_together(cache, "k", loader, threads=16)
    assert [type(each) for each in errors] == [RuntimeError] * 16
    assert len(set(map(id, errors))) == 16
    assert loader.calls == 1
    assert all_idle(cache)
    assert cache.get_or_load("k", loader) == "loaded"


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


class Unreadable:
    """A value that can be encoded, and not decoded."""

    def __reduce__(self):
        return next, (iter(()),)


def test_a_follower_that_cannot_read_the_outcome(plain_cache):
    """It runs its own loader, and gets what that raises: StopIteration, too."""
    begun, go_on = threading.Event(), threading.Event()

    def load():
        begun.set()
        go_on.wait(PATIENCE_S)
        return Unreadable()

    def stop():
        raise StopIteration

    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(plain_cache.get_or_load, "k", load)
        assert begun.wait(PATIENCE_S)
        follower = pool.submit(plain_cache.get_or_load, "k", stop)
        eventually(lambda: engine_of(plain_cache).single_flight._waiting)
        go_on.set()
        assert isinstance(leader.result(PATIENCE_S), Unreadable)
        assert isinstance(follower.exception(PATIENCE_S), StopIteration)
    assert all_idle(plain_cache)


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
        barrier.wait(PATIENCE_S)
        return cache.get_or_load(other, lambda: load(other, key, inner=True)) + key

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(cache.get_or_load, "a", lambda: load("a", "b", inner=False))
        two = pool.submit(cache.get_or_load, "b", lambda: load("b", "a", inner=False))
        values = [one.result(PATIENCE_S), two.result(PATIENCE_S)]
    assert all(isinstance(value, str) for value in values)
    assert all_idle(cache)


def test_ring_of_three(cache):
    """The same with three threads in a ring."""
    keys = ["a", "b", "c"]
    barrier = threading.Barrier(3)

    def load(number):
        barrier.wait(PATIENCE_S)
        other = keys[(number + 1) % 3]
        return cache.get_or_load(other, lambda: f"{other}-inner")

    with ThreadPoolExecutor(3) as pool:
        futures = [
            pool.submit(cache.get_or_load, keys[n], lambda n=n: load(n))
            for n in range(3)
        ]
        for future in futures:
            assert future.result(PATIENCE_S)
    assert all_idle(cache)


def test_earlier_writer_wins(cache):
    """A value that a writer stored while the loader ran is kept."""

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
        barrier.wait(PATIENCE_S)
        return "v"

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(cache.get_or_load, f"k{n}", load) for n in range(8)]
        assert [future.result(PATIENCE_S) for future in futures] == ["v"] * 8


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
        start.wait(PATIENCE_S)
        return cache.get_or_load("k", Loader(value))

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, one, "one")
        second = pool.submit(ask, two, "two")
        assert first.result() == second.result() == one.get("k") == two.get("k")


def test_follower_leaves_the_load_to_the_others():
    """Leader and follower both end, and nothing of the load stays."""
    shared = SingleFlight()
    started, release = threading.Event(), threading.Event()

    async def lead(_load):
        started.set()
        release.wait()
        return Outcome(b"raw", MISSING)

    async def lead_alone(_load):
        return Outcome(b"own", MISSING)

    def ask(load):
        return run(shared.run("k", load, THREADS, PATIENCE_S))

    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(ask, lead)
        started.wait(PATIENCE_S)
        follower = pool.submit(ask, lead_alone)
        eventually(lambda: shared._waiting)
        release.set()
        assert leader.result(PATIENCE_S)[0].raw == b"raw"
        assert follower.result(PATIENCE_S)[0].raw in {b"raw", b"own"}
    assert shared.is_idle()


NESTED = """
from cachebridge import Cache

cache = Cache("memory://")

def nested(level):
    return cache.get_or_load(
        f"level{level}", lambda: 1 + nested(level - 1) if level else 0
    )

assert nested(310) == 310
"""


def test_loads_nest():
    """Three hundred loads, each inside another's loader, fit Python's default stack.

    In a process of its own: that of the tests has a deeper stack, and is measured.
    """
    subprocess.run([sys.executable, "-c", NESTED], check=True)
