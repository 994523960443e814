"""An engine over Sentinel: it follows the master, for threads and tasks.

Two sentinels that know nothing of each other name different masters.  The second one
has seen the later failover: started in the midst of a test, it makes the master move.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref
from contextlib import suppress

import pytest
import redis
from redis.exceptions import LockNotOwnedError

from cachebridge import Cache
from cachebridge.engine.extras.clients import client_for_tasks, client_for_threads
from cachebridge.engine.extras.locks import LockKeeper, ThreadLock
from cachebridge.errors import ConfigError
from cachebridge.testing.ports import free_port
from cachebridge.testing.processes import started
from cachebridge.testing.sentinels import SentinelServer
from cachebridge.testing.servers import find_redis_server
from cachebridge.waiting.io import THREADS
from tests.rig import (
    PATIENT,
    binding_of,
    breaker_of,
    bus_of,
    engine_of,
    eventually,
    listening,
    lone_cache,
    pool_of,
    stores_of,
    until,
)

NAME = "m"


class Moving:
    """Two servers, and the sentinels that name the one or the other the master."""

    def __init__(self, old, new):
        self.old, self.new = old, new
        self._ports = [free_port(), free_port()]
        self._running = [self._sentinel(old, 1)]

    def _sentinel(self, master, epoch):
        lines = [
            f"sentinel monitor {NAME} {master.host} {master.port} 1",
            f"sentinel down-after-milliseconds {NAME} 600000",
            f"sentinel config-epoch {NAME} {epoch}",
        ]
        program, port = find_redis_server(), self._ports[epoch - 1]
        return started(SentinelServer(program, lines, port))

    @property
    def url(self):
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._ports)
        return f"redis+sentinel://{hosts}/{NAME}/0"

    def move(self):
        """Start the sentinel that knows of the failover."""
        self._running.append(self._sentinel(self.new, 2))

    def stop(self):
        for each in self._running:
            each.stop()


@pytest.fixture(scope="module")
def servers(shared_server):
    from cachebridge.testing import redis_server

    with redis_server() as old, redis_server() as new:
        yield old, new


@pytest.fixture
def moving(servers):
    for each in servers:
        with redis.Redis(port=each.port) as client:
            client.flushall()
    made = Moving(*servers)
    yield made
    made.stop()


def has(server, key):
    with redis.Redis(port=server.port) as client:
        return any(key.encode() in name for name in client.scan_iter("*"))


def watch_of(cache):
    return stores_of(cache).bus._watch


def moves_of(cache):
    """Return the list of the moves that the engine has made, from now on."""
    watch, moves = watch_of(cache), []
    move = watch._on_move

    def moving(reason):
        move(reason)
        moves.append(reason)

    watch._on_move = moving
    return moves


@pytest.mark.parametrize("l1_max_entries", [0, 100])
def test_threads_follow_the_master(moving, l1_max_entries):
    """Idle connections are not used again, with L1 or without."""
    cache = lone_cache(moving.url, l1_max_entries=l1_max_entries, **PATIENT)
    cache.set("first", 1)
    assert has(moving.old, "first")
    assert cache.health().server.startswith(f"127.0.0.1:{moving.old.port} ")
    if l1_max_entries:
        listening(cache)
    moving.move()

    def moved():
        cache.set("second", 2)
        return has(moving.new, "second")

    eventually(moved)
    assert cache.health().server.startswith(f"127.0.0.1:{moving.new.port} ")
    if l1_max_entries:
        eventually(lambda: cache.stats().trusted)
        assert cache.get("first") is None  # it was never there


def test_tasks_follow_the_master(moving):
    """They share the connections of threads."""
    cache = lone_cache(moving.url, l1_max_entries=0, **PATIENT)

    async def use():
        await cache.aset("first", 1)
        moves = moves_of(cache)
        moving.move()
        await until(lambda: moves)
        await cache.aset("second", 2)

    asyncio.run(use())
    assert has(moving.new, "second")


def test_a_connection_in_use_is_not_kept(moving):
    """What was under way at the move is not given to the next caller."""
    cache = lone_cache(moving.url, l1_max_entries=0, **PATIENT)
    cache.set("first", 1)
    pool = pool_of(cache)
    link = pool.take_now()
    moves = moves_of(cache)
    moving.move()
    eventually(lambda: moves)
    pool.give_back(link)
    cache.set("second", 2)
    assert has(moving.new, "second")
    assert not has(moving.old, "second")


def test_the_bus_follows_the_master(moving):
    """Messages of the new master arrive; L1 keeps nothing from the old one."""
    cache = listening(lone_cache(moving.url, **PATIENT))
    cache.set("key", "old")
    moving.move()
    other = lone_cache(moving.new.url, **PATIENT)
    other.set("key", "new")
    eventually(lambda: cache.get("key") == "new")
    eventually(lambda: cache.stats().trusted)
    eventually(lambda: cache.get("key") and cache.stats().l1_entries)
    other.set("key", "newer")
    eventually(lambda: cache.get("key") == "newer")


def test_an_outage_ends_with_the_failover(moving, redis_server_factory):
    """The breaker does not wait for its next trial when there is a new master."""
    dying = redis_server_factory()
    moving = Moving(dying, moving.new)
    cache = lone_cache(
        moving.url, l1_max_entries=0, breaker_failures=1, breaker_retry=600.0
    )
    cache.set("first", 1)
    dying.kill()
    eventually(lambda: cache.set("first", 2) or breaker_of(cache).is_open)
    moving.move()
    eventually(lambda: not breaker_of(cache).is_open)
    cache.set("second", 2)
    assert has(moving.new, "second")
    moving.stop()


def test_the_watch_ends_with_the_engine(moving):
    """It starts with the first connection, and again after a stop."""
    cache = lone_cache(moving.url, l1_max_entries=0, **PATIENT)
    watch = watch_of(cache)
    assert not watch.is_alive()
    cache.set("key", 1)
    assert watch.is_alive()
    engine_of(cache).stop()
    eventually(lambda: not watch.is_alive())
    assert cache.get("key") == 1
    assert watch.is_alive()


def test_a_child_of_a_fork_watches_for_itself(moving):
    """It has connections and a watch of its own, and leaves the parent's alone."""
    cache = lone_cache(moving.url, l1_max_entries=0, **PATIENT)
    cache.set("key", 1)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        said = b"no"
        try:
            before = watch_of(cache).is_alive()
            if not before and cache.get("key") == 1 and watch_of(cache).is_alive():
                said = b"yes"
        finally:
            os.write(write, said)
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 10) == b"yes"
    os.close(read)
    os.close(write)
    assert cache.get("key") == 1


