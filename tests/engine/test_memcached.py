"""Memcached behind L1, Redis as its bus: what holds, and what is bounded instead."""

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
from cachebridge.engine import outbox as outbox_module
from cachebridge.testing import memcached_server, redis_server
from tests.rig import engine_of, eventually, listening, lone_cache, spying

FAST = {"bus_heartbeat": 0.05, "breaker_retry": 0.05, "socket_connect_timeout": 1.0}


@pytest.fixture
def memcached(shared_memcached):
    return shared_memcached.url


@pytest.fixture
def prefix(request):
    return f"{request.node.name}-{time.monotonic_ns()}:"


@pytest.fixture
def bus():
    """Start a bus of the test's own, to be killed."""
    with redis_server() as server:
        yield server


@pytest.fixture
def make(memcached, redis_url, prefix):
    """Return a function that makes a cache as in a process of its own."""

    def make(**options):
        given = {"bus_location": redis_url, "key_prefix": prefix, **FAST, **options}
        return lone_cache(memcached, **given)

    return make


def outbox_of(cache):
    return engine_of(cache).stores.outbox


def bus_breaker_of(cache):
    return outbox_of(cache)._bus._client.server.breaker


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
    for change, value in changes:
        theirs.get("k")
        hits = theirs.stats().l1_hits
        seen = theirs.get("k")
        assert theirs.stats().l1_hits == hits + (seen is not None)
        change()
        eventually(lambda value=value: theirs.get("k") == value)
        assert ours.get("k") == value


@pytest.mark.parametrize("by_tasks", [False, True], ids=["threads", "tasks"])
def test_one_message_per_change(make, redis_url, by_tasks, awaited):
    """I10: one message per call, none for what changed nothing."""
    cache = make()
    engine_of(cache).rules.on_subscribed()
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
    """Where nobody listens there is no heartbeat to go by."""
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
        outbox_of(ours).flush_if_possible()
        assert MessageType.CLEAR in {message.type for message in spy.messages()}
    assert not len(outbox_of(ours))


def test_a_change_without_an_answer_is_told(make, redis_url, memcached):
    """It may have been carried out all the same."""
    del memcached
    with memcached_server() as server:
        cache = lone_cache(
            server.url, bus_location=redis_url, socket_timeout=0.2, **FAST
        )
        server.pause()
        with spying(redis_url) as spy:
            cache.set("k", 1)
            eventually(lambda: [m.keys for m in spy.messages()] == [("k",)])
        server.resume()


