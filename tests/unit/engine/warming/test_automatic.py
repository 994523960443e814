"""L1_WARM: what one worker had in L1, the next one reads, and nothing else."""

from __future__ import annotations

import os
import threading

import pytest
import redis

from cachebridge import ABSENT
from cachebridge.config import parse_options
from cachebridge.engine.binding import Binding
from cachebridge.engine.warming import automatic
from cachebridge.engine.warming.automatic import BATCH
from cachebridge.engine.warming.lists import (
    ANY_HOST,
    KEPT_MS,
    ORDERED,
    decode_list,
    encode_list,
    name_of_host,
)
from tests.rig import (
    PATIENCE_S,
    PATIENT,
    after_heartbeats,
    engine_of,
    entries_of,
    eventually,
    held_reads,
    l1_of,
    l2_of,
    lone_cache,
    refreshed,
    rules_of,
)

WARM = {**PATIENT, "l1_warm": True, "bus_heartbeat": 0.05}
COUNT = 2 * BATCH + 10


def worker(url, **options):
    """Return the cache of a new worker that listens."""
    cache = lone_cache(url, **{**WARM, "key_prefix": "shop:", **options})
    engine_of(cache).listening.start()
    eventually(lambda: cache.stats().trusted)
    return cache


def end(cache):
    """End the worker as its exit does."""
    engine_of(cache).stop(patience_s=2.0)


def has_looked(cache):
    """Wait until the worker has read the lists, and has nothing to do."""
    warm_up = engine_of(cache).warm_up
    eventually(lambda: warm_up._work.todo is not None)
    refreshed(cache)
    return cache


def read_all(cache, count=COUNT):
    cache.set_many({f"product:{n}": n for n in range(count)})
    return [f"shop:product:{n}" for n in range(count)]


def test_a_recycled_worker(redis_url):
    """At exit a worker leaves its list; the next has the same L1, without a read."""
    first = has_looked(worker(redis_url))
    keys = read_all(first)
    end(first)
    second = worker(redis_url)
    eventually(lambda: len(l1_of(second)) == COUNT)
    assert set(l1_of(second).all_keys()) == set(keys)
    stats = second.stats()
    assert (stats.warmed, stats.l2_hits, stats.misses) == (COUNT, 0, 0)
    assert second.get("product:5") == 5
    assert second.stats().l1_hits == 1


def test_off_by_default(redis_url):
    """Without the option nothing is published and nothing read."""
    first = worker(redis_url, l1_warm=False)
    read_all(first, 5)
    end(first)
    assert l2_of(first).kept_list(name_of_host()) is None
    published = has_looked(worker(redis_url))
    read_all(published, 5)
    end(published)
    second = worker(redis_url, l1_warm=False)
    after_heartbeats(second, 3)
    assert len(l1_of(second)) == 0


def test_absences_are_not_published(redis_url):
    """What does not exist is no key to read ahead."""
    cache = has_looked(worker(redis_url, negative_ttl=60))
    cache.set("a", 1)
    assert cache.get_or_load("nothing", lambda: ABSENT) is None
    assert len(l1_of(cache)) == 2
    end(cache)
    assert decode_list(l2_of(cache).kept_list(ANY_HOST)) == [("shop:", ["a"])]


def test_every_minute(redis_url, monkeypatch):
    """A worker that goes on publishes, too; the youngest keys come first."""
    monkeypatch.setattr(automatic, "EVERY_S", 0.1)
    cache = has_looked(worker(redis_url))
    read_all(cache, 3)
    wanted = [("shop:", ["product:2", "product:1", "product:0"])]
    l2 = l2_of(cache)
    for name in (name_of_host(), ANY_HOST):
        eventually(lambda name=name: decode_list(l2.kept_list(name)) == wanted)


def test_another_host(redis_url):
    """A host without a list takes the newest of any host."""
    cache = lone_cache(redis_url, key_prefix="shop:")
    cache.set_many({"a": 1, "b": 2})
    l2_of(cache).keep_list(ANY_HOST, encode_list([("shop:", ["a"])]), KEPT_MS)
    eventually(lambda: "shop:a" in entries_of(engine_of(worker(redis_url))))
    l2_of(cache).keep_list(name_of_host(), encode_list([("shop:", ["b"])]), KEPT_MS)
    second = worker(redis_url)
    eventually(lambda: list(entries_of(engine_of(second))) == ["shop:b"])


def test_an_order(redis_url, monkeypatch):
    """What an operator has ordered is read by workers that run, and by new ones."""
    monkeypatch.setattr(automatic, "EVERY_S", 0.1)
    cache = has_looked(worker(redis_url))
    cache.set_many({"a": 1, "b": 2})
    rules_of(cache).flush("clear")
    l2_of(cache).keep_list(ORDERED, encode_list([("shop:", ["a", "b"])]), KEPT_MS)
    eventually(lambda: len(l1_of(cache)) == 2)
    rules_of(cache).flush("clear")
    after_heartbeats(cache, 5)  # it is carried out once
    assert len(l1_of(cache)) == 0
    eventually(lambda: len(l1_of(worker(redis_url))) == 2)


def test_never_past_the_capacity(redis_url):
    """The list ends where L1 is full; nothing is evicted for it."""
    first = has_looked(worker(redis_url))
    read_all(first)
    end(first)
    second = worker(redis_url, l1_max_entries=BATCH + 100)
    eventually(lambda: len(l1_of(second)) == BATCH + 100)
    after_heartbeats(second, 3)
    assert second.stats().evictions == 0
    assert second.stats().warmed == BATCH + 100