def test_without_a_user_it_ends(moving, monkeypatch):
    """A process that has dropped its caches has no thread that asks for ever."""
    cache = lone_cache(moving.url, l1_max_entries=0, **PATIENT)
    cache.set("key", 1)
    engine, watch = engine_of(cache), watch_of(cache)
    monkeypatch.setattr("cachebridge.engine.messages.listening.UNUSED_S", 0.0)
    gone = weakref.ref(cache)
    assert binding_of(cache)
    del cache
    gc.collect()
    assert gone() is None
    eventually(lambda: not watch.is_alive())
    assert engine.listening.bus is None


def test_many_threads_connect_at_once(moving):
    """Each finds the master, though they share what asks the sentinels."""
    cache = lone_cache(moving.url, l1_max_entries=0, **PATIENT)
    barrier, failures = threading.Barrier(16), []

    def use(number):
        barrier.wait()
        cache.set(f"k{number}", number)
        if cache.get(f"k{number}") != number:
            failures.append(number)

    threads = [threading.Thread(target=use, args=(each,)) for each in range(16)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not failures


def test_messages_over_sentinel(moving, shared_memcached):
    """The Redis that carries Memcached's messages may be one of Sentinel's."""
    cache = lone_cache(shared_memcached.url, bus_location=moving.url, **PATIENT)
    listening(cache)
    cache.set("of-sentinel", 1)
    moving.move()
    eventually(lambda: f":{moving.new.port} " in cache.health().server)
    eventually(lambda: cache.stats().trusted)
    assert bus_of(cache).is_alive()


def test_keys_over_sentinel_and_messages_beside(moving, redis_url):
    """The keys follow the master; the bus, and trust in L1, have no part in it."""
    cache = listening(lone_cache(moving.url, bus_location=redis_url, **PATIENT))
    cache.set("of-sentinel", 1)
    flushes = cache.stats().flushes
    moving.move()
    eventually(lambda: f":{moving.new.port} " in cache.health().server)
    assert cache.set("of-sentinel", 2)
    assert cache.stats().trusted
    assert cache.stats().flushes == flushes


@pytest.mark.parametrize("url", ["redis://a", "memory://", "memcached://a"])
def test_sentinel_kwargs_without_sentinels(url):
    """They would have no effect: an error says so."""
    with pytest.raises(ConfigError, match="SENTINEL_KWARGS"):
        Cache(url, sentinel_kwargs={"password": "x"})


def test_redis_pys_lock_and_client_are_at_the_master(moving):
    """The lock's keeper follows it as every call does; the client asks sentinels."""
    cache = lone_cache(moving.url, **PATIENT)
    lock = ThreadLock(LockKeeper(engine_of(cache), THREADS), "the-lock")
    with lock:
        assert has(moving.old, "the-lock")
    assert not has(moving.old, "the-lock")
    client = client_for_threads(engine_of(cache))
    client.set("by-client", 1)
    assert has(moving.old, "by-client")

    async def use():
        async with client_for_tasks(engine_of(cache)) as client:
            await client.set("by-task", 1)

    asyncio.run(use())
    assert has(moving.old, "by-task")
    moving.move()

    def moved():
        with suppress(LockNotOwnedError), lock:  # lost with the old master
            return has(moving.new, "the-lock")

    eventually(moved)
