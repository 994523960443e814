"""Memcached as L2, Redis as its bus: what holds, and what is bounded instead."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import ExitStack, suppress

import pytest

from cachebridge import Cache, ConfigError, L2Error, UnsupportedOperationError
from cachebridge.codec.messages import MessageType
from cachebridge.core import loading
from cachebridge.engine.messages import outbox as outbox_module
from cachebridge.testing import FaultProxy, memcached_server
from cachebridge.waiting.run import run
from tests.failover import two_servers
from tests.rig import (
    PATIENCE_S,
    breaker_of,
    bus_breaker_of,
    cluster_of,
    each_reaches,
    engine_of,
    eventually,
    l2_of,
    listening,
    lone_cache,
    outbox_of,
    pending_deletes_of,
    rules_of,
    spying,
    stores_of,
)
from tests.sides import SIDES, on_side

FAST = {"bus_heartbeat": 0.05, "breaker_retry": 0.05, "socket_connect_timeout": 1.0}


@pytest.fixture
def memcached(shared_memcached):
    return shared_memcached.url


@pytest.fixture
def prefix(request):
    return f"{request.node.name}-{time.monotonic_ns()}:"


@pytest.fixture
def make(memcached, redis_url, prefix):
    """Return a function that makes a cache as in a process of its own."""

    def make(**options):
        given = {"bus_location": redis_url, "key_prefix": prefix, **FAST, **options}
        return lone_cache(memcached, **given)

    return make


@pytest.fixture
def own():
    """Start a server of the test's own, to be killed."""
    with memcached_server() as server:
        yield server


# -- messages -------------------------------------------------------------------------


def test_a_write_reaches_the_other_process(make):
    """Every kind of change is told, and L1 answers in between."""
    ours, theirs = listening(make()), listening(make())
    changes = [
        (lambda: ours.set("k", 1), 1),
        (lambda: ours.set_many({"k": 2, "l": 1}), 2),
        (lambda: ours.incr("k"), 3),
        (lambda: ours.decr("k", 5), -2),
        (lambda: ours.delete("k"), None),
        (lambda: ours.add("k", 4), 4),
        (lambda: ours.delete_many(["k", "l"]), None),
        (lambda: ours.get_or_load("k", lambda: 5), 5),
        (ours.clear, None),
    ]
    each_reaches(changes, ours, theirs)


@pytest.mark.parametrize("by_tasks", [False, True], ids=["threads", "tasks"])
def test_one_message_per_change(make, redis_url, by_tasks, awaited):
    """I10: one message per call, none for what changed nothing."""
    cache = make()
    rules_of(cache).on_subscribed()
    with spying(redis_url) as spy:
        if by_tasks:
            awaited(cache.aset_many({f"k{number}": number for number in range(300)}))
            awaited(cache.adelete("gone"))
            awaited(cache.aadd("k1", 1))
            awaited(cache.atouch("gone"))
        else:
            cache.set_many({f"k{number}": number for number in range(300)})
            cache.delete("gone")
            cache.add("k1", 1)
            cache.touch("gone")
        messages = spy.messages()
    assert [len(message.keys) for message in messages] == [300, 1]


@pytest.fixture
def awaited():
    """Return a function that runs one coroutine after another on one loop."""
    import asyncio

    with asyncio.Runner() as runner:
        yield runner.run


def test_messages_are_owed_while_the_bus_is_away(make, bus):
    """Each key once; the other process hears of them when the bus is back."""
    ours, theirs = make(bus_location=bus.url), make(bus_location=bus.url)
    listening(ours)
    listening(theirs)
    ours.set_many({"k": 1, "l": 1})
    assert theirs.get_many(["k", "l"]) == {"k": 1, "l": 1}
    bus.kill()
    for number in range(50):
        assert ours.set("k", number)
    ours.delete("l")
    assert ours.health().messages_owed == 2
    eventually(lambda: not theirs.stats().trusted)
    assert theirs.get("k") == 49  # Memcached is there
    assert theirs.get("l") is None
    bus.restart()
    eventually(lambda: theirs.stats().trusted)
    assert theirs.get("k") == 49
    eventually(lambda: ours.health().messages_owed == 0)


