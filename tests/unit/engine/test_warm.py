"""``cache.warm``: what L2 has of the keys named is in L1 afterwards, coherently."""

from __future__ import annotations

import asyncio
import threading

import pytest

from cachebridge import ConfigError, L2Error, UnsupportedOperationError
from cachebridge.engine.warming.automatic import BATCH
from tests.rig import (
    PATIENCE_S,
    PATIENT,
    after_heartbeats,
    engine_of,
    held_reads,
    l1_of,
    lone_cache,
    rules_of,
)

MANY = 2 * BATCH + 1


def filled(url, count=MANY, **options):
    """Return a writer, and a cache of a process that has read nothing yet."""
    options = {**PATIENT, "key_prefix": "shop:", **options}
    writer, cache = lone_cache(url, **options), lone_cache(url, **options)
    writer.set_many({f"product:{n}": n for n in range(count)})
    return writer, cache


def test_keys_enter_l1(redis_url):
    """A new process waits for its trust; then all that exists is in L1, once."""
    _, cache = filled(redis_url)
    keys = [f"product:{n}" for n in range(MANY)]
    assert cache.warm([*keys, "missing"]) == MANY
    before = cache.stats()
    assert (before.l1_entries, before.warmed) == (MANY, MANY)
    assert (before.l1_hits, before.l2_hits, before.misses) == (0, 0, 0)
    assert cache.get_many(keys) == {key: n for n, key in enumerate(keys)}
    after = cache.stats()
    assert (after.l1_hits, after.l2_hits) == (MANY, 0)


def test_what_l1_holds_is_not_read_again(redis_url):
    """Keys in L1 are passed over; an iterator serves as well as a list."""
    _, cache = filled(redis_url, 10)
    assert cache.warm(f"product:{n}" for n in range(4)) == 4
    assert cache.warm(f"product:{n}" for n in range(10)) == 6
    assert cache.stats().warmed == 10
    assert cache.warm([]) == 0


def test_tasks(redis_url):
    """``awarm`` does the same."""
    _, cache = filled(redis_url, 3)
    assert asyncio.run(cache.awarm(["product:0"])) == 1
    assert asyncio.run(cache.awarm(pattern="product:*")) == 2


def test_a_pattern(redis_url):
    """It is one of the caller's keys: others' prefixes stay out."""
    _, cache = filled(redis_url, 3)
    lone_cache(redis_url, key_prefix="other:").set("product:9", 9)
    assert cache.warm(pattern="product:[01]") == 2
    assert cache.warm(pattern="nothing*") == 0
    assert cache.warm(pattern="*") == 1
    assert cache.stats().l1_entries == 3


@pytest.mark.parametrize("pattern", ["*", "product:*"])
def test_a_pattern_that_matches_more_than_l1_holds(redis_url, pattern):
    """It is refused before a value is read; what just fits is not."""
    _, cache = filled(redis_url, 11, l1_max_entries=10)
    with pytest.raises(
        ConfigError, match=r"pattern .*more keys than L1_MAX_ENTRIES.* 10"
    ):
        cache.warm(pattern=pattern)
    assert cache.stats().l1_entries == 0
    assert cache.delete("product:10")
    assert cache.warm(pattern=pattern) == 10


def test_more_keys_than_l1_holds(redis_url):
    """They are refused."""
    _, cache = filled(redis_url, 11, l1_max_entries=10)
    with pytest.raises(ConfigError, match="L1_MAX_ENTRIES is 10"):
        cache.warm([f"product:{n}" for n in range(11)])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "keys must be a list"),
        ({"keys": "product:1"}, "keys must be a list .*'product:1'"),
        ({"keys": ["a"], "pattern": "a*"}, "keys or pattern"),
        ({"keys": [5]}, "a key must be a str"),
        ({"keys": 5}, "keys must be a list"),
        ({"pattern": 5}, "pattern must be a text"),
        ({"pattern": ""}, "pattern must be"),
    ],
)
def test_bad_arguments(redis_url, arguments, text):
    """The error names the argument."""
    cache = lone_cache(redis_url)
    with pytest.raises((TypeError, ConfigError), match=text):
        cache.warm(**arguments)


def test_excluded_and_large_values_stay_out(redis_url):
    """What may not enter L1 is passed over, named or found."""
    writer, cache = filled(
        redis_url, 1, l1_exclude=["secret:"], l1_max_entry_bytes=1000
    )
    writer.set_many({"secret:1": 1, "large": "x" * 2000})
    assert cache.warm(["secret:1", "large", "product:0"]) == 1
    assert cache.warm(pattern="*") == 0
    assert set(l1_of(cache).all_keys()) == {"shop:product:0"}


def test_memcached(shared_memcached, redis_url):
    """Keys are read; a pattern is an error that says why."""
    options = {"bus_location": redis_url, "key_prefix": "warm-keys:"}
    writer = lone_cache(shared_memcached.url, **PATIENT, **options)
    cache = lone_cache(shared_memcached.url, **PATIENT, **options)
    writer.set_many({"a": 1, "b": 2})
    assert cache.warm(["a", "b", "c"]) == 2
    with pytest.raises(UnsupportedOperationError, match="Memcached cannot list"):
        cache.warm(pattern="*")


def test_without_l1(redis_url):
    """There is nothing to fill, and that is no error for no keys."""
    cache = lone_cache(redis_url, l1_max_entries=0)
    assert cache.warm([]) == 0
    with pytest.raises(ConfigError, match="L1_MAX_ENTRIES is 0"):
        cache.warm(["a"])


def test_an_outage(redis_server_factory):
    """While the server is away: 0, or the error."""
    server = redis_server_factory()
    caches = [lone_cache(server.url, on_error=how) for how in ("degrade", "raise")]
    server.stop()
    assert caches[0].warm(["a"]) == 0
    assert caches[0].warm(pattern="a*") == 0
    with pytest.raises(L2Error):
        caches[1].warm(["a"])


def test_a_write_meanwhile(redis_url):
    """A key that another process writes after L2 has been read does not enter L1."""
    writer, cache = filled(redis_url, 3)
    assert cache.warm(["product:0"]) == 1
    engine = engine_of(cache)
    read, go_on = held_reads(cache)
    warming = threading.Thread(target=cache.warm, args=(["product:1", "product:2"],))
    warming.start()
    assert read.wait(PATIENCE_S)
    writer.set("product:1", "new")
    after_heartbeats(cache)
    go_on.set()
    warming.join()
    assert engine.l1.look("shop:product:1") is None
    assert engine.l1.look("shop:product:2") is not None
    assert cache.get("product:1") == "new"
    assert rules_of(cache).is_idle()