WRITER = textwrap.dedent(
    """
    import os, signal, sys
    from cachebridge import Cache
    from cachebridge.engine.outbox import Outbox
    Outbox.send = lambda self, message: os.kill(os.getpid(), signal.SIGKILL)
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
    """Nobody else could be told."""
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
    engine_of(late).listen()
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
        assert may_end.wait(10)
        return "value"

    def ask(cache):
        answers.append(cache.get_or_load("k", load))

    threads = [threading.Thread(target=ask, args=(cache,)) for cache in (ours, theirs)]
    threads[0].start()
    assert begun.wait(10)
    threads[1].start()
    eventually(lambda: theirs.stats().lease_waits)
    may_end.set()
    for thread in threads:
        thread.join(10)
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


@pytest.fixture
def own():
    """Start a server of the test's own, to be killed."""
    with memcached_server() as server:
        yield server


def test_memcached_is_killed_and_returns(own, redis_url):
    """L1 goes on, changes are owed; when it is back, empty, all agree."""
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
    """What was changed meanwhile is deleted before anybody reads it."""
    options = {"bus_location": redis_url, "socket_timeout": 0.2, **FAST}
    ours = listening(lone_cache(own.url, **options))
    ours.set_many({"k": "old", "l": "same"})
    own.pause()
    assert ours.set("k", "new") is False
    own.resume()
    assert ours.get("k") in {None, "new"}
    eventually(lambda: ours.get("k") is None)
    eventually(lambda: ours.get("l") == "same")


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
        cluster = engine_of(caches[0]).stores.cluster
        keys = [f"k{number}" for number in range(200)]
        dead = {key for key in keys if cluster.number_of(key.encode()) == 1}
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


def test_clears_are_owed_to_one_of_three(redis_url):
    """The server is cleared when heartbeats find it back, though nobody uses it."""
    with ExitStack() as running:
        servers = [running.enter_context(memcached_server()) for _ in range(3)]
        url = "memcached://" + ",".join(f"{s.host}:{s.port}" for s in servers)
        options = {"bus_location": redis_url, "key_prefix": "p:", **FAST}
        ours = listening(lone_cache(url, socket_timeout=0.2, **options))
        keys = [f"k{number}" for number in range(60)]
        ours.set_many(dict.fromkeys(keys, 1))
        servers[1].pause()
        assert ours.clear() is False
        assert ours.health().deletes_owed
        servers[1].resume()
        cluster = engine_of(ours).stores.cluster
        eventually(lambda: not cluster.is_behind)
        theirs = lone_cache(url, **options)
        assert theirs.get_many(keys) == {}


# -- options --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "options", "says"),
    [
        ("redis://localhost", {"bus_location": "redis://x"}, "memcached:// alone"),
        ("memory://", {"bus_location": "redis://x"}, "memcached:// alone"),
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
    nowhere = "memcached://127.0.0.1:1"
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
            given = {"bus_location": redis_url, "socket_timeout": 0.2}
            return lone_cache(url, **{**given, "key_prefix": "p:", **FAST, **options})

        yield servers, make


def test_what_was_read_before_a_late_clear_goes(trio, monkeypatch):
    """A peer that has asked the server that was back before it was cleared."""
    servers, make = trio
    ours, theirs = listening(make()), listening(make(l1_ttl=600.0))
    keys = [f"k{number}" for number in range(60)]
    ours.set_many(dict.fromkeys(keys, "old"), None)
    stores = engine_of(ours).stores
    node = stores.cluster.nodes[1]
    lost = [key for key in keys if stores.cluster.number_of(f"p:{key}".encode()) == 1]
    catch_up = stores.catch_up
    monkeypatch.setattr(stores, "catch_up", lambda: None)
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


def test_flushing_while_one_is_away(trio):
    """The others are flushed, once, and go on; so does it when it is back."""
    servers, make = trio
    ours = listening(make(clear_flushes_db=True))
    keys = [f"k{number}" for number in range(60)]
    ours.set_many(dict.fromkeys(keys, 1))
    servers[0].pause()
    assert ours.clear() is False
    shards = engine_of(ours).stores.split([f"p:{key}" for key in keys])
    first = engine_of(ours).stores.cluster.nodes[0]
    alive = [
        key.removeprefix("p:")
        for shard in shards
        for key in shard
        if engine_of(ours).stores.cluster.number_of(key.encode())
    ]
    assert len(alive) > 20
    ours.set_many(dict.fromkeys(alive, 2))
    with ours.bypass_l1():
        assert ours.get_many(alive) == dict.fromkeys(alive, 2)
    servers[0].resume()
    eventually(lambda: not first.owed_clears)
    with ours.bypass_l1():
        assert ours.get_many(keys) == dict.fromkeys(alive, 2)


def test_too_many_owed_deletes_of_one_server(trio):
    """They become a clear of that server, not of the others."""
    servers, make = trio
    ours = listening(make())
    engine = engine_of(ours)
    engine.outage.debts._limit = 5
    keys = [f"k{number}" for number in range(90)]
    dead, alive = [], []
    for key in keys:
        number = engine.stores.cluster.number_of(f"p:{key}".encode())
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
    assert done.wait(5)
    eventually(lambda: engine_of(ours).refresher._idle)  # its thread is no more there
    child = os.fork()
    if not child:
        good = ours.set("k", 1) and not engine_of(ours).breaker.is_open
        outbox = outbox_of(ours)
        outbox.owe(engine_of(ours).prefix_message("x"))
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
    assert engine_of(ours).breaker.is_open
    for server in servers:
        server.resume()
    seen = []

    class Handler(logging.Handler):
        def emit(self, record):
            seen.append((record, ours.get("k0"), ours.get("k1"), ours.get("k2")))

    def ping():
        while not seen:
            with suppress(L2Error):  # a server that has just woken up
                engine_of(ours).l2.ping()

    logger, handler = logging.getLogger("cachebridge"), Handler()
    logger.addHandler(handler)
    try:
        thread = threading.Thread(target=ping, daemon=True)
        thread.start()
        thread.join(10)
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

    def interrupted(message):
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


def test_what_is_owed_anew_stays_owed(make, monkeypatch):
    """A change of the key while its message goes out needs another one."""
    ours = make(l1_max_entries=0)
    outbox = outbox_of(ours)
    message = engine_of(ours).prefix_message("x")
    monkeypatch.setattr(outbox, "_go_on", lambda: None)
    outbox.owe(message)
    publish = outbox._bus.publish
    published = []

    def publish_slowly(frame):
        publish(frame)
        published.append(frame)
        if len(published) == 1:
            outbox.owe(message)

    monkeypatch.setattr(outbox._bus, "publish", publish_slowly)
    outbox.flush_if_possible()
    assert len(outbox) == 1
    outbox.flush_if_possible()
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
    engine.l2.store([(key, b"1")], None, None)
    eventually(lambda: ours.get("k") == 1 and ours.stats().l1_entries)
    engine.l2.store([(key, b"2")], None, None)
    outbox_of(ours).owe(engine.news_of(key))
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