def test_the_next_message_takes_the_others_along(make, bus):
    """Without a listener there is no heartbeat to go by."""
    ours = make(bus_location=bus.url, l1_max_entries=0)
    bus.kill()
    ours.set("k", 1)
    assert len(outbox_of(ours)) == 1
    bus.restart()
    with spying(bus.url) as spy:
        eventually(lambda: ours.set("l", 1) and not len(outbox_of(ours)))
        names = {key for message in spy.messages() for key in message.keys}
    assert any(name.endswith(":k") for name in names)


def test_a_stop_publishes_what_is_owed(make, bus):
    """At the end of a process, for one."""
    ours = make(bus_location=bus.url, l1_max_entries=0)
    bus.kill()
    ours.delete("k")
    bus.restart()
    eventually(lambda: not bus_breaker_of(ours).refuses())
    with spying(bus.url) as spy:
        engine_of(ours).stop()
        assert [len(message.keys) for message in spy.messages()] == [1]


def test_too_many_owed_messages_become_a_clear(make, bus, monkeypatch):
    """Then every L1 is emptied instead."""
    monkeypatch.setattr(outbox_module, "MAX_OWED", 3)
    ours = make(bus_location=bus.url, l1_max_entries=0)
    bus.kill()
    for number in range(5):
        ours.set(f"k{number}", 1)
    assert len(outbox_of(ours)) <= 3
    bus.restart()
    eventually(lambda: not bus_breaker_of(ours).refuses())
    with spying(bus.url) as spy:
        run(outbox_of(ours).flush_if_possible())
        assert MessageType.CLEAR in {message.type for message in spy.messages()}
    assert not len(outbox_of(ours))


@pytest.mark.parametrize("change", ["incr", "add", "set"])
def test_a_change_without_an_answer_is_told(own, redis_url, change):
    """Also if it is carried out long after the caller was told that it failed."""
    options = {"bus_location": redis_url, "on_error": "raise", **FAST}
    ours = listening(lone_cache(own.url, socket_timeout=0.6, **options))
    theirs = listening(lone_cache(own.url, **options))
    calls = {
        "incr": lambda: ours.incr("k"),
        "add": lambda: ours.add("new", 7),
        "set": lambda: ours.set("k", 7),
    }
    key = "new" if change == "add" else "k"
    ours.set("k", 1)
    assert theirs.get("k") == 1
    own.pause()
    with pytest.raises(L2Error):
        calls[change]()
    own.resume()
    with theirs.bypass_l1():
        eventually(lambda: theirs.get(key) != (None if change == "add" else 1))
        new = theirs.get(key)
    eventually(lambda: theirs.get(key) == new)
    eventually(lambda: not ours.health().messages_owed)
    assert theirs.get(key) == new


def test_nothing_is_told_of_what_was_never_sent(own, redis_url):
    """During an outage each process goes on with what its L1 has."""
    options = {"bus_location": redis_url, "bus_heartbeat": 0.1}
    ours, theirs = (listening(lone_cache(own.url, **options)) for _ in range(2))
    ours.set("k", 1)
    eventually(lambda: theirs.get("k") == 1 and theirs.stats().l1_hits)
    own.kill()
    for cache in (ours, theirs):
        while not breaker_of(cache).is_open:
            cache.get("nothing")
    with spying(redis_url) as spy:
        assert ours.set("k", 2) is False
        assert ours.set("new", 3) is False
        assert not len(outbox_of(ours))
        assert spy.messages() == []
    assert (ours.get("k"), ours.get("new"), theirs.get("k")) == (2, 3, 1)
    own.restart()
    eventually(lambda: not ours.health().deletes_owed)
    eventually(lambda: theirs.health().ok and theirs.get("k") is None)


