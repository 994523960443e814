"""What a lock of redis-py's kind protects (I23), beside other programs, in outages."""

from __future__ import annotations

import asyncio
import threading

import pytest
import redis

from cachebridge.django_backend import CacheBridge
from cachebridge.engine.messages import fences
from cachebridge.errors import L2UnavailableError, UnsupportedOperationError
from cachebridge.testing import FaultProxy
from tests.rig import (
    eventually,
    l1_of,
    l2_of,
    listening,
    lone_cache,
    receiver_of,
    rules_of,
    write_behind_of,
)


def test_other_programs_locks(make_lock, redis_url):
    """redis-py and django-redis have the same key and the same kind of token."""
    client = redis.Redis.from_url(redis_url)
    theirs = client.lock(":1:lock", timeout=60)
    assert theirs.acquire()
    assert make_lock().acquire(blocking=False) is False
    theirs.release()
    with make_lock():
        assert theirs.acquire(blocking=False) is False
        assert len(client.get(":1:lock")) == 32
    assert theirs.acquire(blocking=False)


def test_the_owner_reads_what_was_written_before(
    make_lock, cache, redis_url, monkeypatch
):
    """L1 has not heard of the last owner's write; the new owner reads it as well."""
    monkeypatch.setattr(fences, "FENCE_PATIENCE_S", 0.0)
    theirs = listening(lone_cache(redis_url, key_prefix=":1:"))
    cache.set("k", "old")
    eventually(lambda: (cache.get("k"), l1_of(cache).look(":1:k"))[1] is not None)
    receiver, may_go_on = receiver_of(cache), threading.Event()
    on_frame = receiver.on_frame
    receiver.on_frame = lambda frame: may_go_on.wait(30) and on_frame(frame)
    try:
        theirs.set("k", "new")
        assert cache.get("k") == "old"
        lock = make_lock()
        assert lock.acquire()
        assert cache.get("k") == "new"
        assert asyncio.run(cache.aget("k")) == "new"
    finally:
        may_go_on.set()
        del receiver.on_frame
    lock.release()
    eventually(lambda: cache.stats().trusted and cache.get("k") == "new")


def test_who_fails_to_take_it_raises_no_fence(make_lock, cache):
    """Only the owner's reads have to wait."""
    with make_lock():
        eventually(lambda: not rules_of(cache).fences.up)
        assert make_lock().acquire(blocking=False) is False
        assert not rules_of(cache).fences


def test_queued_values_are_sent_before_the_release(make_lock, cache):
    """The next owner, wherever it is, reads what was set under the lock."""
    with make_lock():
        cache.set("k", 1, wait=False)
    assert not write_behind_of(cache).latest
    assert l2_of(cache).get(":1:k")[0] == b"1"


def test_while_redis_is_away(shared_server, redis_url):
    """No lock is taken, and the caller is told, whatever ON_ERROR says."""
    with FaultProxy(shared_server.host, shared_server.port) as proxy:
        url = f"{proxy.url[:-1]}{redis_url.rpartition('/')[2]}"
        cache = CacheBridge(url, {"OPTIONS": {"BREAKER_RETRY": 0.1}})
        lock = cache.lock("k")
        assert lock.acquire()
        proxy.refuse()
        proxy.cut()
        for call in (cache.lock("j").acquire, lock.locked, lock.release):
            with pytest.raises(L2UnavailableError):
                call()
        with pytest.raises(L2UnavailableError):
            asyncio.run(cache.alock("k").acquire())
        proxy.restore()


def test_many_threads_count_under_a_lock(cache):
    """None of them sees an old number: no update is lost."""
    cache.set("n", 0)

    def count():
        for _ in range(10):
            with cache.lock("lock", sleep=0.001, timeout=60):
                cache.set("n", cache.get("n") + 1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert cache.get("n") == 40


def test_memcached_says_that_it_keeps_none(shared_memcached):
    """It may evict a lock; the error names ``add``."""
    cache = CacheBridge(shared_memcached.url, {})
    for make in (cache.lock, cache.alock):
        with pytest.raises(UnsupportedOperationError, match="use add"):
            make("k")
