"""The short way to L1: found again after forgetting, and bounded in memory."""

from __future__ import annotations

import sys
import threading

import pytest

from cachebridge.engine.binding import MAX_ALIAS_CHARS, MIN_SPARE_ALIASES
from tests.rig import binding_of, listening, lone_cache, rules_of


@pytest.fixture
def cache():
    return listening(lone_cache("memory://", key_prefix="app:", l1_max_entries=2000))


def aliases(cache):
    return binding_of(cache)._aliases


def test_misses_are_forgotten(cache):
    """Keys that were never set leave room for those that L1 holds."""
    cache.set_many({f"kept{number}": number for number in range(500)})
    for number in range(10 * MIN_SPARE_ALIASES):
        cache.get(f"absent{number}")
    assert len(aliases(cache)) <= 500 + MIN_SPARE_ALIASES
    assert all(f"kept{number}" in aliases(cache) for number in range(500))
    assert all(
        binding_of(cache).local_get(f"kept{number}") == number for number in range(500)
    )


def test_evicted_keys_are_forgotten(cache):
    """What has left L1 leaves here too."""
    for number in range(20_000):
        cache.set(f"k{number}", number)
    spare = max(MIN_SPARE_ALIASES, 2000 // 8)
    assert len(aliases(cache)) <= 2000 + spare


def test_long_keys_take_the_longer_way(cache):
    """They hit L1 all the same, and cost nothing here."""
    key = "x" * (MAX_ALIAS_CHARS + 1)
    cache.set(key, "v")
    hits = cache.stats().l1_hits
    assert cache.get(key) == cache.get_many([key])[key] == "v"
    assert cache.stats().l1_hits == hits + 2
    assert key not in aliases(cache)


def test_forgetting_while_others_learn(cache):
    """Threads that use the cache meanwhile feel nothing of it."""
    failures = []

    def work(seed):
        try:
            for number in range(3000):
                key = f"{seed}:{number % 1500}"
                cache.set(key, number)
                assert cache.get(key) == number
        except BaseException as exc:
            failures.append(exc)

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    assert failures == []
    assert rules_of(cache).is_idle()


def test_equal_keys_of_other_types(cache):
    """1, True and 1.0 are one key of a dictionary, and none of a cache."""
    cache.set("1", "text")
    for key in (1, True, 1.0):
        with pytest.raises(TypeError):
            cache.get(key)
        with pytest.raises(TypeError):
            cache.get_many([key])