WRITER = textwrap.dedent(
    """
    import os, signal, sys
    from cachebridge import Cache
    from cachebridge.engine.messages.outbox import Sender
    Sender.send = lambda self, message: os.kill(os.getpid(), signal.SIGKILL)
    location, bus, prefix = sys.argv[1:]
    Cache(location, bus_location=bus, key_prefix=prefix).set("k", "new")
    """
)


def test_a_writer_killed_before_its_message(make, memcached, redis_url, prefix):
    """I9 does not hold: peers keep the old value, but for no longer than L1_TTL."""
    reader = listening(make(l1_ttl=1.5))
    reader.set("k", "old")
    assert reader.get("k") == "old"
    writer = subprocess.run(
        [sys.executable, "-c", WRITER, memcached, redis_url, prefix], check=False
    )
    assert writer.returncode == -signal.SIGKILL
    with reader.bypass_l1():
        assert reader.get("k") == "new"
    eventually(lambda: reader.get("k") == "new")


def test_the_killed_writer_would_be_noticed(make, memcached, redis_url, prefix):
    """The bound of the test above is L1_TTL: with a long one the old value stays."""
    reader = listening(make(l1_ttl=600.0))
    reader.set("k", "old", None)
    subprocess.run(
        [sys.executable, "-c", WRITER, memcached, redis_url, prefix], check=False
    )
    assert reader.get("k") == "old"


# -- without a bus --------------------------------------------------------------------


def test_without_a_bus(make, caplog):
    """L1 is bounded by L1_TTL alone; the log says so once, and health() does."""
    ours, theirs = make(bus_location=None, l1_ttl=0.3), make(bus_location=None)
    for _ in range(5):
        ours.get("k")
    theirs.set("k", 1)
    assert ours.get("k") == 1
    theirs.set("k", 2)
    assert ours.get("k") == 1
    eventually(lambda: ours.get("k") == 2)
    said = [text for text in caplog.messages if "BUS_LOCATION" in text]
    assert len(said) == 1
    health = ours.health()
    assert "BUS_LOCATION" in health.bus
    assert health.staleness_bound_s == 0.3
    assert health.ok
    assert ours.stats().messages_sent == 0


def test_the_switch_needs_a_bus(make):
    """Without a bus no peer could be told."""
    with pytest.raises(UnsupportedOperationError, match="BUS_LOCATION"):
        make(bus_location=None).l1_off()


def test_the_switch(make):
    """It is kept where the bus is, and outlasts a clear of everything."""
    ours = listening(make(clear_flushes_db=True))
    theirs = listening(make())
    ours.l1_off()
    eventually(lambda: not theirs.health().l1_enabled)
    ours.clear()
    late = make()
    engine_of(late).listening.start()
    eventually(lambda: not late.health().l1_enabled)
    ours.l1_on()
    eventually(lambda: theirs.health().l1_enabled and late.health().l1_enabled)


# -- loading --------------------------------------------------------------------------


def test_one_load_for_two_processes(make, monkeypatch):
    """The lease holds between them, and the one that waits is told by the bus."""
    monkeypatch.setattr(loading, "POLL_WITH_BUS_S", 600.0)
    ours, theirs = (listening(make(lease_ttl=600.0)) for _ in range(2))
    begun, may_end, loads, answers = threading.Event(), threading.Event(), [], []

    def load():
        loads.append(1)
        begun.set()
        assert may_end.wait(PATIENCE_S)
        return "value"

    def ask(cache):
        answers.append(cache.get_or_load("k", load))

    threads = [threading.Thread(target=ask, args=(cache,)) for cache in (ours, theirs)]
    threads[0].start()
    assert begun.wait(PATIENCE_S)
    threads[1].start()
    eventually(lambda: theirs.stats().lease_waits)
    may_end.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert answers == ["value"] * 2
    assert len(loads) == 1


