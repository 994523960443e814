"""``cachebridge.Cache`` in use: copies, bypass, statistics, limits."""

from __future__ import annotations

import threading

import pytest
import redis

from cachebridge import UnsupportedOperationError
from tests.rig import PATIENCE_S, listening, lone_cache
from tests.sides import SIDES, on_side


@pytest.fixture(params=SIDES)
def cache(request, plain_cache):
    return on_side(request.param, plain_cache)


@pytest.fixture(params=["redis", "memory"])
def plain_cache(request):
    if request.param == "memory":
        return listening(lone_cache("memory://"))
    return listening(lone_cache(request.getfixturevalue("redis_url")))


def test_no_two_callers_share_an_object(cache):
    """I18: changing what was set or read changes nothing for other callers."""
    for original in ({"a": 1}, [1], {1}, {"a": [1]}, [[1]], ({"a": 1},)):
        cache.set("k", original)
        for _ in range(3):
            value = cache.get("k")
            many = cache.get_many(["k"])["k"]
            assert value == many == original
            assert value is not many
            assert value is not original
            spoil(value)
            spoil(many)
        before = cache.get("k")
        spoil(original)
        assert cache.get("k") == before


def spoil(value):
    if isinstance(value, tuple):
        spoil(value[0])
    elif isinstance(value, dict):
        for inner in value.values():
            if not isinstance(inner, int):
                spoil(inner)
        value["spoilt"] = 1
    elif isinstance(value, list):
        value.append("spoilt")
    else:
        value.add("spoilt")


def test_bypass(redis_url):
    """Within it this thread reads L2; other threads go on as they were."""
    cache = listening(lone_cache(redis_url))
    cache.set("k", "v")
    with redis.Redis.from_url(redis_url) as foreign:
        foreign.set("k", b"7")
    assert cache.get("k") == "v"
    seen = []
    with cache.bypass_l1():
        assert cache.get("k") == 7
        with cache.bypass_l1():
            assert cache.get_many(["k"]) == {"k": 7}
        assert cache.get("k") == 7
        reader = threading.Thread(target=lambda: seen.append(cache.get("k")))
        reader.start()
        reader.join()
    assert cache.get("k") == 7
    assert seen == [7]


def test_bypass_is_of_this_thread_alone(redis_url):
    """A foreign change unseen by L1: only the bypassing thread sees it."""
    cache = listening(lone_cache(redis_url))
    cache.set("k", "v")
    release, entered = threading.Event(), threading.Event()
    seen = []

    def strong_reader():
        with cache.bypass_l1():
            entered.set()
            release.wait(PATIENCE_S)
            seen.append(cache.get("absent"))

    reader = threading.Thread(target=strong_reader)
    reader.start()
    entered.wait(PATIENCE_S)
    hits = cache.stats().l1_hits
    for _ in range(10):
        assert cache.get("k") == "v"
        assert cache.get_many(["k"]) == {"k": "v"}
    assert cache.stats().l1_hits == hits + 20
    release.set()
    reader.join()
    assert seen == [None]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_bypass_ends_with_an_error(redis_url, error):
    """However the context ends, L1 answers again."""
    cache = listening(lone_cache(redis_url))
    cache.set("k", "v")
    with pytest.raises(error), cache.bypass_l1():
        raise error
    hits = cache.stats().l1_hits
    cache.get("k")
    assert cache.stats().l1_hits == hits + 1


def test_statistics(redis_url):
    """Hits by level, misses, sizes; a snapshot does not change any more."""
    cache = listening(lone_cache(redis_url))
    cache.set("k", "v")
    before = cache.stats()
    assert before.l1_hit_ratio == 0.0
    cache.get("k")
    cache.get_many(["k", "absent"])
    with cache.bypass_l1():
        cache.get("k")
    after = cache.stats()
    assert (after.l1_hits, after.l2_hits, after.misses) == (2, 1, 1)
    assert after.l1_hit_ratio == 0.5
    assert after.l1_entries == 1
    assert 0 < after.l1_bytes < 2000
    assert before.l1_hits == 0
    with pytest.raises(AttributeError):
        after.l1_hits = 7
    assert after.messages_sent == 1
    assert after.trusted


def test_large_values_stay_in_l2(redis_url):
    """Over L1_MAX_ENTRY_BYTES: served from L2, counted, and nothing else evicted."""
    cache = listening(lone_cache(redis_url, l1_max_entry_bytes=10_000))
    cache.set("small", "v")
    cache.set("large", "x" * 20_000)
    assert cache.get("large") == "x" * 20_000
    assert cache.stats().oversized == 2
    assert cache.stats().l1_entries == 1
    assert cache.stats().evictions == 0


def test_health_when_the_store_is_away(free_port):
    """It answers, and says why."""
    health = lone_cache(f"redis://127.0.0.1:{free_port}/0").health()
    assert not health.ok
    assert not health.l2_reachable
    assert "refused" in health.error


def test_clear_needs_a_prefix_or_leave(cache):
    """Clear without KEY_PREFIX raises and deletes nothing."""
    cache.set("k", 1)
    with pytest.raises(UnsupportedOperationError, match="CLEAR_FLUSHES_DB"):
        cache.clear()
    assert cache.get("k") == 1


def test_health_without_l1(redis_url):
    """A cache that wants no L1, or has not begun to listen, is well all the same."""
    cache = lone_cache(redis_url, l1_max_entries=0)
    assert cache.health().ok
    assert cache.health().error == "no L1"
    assert not cache.health().l1_wanted


def test_clearing_the_database_keeps_the_switch(redis_url):
    """L1 that was switched off stays off when clear() empties the whole database."""
    cache = listening(lone_cache(redis_url, clear_flushes_db=True))
    cache.l1_off()
    cache.clear()
    with redis.Redis.from_url(redis_url) as client:
        assert client.get("cachebridge:l1") == b"off"