def test_full_by_bytes(redis_url):
    """The first eviction ends it as well."""
    first = has_looked(worker(redis_url))
    first.set_many({f"{n}": "x" * 10_000 for n in range(3 * BATCH)})
    end(first)
    bound = BATCH * 11_000
    second = worker(redis_url, l1_max_bytes=bound, l1_max_entry_bytes=20_000)
    eventually(lambda: second.stats().evictions)
    refreshed(second)
    assert second.stats().warmed <= 2 * BATCH
    assert l1_of(second).bytes <= bound


def test_excluded_since(redis_url):
    """Keys that a new release excludes from L1 stay out, though the list has them.

    A write of them would have no message.
    """
    first = has_looked(worker(redis_url))
    first.set_many({"basket:1": 1, "product:1": 1})
    end(first)
    second = worker(redis_url, l1_exclude=["basket:"])
    eventually(lambda: len(l1_of(second)) == 1)
    has_looked(second)
    assert list(entries_of(engine_of(second))) == ["shop:product:1"]


def test_caches_that_are_made_later(redis_url):
    """Each cache fills its own keys, once it is there, with its own serializer."""
    first = has_looked(worker(redis_url))
    first.set("a", [1])
    lone_cache(redis_url, **WARM, key_prefix="other:", serializer="json").set("b", [2])
    runs = [("shop:", ["a"]), ("other:", ["b"]), ("gone:", ["c"])]
    l2_of(first).keep_list(name_of_host(), encode_list(runs), KEPT_MS)
    second = worker(redis_url)
    eventually(lambda: len(l1_of(second)) == 1)
    after_heartbeats(second, 3)
    engine = engine_of(second)
    assert list(entries_of(engine)) == ["shop:a"]

    _, options = parse_options({"SERIALIZER": "json", "KEY_PREFIX": "other:"})
    binding = Binding(engine, options)
    binding.makes_keys_by("other:")
    eventually(lambda: len(l1_of(second)) == 2)
    binding.remember("b", "other:b")
    assert binding.local_get("b") == [2]


def test_a_command_does_not_replace_the_list_of_workers(redis_url):
    """A process with few keys leaves the list that it has found."""
    first = has_looked(worker(redis_url))
    read_all(first, 20)
    end(first)
    found = l2_of(first).kept_list(name_of_host())
    command = worker(redis_url, l1_max_entries=5)
    has_looked(command)
    end(command)
    assert l2_of(first).kept_list(name_of_host()) == found


def test_a_stop_ends_it(redis_url):
    """After the end of the cache no batch is read."""
    first = has_looked(worker(redis_url))
    read_all(first, 3 * BATCH)
    end(first)
    second = lone_cache(redis_url, **WARM, key_prefix="shop:")
    engine = engine_of(second)
    target = engine.warm_up.targets["shop:"]
    read, go_on, batches = threading.Event(), threading.Event(), []

    async def warm(_io, keys):
        batches.append(keys)
        read.set()
        assert go_on.wait(30)
        return True

    target.warm = warm
    engine.listening.start()
    assert read.wait(30)
    stopped = threading.Thread(target=second.close)
    stopped.start()
    stopped.join()
    go_on.set()
    eventually(engine.refresher.is_idle)
    assert len(batches) == 1
    assert not engine.listening.is_running()


def test_a_fork(redis_url):
    """A child begins anew: it reads the list although its parent has."""
    first = has_looked(worker(redis_url))
    read_all(first, 20)
    end(first)
    parent = worker(redis_url)
    eventually(lambda: len(l1_of(parent)) == 20)
    has_looked(parent)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            engine_of(parent).listening.start()
            eventually(lambda: len(l1_of(parent)) == 20)
            os.write(writer, b"warm")
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        assert file.read() == b"warm"
    os.waitpid(pid, 0)


def test_lists_that_cannot_be_used(redis_url, caplog):
    """The worker begins cold, and the log tells once; callers notice nothing."""
    with redis.Redis.from_url(redis_url) as client:
        client.hset(f"cachebridge:warm:{ORDERED}", "no", "text")
    cache = has_looked(worker(redis_url))
    cache.set("a", 1)
    assert cache.get("a") == 1
    after_heartbeats(cache, 5)
    (told,) = [each for each in caplog.messages if "L1_WARM" in each]
    assert "WRONGTYPE" in told


@pytest.mark.parametrize("with_bus", [True, False])
def test_memcached(shared_memcached, redis_url, with_bus):
    """The list is an item that no caller's key names."""
    options = {"bus_location": redis_url} if with_bus else {"bus": "none"}
    options["key_prefix"] = f"warm-{with_bus}:"
    first = has_looked(worker(shared_memcached.url, **options))
    read_all(first, 20)
    end(first)
    second = worker(shared_memcached.url, **options)
    eventually(lambda: len(l1_of(second)) == 20)


def test_a_write_during_the_fill(redis_url):
    """A key that is written while a batch is on its way is never stale in L1."""
    first = has_looked(worker(redis_url))
    read_all(first, 10)
    end(first)
    second = lone_cache(redis_url, **WARM, key_prefix="shop:")
    read, go_on = held_reads(second)
    engine_of(second).listening.start()
    assert read.wait(PATIENCE_S)
    writer = lone_cache(redis_url, key_prefix="shop:")
    writer.set("product:3", "new")
    after_heartbeats(second)
    go_on.set()
    eventually(lambda: len(l1_of(second)) == 9)
    assert "shop:product:3" not in entries_of(engine_of(second))
    assert second.get("product:3") == "new"