def test_stale_and_absent(make):
    """STALE_TTL and NEGATIVE_TTL work across processes."""
    ours, theirs = make(negative_ttl=30), make(negative_ttl=30)
    ours.get_or_load("k", lambda: "old", 1, stale_ttl=30)
    eventually(lambda: theirs.get("k") is None)
    assert theirs.get_or_load("k", lambda: "new", 60, stale_ttl=30) == "old"
    eventually(lambda: theirs.get("k") == "new")


# -- outages --------------------------------------------------------------------------


def test_memcached_is_killed_and_returns(own, redis_url):
    """L1 goes on, deletes are pending; when the server is back, empty, all agree."""
    options = {"bus_location": redis_url, **FAST}
    caches = [listening(lone_cache(own.url, **options)) for _ in range(2)]
    ours, theirs = caches
    ours.set_many({"k": 1, "l": 1})
    eventually(lambda: theirs.get("k") == 1 and theirs.stats().l1_hits)
    own.kill()
    assert theirs.get("k") == 1
    assert ours.set("k", 2) is False
    assert ours.delete("l") is False
    assert ours.get("l") is None
    assert ours.get_or_load("m", lambda: "loaded") == "loaded"
    for _ in range(3):
        ours.get("gone")
    health = ours.health()
    assert not health.ok
    assert health.breaker_open
    assert health.deletes_owed == 2
    own.restart()
    eventually(lambda: not ours.health().deletes_owed and ours.health().ok)
    eventually(lambda: theirs.health().ok)
    for cache in caches:
        eventually(lambda cache=cache: cache.get_many(["k", "l", "m"]) == {})


def test_memcached_sleeps_and_wakes_with_old_values(own, redis_url):
    """What was changed meanwhile is deleted before a caller reads it."""
    options = {"bus_location": redis_url, "socket_timeout": 0.6, **FAST}
    ours = listening(lone_cache(own.url, **options))
    ours.set_many({"k": "old", "l": "same"})
    own.pause()
    assert ours.set("k", "new") is False
    own.resume()
    # Memcached may carry the late ``set`` out before the delete, or after it.
    assert ours.get("k") in {None, "new"}
    eventually(lambda: ours.get("l") == "same")
    eventually(lambda: not ours.health().deletes_owed)
    assert ours.get("k") in {None, "new"}


# -- several servers ------------------------------------------------------------------


class Traffic:
    """Threads that read and write all keys, and note what must not happen."""

    def __init__(self, caches, keys, dead):
        self._keys = keys
        self._dead = dead
        self._stopping = threading.Event()
        self.wrong = []
        self.done = [0] * len(caches)
        self._threads = [
            threading.Thread(target=self._run, args=(number, cache))
            for number, cache in enumerate(caches)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc):
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, me, cache):
        while not self._stopping.is_set():
            self.done[me] += 1
            try:
                lost = self._call(cache, self.done[me]) - self._dead
            except Exception as exc:
                self.wrong.append(exc)
            else:
                self.wrong.extend(lost)

    def _call(self, cache, number):
        """Make one call, and return the keys that it has missed."""
        key = self._keys[number * 7 % len(self._keys)]
        if number % 10 == 0:
            cache.set(key, number)
            return set()
        if number % 10 == 1:
            some = self._keys[number % 150 :][:50]
            return set(some) - set(cache.get_many(some))
        return {key} if cache.get(key) is None else set()


