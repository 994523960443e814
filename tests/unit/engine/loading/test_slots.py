"""MAX_LOADS: a bound that no loader can run into by itself."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tests.rig import PATIENCE_S, eventually, let_expire, load_slots_of, lone_cache


def test_no_more_loaders_than_allowed(redis_url):
    """Of many keys loaded at a time, MAX_LOADS loaders run; all values come."""
    cache = lone_cache(redis_url, max_loads=3)
    lock, running, most, begun = threading.Lock(), 0, 0, 0
    together = threading.Barrier(3)

    def load():
        nonlocal running, most, begun
        with lock:
            begun += 1
            is_among_the_first = begun <= 3
            running += 1
            most = max(most, running)
        if is_among_the_first:
            together.wait(PATIENCE_S)
        time.sleep(0.001)  # room for one too many
        with lock:
            running -= 1
        return "value"

    with ThreadPoolExecutor(24) as pool:
        values = list(
            pool.map(lambda number: cache.get_or_load(f"k{number}", load), range(60))
        )
    assert values == ["value"] * 60
    assert most == 3


def test_a_loader_may_load(redis_url):
    """Nested loads share the outer one's slot: one is enough for any depth."""
    cache = lone_cache(redis_url, max_loads=1)

    def load(depth):
        if not depth:
            return 0
        return 1 + cache.get_or_load(f"k{depth - 1}", lambda: load(depth - 1))

    assert cache.get_or_load("k", lambda: load(5)) == 5


def test_a_failing_loader_frees_its_slot(redis_url):
    """Exceptions take no slot with them."""
    cache = lone_cache(redis_url, max_loads=1)
    for number in range(5):
        try:
            cache.get_or_load(f"k{number}", lambda: 1 / 0)
        except ZeroDivisionError:
            continue
    assert cache.get_or_load("k", lambda: "value") == "value"


def test_a_refresh_takes_a_slot_of_its_own(redis_url):
    """Started from within a loader, it is bounded like any other."""
    cache = lone_cache(redis_url, max_loads=1, stale_ttl=10)
    cache.get_or_load("inner", lambda: "old", ttl=0.05)
    let_expire(0.05)
    together = []
    busy = threading.Event()

    def refresh():
        together.append(busy.is_set())
        return "new"

    def outer():
        busy.set()
        value = cache.get_or_load("inner", refresh, ttl=10)
        eventually(lambda: load_slots_of(cache)._queue, "the refresh waits for a slot")
        busy.clear()
        return value

    assert cache.get_or_load("outer", outer) == "old"
    eventually(lambda: together)
    assert together == [False]