def test_one_of_three_is_killed_and_returns(redis_url):
    """Under load: get never raises, only that server's keys are missed; then all agree.

    The others' keys are never missed.
    """
    with ExitStack() as running:
        servers = [running.enter_context(memcached_server()) for _ in range(3)]
        url = "memcached://" + ",".join(f"{s.host}:{s.port}" for s in servers)
        options = {"bus_location": redis_url, "l1_max_entries": 50, **FAST}
        caches = [listening(lone_cache(url, **options)) for _ in range(2)]
        cluster = cluster_of(caches[0])
        keys = [f"k{number}" for number in range(200)]
        dead = {key for key in keys if cluster.place_of(key).node == 1}
        assert 20 < len(dead) < 120
        caches[0].set_many(dict.fromkeys(keys, 0))
        with Traffic(caches, keys, dead) as traffic:
            eventually(lambda: min(traffic.done) > 100)
            servers[1].kill()
            eventually(lambda: caches[0].health().servers_away)
            assert caches[0].health().l2_reachable
            seen = list(traffic.done)
            eventually(lambda: min(map(int.__sub__, traffic.done, seen)) > 300)
            servers[1].restart()
            eventually(lambda: not caches[0].health().servers_away)
            seen = list(traffic.done)
            eventually(lambda: min(map(int.__sub__, traffic.done, seen)) > 300)
        assert not traffic.wrong, traffic.wrong[:3]
        eventually(lambda: not any(c.health().deletes_owed for c in caches))
        eventually(lambda: not any(c.health().messages_owed for c in caches))
        with caches[0].bypass_l1():
            truth = caches[0].get_many(keys)
        eventually(lambda: all(c.get_many(keys) == truth for c in caches))
        assert set(keys) - set(truth) <= dead


def test_clears_are_pending_for_one_of_three(redis_url):
    """The server is cleared once heartbeats find it back, without any caller."""
    with ExitStack() as running:
        servers = [running.enter_context(memcached_server()) for _ in range(3)]
        url = "memcached://" + ",".join(f"{s.host}:{s.port}" for s in servers)
        options = {"bus_location": redis_url, "key_prefix": "p:", **FAST}
        ours = listening(lone_cache(url, socket_timeout=0.6, **options))
        keys = [f"k{number}" for number in range(60)]
        ours.set_many(dict.fromkeys(keys, 1))
        servers[1].pause()
        assert ours.clear() is False
        assert ours.health().deletes_owed
        servers[1].resume()
        cluster = cluster_of(ours)
        eventually(lambda: not cluster.is_behind)
        theirs = lone_cache(url, **options)
        assert theirs.get_many(keys) == {}


# -- options --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "options", "says"),
    [
        (
            "memory://",
            {"bus_location": "redis://x"},
            "BUS_LOCATION is for redis:// and",
        ),
        (
            "memcached://a",
            {"bus_location": "memcached://b"},
            "must be the URL of a Redis",
        ),
        ("memcached://a", {"bus_location": "x:secret@y"}, "BUS_LOCATION: LOCATION"),
        ("memcached://a", {"client_kwargs": {"password": "secret"}}, "no_delay"),
    ],
)
def test_unusable_options(location, options, says):
    """Each is named, with what would do, and without its secrets."""
    with pytest.raises(ConfigError, match=says) as raised:
        Cache(location, **options)
    assert "secret" not in str(raised.value)


def test_two_caches_of_one_engine_share_its_bus():
    """Another bus would be another L1."""
    nowhere = "memcached://127.0.0.1:2"
    Cache(nowhere, bus_location="redis://:secret@127.0.0.1:1/0")
    with pytest.raises(ConfigError, match="BUS_LOCATION") as raised:
        Cache(nowhere, bus_location="redis://:secret@127.0.0.1:1/1")
    assert "secret" not in str(raised.value)


def test_a_forked_child_starts_anew(make):
    """It owes nothing of its parent's, and talks over connections of its own."""
    ours = make()
    ours.set("k", 1)
    outbox_of(ours)._owed[MessageType.KEYS, "x"] = None
    child = os.fork()
    if not child:
        good = ours.get("k") == 1 and not len(outbox_of(ours)) and ours.set("k", 2)
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert ours.get("k") in {1, 2}


# -- what a review found --------------------------------------------------------------


@pytest.fixture
def trio(redis_url):
    """Return three servers, and a function that makes caches over all of them."""
    with ExitStack() as running:
        servers = [running.enter_context(memcached_server()) for _ in range(3)]
        url = "memcached://" + ",".join(f"{s.host}:{s.port}" for s in servers)

        def make(**options):
            given = {"bus_location": redis_url, "socket_timeout": 0.3}
            return lone_cache(url, **{**given, "key_prefix": "p:", **FAST, **options})

        yield servers, make


def test_what_was_read_before_a_late_clear_goes(trio, monkeypatch):
    """A peer that has asked the server that was back before it was cleared."""
    servers, make = trio
    ours, theirs = listening(make()), listening(make(l1_ttl=600.0))
    keys = [f"k{number}" for number in range(60)]
    ours.set_many(dict.fromkeys(keys, "old"), None)
    stores = stores_of(ours)
    node = stores.cluster.nodes[1]
    lost = [key for key in keys if stores.cluster.place_of(f"p:{key}").node == 1]
    catch_up = stores.catch_up

    async def nothing():
        pass

    monkeypatch.setattr(stores, "catch_up", nothing)
    servers[1].pause()
    assert ours.clear() is False
    assert ours.health().deletes_owed == 1
    servers[1].resume()

    def have_come_in():
        hits = theirs.stats().l1_hits
        found = theirs.get_many(lost)
        return found and theirs.stats().l1_hits == hits + len(lost)

    eventually(have_come_in)  # what is to be cleared, into L1
    monkeypatch.setattr(stores, "catch_up", catch_up)
    eventually(lambda: not node.owed_clears)
    eventually(lambda: theirs.get_many(keys) == {})
    assert ours.get_many(keys) == {}


def test_a_clear_that_is_owed_anew_during_its_replay(trio, monkeypatch):
    """It is replayed once more, which clears what was written in between."""
    _, make = trio
    ours = make(bus_location=None)
    engine = engine_of(ours)
    cluster = engine.stores.cluster
    node = cluster.nodes[1]
    key = next(k for k in map(str, range(99)) if cluster.place_of(f"p:{k}").node == 1)
    ours.get(key)
    node.owe_clear("p:")
    send = node.client.run

    async def send_and_owe(request, read):
        replies = await send(request, read)
        if b"cas cachebridge-clears" in request.packed:
            monkeypatch.setattr(node.client, "run", send)
            ours.get(key)  # replays the clear
            await engine.l2.store([(f"p:{key}", b"1")], None, None)
            node.owe_clear("p:")
        return replies

    monkeypatch.setattr(node.client, "run", send_and_owe)
    assert ours.get(key) is None
    with ours.bypass_l1():
        assert ours.get(key) is None
    assert not node.owed_clears


def test_flushing_while_one_is_away(trio):
    """The others are flushed, once, and go on; so does it when it is back."""
    servers, make = trio
    ours = listening(make(clear_flushes_db=True))
    keys = [f"k{number}" for number in range(60)]
    ours.set_many(dict.fromkeys(keys, 1))
    servers[0].pause()
    assert ours.clear() is False
    shards = stores_of(ours).split([f"p:{key}" for key in keys])
    first = cluster_of(ours).nodes[0]
    alive = [
        key.removeprefix("p:")
        for shard in shards
        for key in shard
        if cluster_of(ours).place_of(key).node
    ]
    assert len(alive) > 20
    ours.set_many(dict.fromkeys(alive, 2))
    with ours.bypass_l1():
        assert ours.get_many(alive) == dict.fromkeys(alive, 2)
    servers[0].resume()
    eventually(lambda: not first.owed_clears)
    with ours.bypass_l1():
        assert ours.get_many(keys) == dict.fromkeys(alive, 2)


def test_too_many_pending_deletes_of_one_server(trio):
    """They become a clear of that server, not of the others."""
    servers, make = trio
    ours = listening(make())
    engine = engine_of(ours)
    engine.outage.pending_deletes._limit = 5
    keys = [f"k{number}" for number in range(90)]
    dead, alive = [], []
    for key in keys:
        number = engine.stores.cluster.place_of(f"p:{key}").node
        (dead if number == 1 else alive).append(key)
    ours.set_many(dict.fromkeys(keys, "old"))
    servers[1].pause()
    for key in dead[:12]:
        ours.set(key, "new")
    with ours.bypass_l1():
        assert len(ours.get_many(alive)) == len(alive)
    servers[1].resume()
    eventually(lambda: not ours.health().deletes_owed)
    with ours.bypass_l1():
        assert len(ours.get_many(alive)) == len(alive)
        assert ours.get_many(dead[:12]) == {}


def test_a_fork_of_several_servers(trio):
    """The child's breakers are closed, and what it owes is published."""
    servers, make = trio
    ours = make(breaker_retry=30.0)
    for server in servers:
        server.pause()
    for number in range(30):
        ours.get(f"k{number}")
    assert ours.health().breaker_open
    for server in servers:
        server.resume()
    done = threading.Event()
    engine_of(ours).refresher.submit("one", done.set)
    assert done.wait(PATIENCE_S)
    eventually(lambda: engine_of(ours).refresher._idle)  # its thread is no more there
    child = os.fork()
    if not child:
        good = ours.set("k", 1) and not breaker_of(ours).is_open
        outbox = outbox_of(ours)
        outbox.owe(engine_of(ours).outgoing.prefix_message("x"))
        eventually(lambda: not len(outbox))
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_logging_may_use_the_cache(trio):
    """Nothing is locked while a server's return is logged."""
    servers, make = trio
    ours = make()
    for server in servers:
        server.pause()
    for number in range(30):
        ours.get(f"k{number}")
    assert breaker_of(ours).is_open
    for server in servers:
        server.resume()
    seen = []

    class Handler(logging.Handler):
        def emit(self, record):
            seen.append((record, ours.get("k0"), ours.get("k1"), ours.get("k2")))

    def ping():
        while not seen:
            with suppress(L2Error):  # a server that has just woken up
                l2_of(ours).ping()

    logger, handler = logging.getLogger("cachebridge"), Handler()
    logger.addHandler(handler)
    try:
        thread = threading.Thread(target=ping, daemon=True)
        thread.start()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    finally:
        logger.removeHandler(handler)
    assert seen


def test_an_interrupted_message_is_owed(make, monkeypatch, redis_url):
    """Also that of a clear: the change has been made."""
    ours = make(l1_max_entries=0)
    ours.set("k", 1)
    bus = outbox_of(ours)._bus
    publish = bus.publish

    async def interrupted(message):
        monkeypatch.setattr(bus, "publish", publish)
        raise KeyboardInterrupt

    with spying(redis_url) as spy:
        for change in (lambda: ours.set("k", 2), ours.clear):
            monkeypatch.setattr(bus, "publish", interrupted)
            with pytest.raises(KeyboardInterrupt):
                change()
            eventually(lambda: not len(outbox_of(ours)))
        kinds = [message.type for message in spy.messages()]
    assert kinds == [MessageType.KEYS, MessageType.PREFIX]


def test_what_is_owed_anew_is_told_anew(make, monkeypatch):
    """A change of the key while its message goes out needs another one."""
    ours = make(l1_max_entries=0)
    outbox = outbox_of(ours)
    message = engine_of(ours).outgoing.prefix_message("x")
    monkeypatch.setattr(outbox, "_catch_up", lambda: None)
    outbox.owe(message)
    publish = outbox._bus.publish
    published = []

    async def publish_slowly(frame):
        await publish(frame)
        published.append(frame)
        if len(published) == 1:
            outbox.owe(message)

    monkeypatch.setattr(outbox._bus, "publish", publish_slowly)
    run(outbox.flush_if_possible())
    assert len(outbox) == 0
    assert len(published) == 2


def test_an_own_owed_message_is_no_echo(make):
    """It drops what this process has read meanwhile."""
    ours = listening(make())
    with ours.bypass_l1():
        pass
    ours.delete("k")
    engine = engine_of(ours)
    key = f"{ours._prefix}k"
    l2_of(ours).store([(key, b"1")], None, None)
    eventually(lambda: ours.get("k") == 1 and ours.stats().l1_entries)
    l2_of(ours).store([(key, b"2")], None, None)
    outbox_of(ours).owe(engine.outgoing.load_ended(key))
    eventually(lambda: ours.get("k") == 2)


def test_the_bound_of_staleness(make):
    """Where a change and its message are two steps nothing but L1_TTL is sure."""
    assert make(l1_ttl=33.0).health().staleness_bound_s == 33.0


def test_all_that_is_too_large_is_counted(make):
    """Whatever was to store it."""
    ours = make()
    ours.set("k", 1)
    huge = "x" * (1 << 20)
    assert ours.set("k", huge) is False
    assert ours.set_many({"k": huge, "l": 1}) == ["k"]
    assert ours.add("k", huge) is False
    assert ours.get_or_load("k", lambda: huge) == huge
    assert ours.stats().too_large == 4
    assert ours.get("k") is None
    assert ours.get("l") == 1


@pytest.mark.parametrize("side", SIDES)
def test_the_bus_fails_over(shared_memcached, monkeypatch, side):
    """A demoted bus vouches for nothing: messages go to its successor from then on."""
    options = {"bus_heartbeat": 0.05, "bus_trust": 60.0}
    with two_servers("name", monkeypatch) as pair:
        cache = lone_cache(shared_memcached.url, bus_location=pair.url, **options)
        face = on_side(side, listening(cache))
        face.set("k", "v")
        pair.replicate()
        pair.fail_over()
        eventually(lambda: not pair.callers(pair.at_old))
        eventually(lambda: cache.stats().trusted)
        with spying(f"redis://{pair.new.host}:{pair.new.port}/0") as spy:
            face.set("k", "w")
            assert len(spy.messages()) == 1
        assert cache.health().role == "master"


def test_a_late_delete_leaves_what_a_new_server_has(own, prefix):
    """A Memcached that was restarted has lost all old values: what it has is newer."""
    options = {"key_prefix": prefix, **FAST}
    late, peer = (lone_cache(own.url, **options) for _ in range(2))
    assert peer.set("k", "old")
    assert late.get("k") == "old"
    own.kill()
    assert not late.set("k", "failed")
    assert not late.set("other", "failed")
    pending = pending_deletes_of(late)
    for key, (stamp, began) in pending._keys.items():
        pending._keys[key] = stamp, began - 10  # the outage has lasted so long
    own.restart()
    eventually(lambda: peer.set("k", "later"))
    eventually(lambda: late.get("third") is None and not pending_deletes_of(late))
    assert late.get("k") == peer.get("k") == "later"
    assert peer.get("other") is None


def test_a_delete_that_failed_after_a_restart_is_made_up_for(own, prefix):
    """Also by a process that has not yet noticed it: what is there may be older."""
    with FaultProxy(own.host, own.port) as way:
        late = lone_cache(f"memcached://127.0.0.1:{way.port}", key_prefix=prefix)
        peer = lone_cache(own.url, key_prefix=prefix, **FAST)
        assert late.set("k", "old")
        own.restart()
        eventually(lambda: peer.set("k", "later"))
        way.refuse()
        way.cut()
        assert not late.delete("k")
        way.restore()
        eventually(lambda: late.get("third") is None and not pending_deletes_of(late))
        assert late.get("k") is None
        assert peer.get("k") is None
