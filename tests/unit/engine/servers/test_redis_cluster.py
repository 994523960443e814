"""The masters of a cluster as an engine knows them: which map counts, and its life."""

from __future__ import annotations

import os
import random
import threading
import time

import pytest
from redis.credentials import CredentialProvider

from cachebridge.bus import master_watch
from cachebridge.bus.master_watch import MasterWatch
from cachebridge.bus.thread import BusThread
from cachebridge.config import EngineOptions
from cachebridge.engine.servers import redis_cluster as module
from cachebridge.engine.servers.redis_cluster import RedisCluster
from cachebridge.l2.cluster.slots import SLOTS, SlotMap
from cachebridge.l2.location import parse_location
from cachebridge.testing import redis_cluster
from cachebridge.testing.asking import ask
from tests.clusters import key_at, knows, make_hooks, open_cluster
from tests.rig import (
    PATIENCE_S,
    PATIENT,
    breaker_of,
    bus_of,
    engine_of,
    eventually,
    listening,
    lone_cache,
    never_open,
    stores_of,
)
from tests.sides import SIDES, on_side

A, B, C = (("127.0.0.1", port) for port in (1, 2, 3))
HALF = SLOTS // 2


def half_each(epoch, one=A, other=B, *, is_whole=True):
    ranges = {one: ((0, HALF - 1),), other: ((HALF, SLOTS - 1),)}
    return SlotMap(epoch, is_whole, dict(sorted(ranges.items())))


class Events:
    """A cluster whose nodes are not there, and what it tells."""

    def __init__(self, **options):
        self.told = []
        self.masters = RedisCluster(
            parse_location("redis+cluster://127.0.0.1:1"),
            EngineOptions(**options),
            never_open(),
            make_hooks(),
            narrow=lambda message, groups: [message for _ in groups],
        )
        self.masters.on_change = self.told.append
        self.masters.on_masters = lambda: self.told.append("follow")

    def use(self, found, before=None):
        return self.masters._use(found, before or self.masters.map)

    def labels(self):
        return [each.location.label for each in self.masters.all()]


@pytest.fixture
def lone():
    return Events()


def test_the_map_says_who_has_a_slot(lone):
    """Slots of no master are asked for at any node."""
    (seed,) = lone.masters.all()
    assert lone.masters.owner(0) is seed
    found = SlotMap(1, True, {A: ((0, 9), (20, 29)), B: ((10, 19),)})
    assert lone.use(found) is found
    one, other = lone.masters.all()
    assert [lone.masters.owner(slot) for slot in (0, 10, 29, 30)] == [
        *(one, other, one, seed)
    ]
    assert lone.labels() == ["redis://127.0.0.1:1", "redis://127.0.0.1:2"]
    assert lone.told == ["the cluster has other masters", "follow"]


def test_a_node_that_is_cut_off(lone):
    """Its map has an older epoch, and it says itself that it is not whole."""
    new = half_each(7, one=C)
    lone.use(new)
    old = half_each(6, is_whole=False)
    assert lone.use(old) is new
    assert lone.masters.map is new
    assert lone.labels()[1].endswith(":3")


def test_two_threads_ask_at_once(lone):
    """The slower one has asked before a failover: its map is not used."""
    before = half_each(5)
    lone.use(before)
    new = half_each(6, one=C)
    lone.use(new)
    assert lone.use(half_each(5), before) is new
    assert lone.masters.map is new


def test_a_cluster_that_was_made_anew(lone):
    """At the same addresses: its epoch is lower, and all of it works."""
    lone.use(half_each(9))
    fresh = half_each(1, one=C)
    assert lone.use(fresh) is fresh
    assert lone.masters.map is fresh


def test_what_follows_a_map_is_repeated(lone):
    """It may have been interrupted: each look at the map says who the masters are."""
    lone.use(half_each(1))
    lone.told.clear()
    lone.use(half_each(1))
    assert lone.told == ["follow"]


def test_a_move_that_the_map_does_not_know(lone):
    """A node tells of it; the next map decides, also if it is the same as before."""
    lone.use(half_each(1))
    one, other = lone.masters.all()
    assert lone.masters.moved(5, B) is other
    assert lone.masters.owner(5) is other
    assert lone.told[-1] == "follow"
    lone.use(half_each(1))
    assert lone.masters.owner(5) is one
    assert not lone.masters.has_guests()


def test_a_guest(lone, monkeypatch):
    """Trust ends before it is asked; it is forgotten when it was not asked for long."""
    lone.use(half_each(1))
    lone.told.clear()
    guest = lone.masters.asked(C)
    assert lone.told == ["a node answers that is not in the map", "follow"]
    assert lone.masters.has_guests()
    assert lone.masters.asked(C) is guest
    assert len(lone.told) == 2
    lone.use(half_each(1))
    assert lone.masters.has_guests()
    assert guest in lone.masters.servers
    monkeypatch.setattr(
        module, "time", type("Later", (), {"monotonic": lambda: time.monotonic() + 9})
    )
    lone.use(half_each(1))
    assert not lone.masters.has_guests()
    assert guest not in lone.masters.servers


def test_a_guest_that_becomes_a_master(lone):
    """It stays the same server, with its connections."""
    lone.use(half_each(1))
    guest = lone.masters.asked(C)
    lone.use(half_each(2, one=C))
    assert lone.masters.owner(0) is guest
    assert not lone.masters.has_guests()


def test_a_guest_meets_a_new_map(lone):
    """No server is lost between the two: each is known, to be closed at the end."""
    barrier = threading.Barrier(2)
    seen = []

    def ask_guest(number):
        barrier.wait(PATIENCE_S)
        seen.append((number, lone.masters.asked(("127.0.0.1", number))))

    for epoch in range(1, 60):
        asking = threading.Thread(target=ask_guest, args=(100 + epoch,))
        asking.start()
        barrier.wait(PATIENCE_S)
        lone.use(half_each(epoch, one=C if epoch % 2 else A))
        asking.join(PATIENCE_S)
        number, server = seen[-1]
        assert lone.masters._servers[("127.0.0.1", number)] is server


def test_masters_that_change_are_counted(lone):
    """Not slots that move between them: a scan goes on then."""
    lone.use(half_each(1))
    first = lone.masters.changes
    moved = SlotMap(2, True, {A: ((0, HALF),), B: ((HALF + 1, SLOTS - 1),)})
    lone.use(moved)
    assert lone.masters.changes == first
    lone.use(half_each(3, one=C))
    assert lone.masters.changes == first + 1


def test_a_scan_begins_anew_with_other_masters(lone, monkeypatch):
    """It would pass one over: masters are numbered, and the numbers are others now."""
    from cachebridge.l2.redis.store import RedisStore
    from cachebridge.waiting.run import run

    scanned = []

    async def scan(store, pattern, cursor, *_count, **_records):
        scanned.append((store.client.label[-1], cursor))
        return (0 if cursor else 7), [f"{len(scanned)}"]

    async def look(_side):
        """Nothing has changed, a master would say."""

    monkeypatch.setattr(RedisStore, "scan", scan)
    monkeypatch.setattr(lone.masters, "look", look)
    lone.use(half_each(1))
    cursor, _ = run(lone.masters.threads.scan("*", 0))
    cursor, _ = run(lone.masters.threads.scan("*", cursor))
    cursor, _ = run(lone.masters.threads.scan("*", cursor))
    assert scanned == [("1", 0), ("1", 7), ("2", 0)]
    scanned.clear()
    lone.use(half_each(2, one=C))
    while cursor:
        cursor, _ = run(lone.masters.threads.scan("*", cursor))
    assert scanned == [("2", 0), ("2", 7), ("3", 0), ("3", 7)]


class Rotating(CredentialProvider):
    """Streams credentials, and keeps those who are told of them."""

    def __init__(self):
        self.listeners = []
        self.asked = 0

    def get_credentials(self):
        self.asked += 1
        return ("user", f"secret-{self.asked}")

    def on_next(self, listener):
        self.listeners.append(listener)

    def on_error(self, listener):
        pass


def test_one_login_for_all_nodes():
    """A provider is followed once, and new credentials go to every node."""
    provider = Rotating()
    lone = Events(credential_provider=provider)
    lone.use(half_each(1))
    lone.masters.asked(C)
    assert len(provider.listeners) == 1
    lone.masters._logins.get_credentials()
    assert {server.pool.login for server in lone.masters.servers} == {None}
    lone.masters._logins.get_credentials()
    (login,) = {server.pool.login for server in lone.masters.servers}
    assert b"secret-2" in login


# -- the thread that asks --------------------------------------------------------------


def threads():
    return [each for each in threading.enumerate() if "cachebridge-" in each.name]


def watching(asked, on_tick=lambda: None):
    return MasterWatch(
        asked, on_move=lambda _reason: None, on_tick=on_tick, label="a cluster"
    )


def test_a_watch_that_is_stopped_while_it_asks():
    """It opens a connection, for which it would be started: by itself it is not."""
    inside, go_on = threading.Event(), threading.Event()

    def ask_nodes():
        inside.set()
        assert go_on.wait(PATIENCE_S)
        watch.start()
        return ""

    watch = watching(ask_nodes)
    before = set(threads())
    watch.start()
    assert inside.wait(PATIENCE_S)
    watch.stop()
    go_on.set()
    eventually(lambda: not set(threads()) - before)
    assert not watch.is_alive()
    watch.start()  # a caller may
    assert watch.is_alive()
    watch.stop()


def test_a_listener_that_connects_late_starts_no_watch():
    """It may have been stopped while it connects, and so may its cache."""
    watch = watching(lambda: "")
    listener = BusThread(watch.start, "cachebridge-listener")
    listener.start()
    listener.join(PATIENCE_S)
    assert not listener.is_alive()
    assert not watch.is_alive()


def test_a_watch_ticks_while_no_node_answers():
    """So that it ends with the last cache, also in an outage."""
    ticks = []

    def ask_nodes():
        raise ConnectionError("refused")

    watch = watching(ask_nodes, lambda: ticks.append(1))
    watch.start()
    eventually(lambda: ticks)
    watch.stop()
    eventually(lambda: not watch.is_alive())


# -- on real nodes ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(shared_server):
    with redis_cluster(replicas=0, require_full_coverage=False) as made:
        yield made


@pytest.fixture
def cache(cluster):
    return lone_cache(cluster.url, key_prefix="", **PATIENT)


def test_it_listens_before_the_first_command(cache):
    """A bus that was started needs no caller to learn of the masters."""
    listening(cache)
    assert len(stores_of(cache).redis_cluster.all()) == 3
    health = cache.health()
    assert health.l1_trusted
    assert health.l2_reachable
    assert health.error == ""
    assert health.servers_away == ()
    assert health.role == "master"


def test_the_shared_random_is_the_users(cluster):
    """Which numbers it gives does not depend on us."""
    random.seed(7)
    expected = [random.random() for _ in range(3)]
    random.seed(7)
    masters = open_cluster(cluster.url, **PATIENT)[1]
    for _ in range(3):
        masters.refresh()
    masters._find_node()
    assert [random.random() for _ in range(3)] == expected


def test_the_end_leaves_no_thread(cache):
    """Neither listeners nor the watch; a later use starts all of them again."""
    others = set(threads())  # of tests before

    def own():
        return {each for each in threads() if each not in others}

    listening(cache)
    names = [each.name for each in own()]
    assert names.count("cachebridge-listener") == 3
    assert names.count("cachebridge-watch") == 1
    bus = bus_of(cache)
    engine_of(cache).stop()
    bus.join(PATIENCE_S)
    eventually(lambda: not [each for each in own() if "janitor" not in each.name])
    cache.set("again", 1)
    assert cache.get("again") == 1


def test_a_slot_moves(cluster, cache):
    """Callers follow at once; trust lasts, since both masters are proven."""
    listening(cache)
    source, target = cluster.masters()[:2]
    key = key_at(source, "moves")
    cache.set(key, 1)
    flushes = cache.stats().flushes
    cluster.move_slot(cluster_slot(key), target)
    assert cache.set(key, 2)
    assert cache.get(key) == 2
    assert ask(target, "EXISTS", key) == 1
    assert cache.stats().trusted
    assert cache.stats().flushes == flushes
    cluster.move_slot(cluster_slot(key), source)
    assert cache.get(key) == 2


def cluster_slot(key):
    return module.slot_of(key.encode())


def test_a_master_is_added_and_removed(cluster, cache):
    """L1 rests from the first request to it until it has a session, and begins anew."""
    listening(cache)
    first = cluster.masters()
    key = key_at(first[0], "added")
    cache.set(key, 1)
    added = cluster.add_master()
    flushes = cache.stats().flushes["subscribe"]
    cluster.move_slot(cluster_slot(key), added)
    assert cache.get(key) == 1
    knows(cache, *first, added)
    eventually(lambda: cache.stats().trusted)
    assert cache.stats().flushes["subscribe"] > flushes
    server = next(
        each
        for each in stores_of(cache).redis_cluster.all()
        if each.location.label.endswith(f":{added.port}")
    )
    cluster.move_slot(cluster_slot(key), first[0])
    knows(cache, *first)
    eventually(lambda: cache.stats().trusted)
    assert cache.get(key) == 1
    eventually(lambda: server.pool.take_oldest() is None)
    assert server not in stores_of(cache).redis_cluster.servers
    assert len([t for t in threads() if t.name == "cachebridge-listener"]) == 3


def test_a_fork(cluster, cache):
    """The child has connections of its own, the parent keeps its own."""
    listening(cache)
    keys = [key_at(node, "fork") for node in cluster.masters()]
    for key in keys:
        cache.set(key, "parent")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answers = [cache.get(key) for key in keys]
            for key in keys:
                cache.set(key, "child")
            listening(cache)
            os.write(write, b"yes" if answers == ["parent"] * 3 else b"no!")
        except BaseException as exc:
            os.write(write, repr(exc).encode()[:99])
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 100) == b"yes"
    os.close(read)
    os.close(write)
    eventually(lambda: [cache.get(key) for key in keys] == ["child"] * 3)
    assert cache.stats().trusted


def test_slots_without_a_master(cluster, cache):
    """Their keys alone are degraded; when they are served again, so are the keys."""
    listening(cache)
    node, other = cluster.masters()[:2]
    key, fine = key_at(node, "unserved"), key_at(other, "unserved")
    cache.set(fine, 1)
    slot = cluster_slot(key)
    for each in cluster.masters():
        ask(each, "CLUSTER DELSLOTS", slot)
    eventually(lambda: cache.set(key, 1) is False)
    assert cache.get(key, "default") == "default"
    assert cache.get(fine) == 1
    assert cache.set(fine, 2)
    assert not breaker_of(cache).is_open
    for each in cluster.masters():
        ask(each, "CLUSTER SETSLOT", slot, "NODE", node.id)
    eventually(lambda: cache.set(key, 3))
    assert cache.get(key) == 3


def test_seeds_that_are_down(cluster, free_port):
    """Any that answers will do; without one each call has its documented fallback."""
    cache = lone_cache(f"{cluster.url},127.0.0.1:{free_port}", **PATIENT)
    cache.set("key", 1)
    assert cache.get("key") == 1
    nowhere = lone_cache(f"redis+cluster://127.0.0.1:{free_port}", breaker_failures=1)
    assert nowhere.get("key", "default") == "default"
    assert nowhere.set("key", 1) is False
    assert not nowhere.health().l2_reachable
    assert breaker_of(nowhere).is_open


def test_nodes_that_do_not_say_their_host(shared_server):
    """The map and redirects then name ports alone: the host is that of the node."""
    unknown = ("--cluster-preferred-endpoint-type", "unknown-endpoint")
    with redis_cluster(masters=2, args=unknown) as made:
        cache = listening(lone_cache(made.url, key_prefix="", **PATIENT))
        source, target = made.masters()
        key = key_at(source)
        cache.set(key, 1)
        made.begin_move(cluster_slot(key), target)
        made.move_keys(cluster_slot(key), target)
        with cache.bypass_l1():
            assert cache.get(key) == 1  # by ASK
        made.move_slot(cluster_slot(key), target)
        assert cache.set(key, 3)  # by MOVED
        assert ask(target, "EXISTS", key) == 1
        assert {
            each.location.label for each in stores_of(cache).redis_cluster.all()
        } == {f"redis://127.0.0.1:{node.port}" for node in made.masters()}


def test_health_names_a_master_that_is_away(cluster):
    """And its keys alone are degraded."""
    cache = lone_cache(cluster.url, key_prefix="", breaker_failures=1, **PATIENT)
    node, other = cluster.masters()[:2]
    listening(cache)
    key, fine = key_at(node, "away"), key_at(other, "away")
    cache.set(fine, 1)
    cluster.kill(node)
    try:
        assert cache.set(key, 1) is False
        assert cache.health().servers_away == (f"redis://127.0.0.1:{node.port}",)
        assert cache.get(fine) == 1
        assert not breaker_of(cache).is_open
        assert cache.get_many([key, fine]) == {fine: 1}
    finally:
        node.restart()
        cluster.wait_until_ready()
    eventually(lambda: cache.health().servers_away == ())
    eventually(lambda: cache.stats().trusted)


@pytest.mark.parametrize("side", SIDES)
def test_clear_finds_keys_that_have_moved(side, monkeypatch):
    """Also at a master that has joined since the watch asked for the map."""
    monkeypatch.setattr(master_watch, "INTERVAL_S", 600.0)
    options = {"on_error": "raise", "key_prefix": side, **PATIENT}
    with redis_cluster(masters=1) as made:
        cache = on_side(side, lone_cache(made.url, **options))
        key = f"{{{side}}}"
        cache.set(key, 1)
        made.move_slot(module.slot_of(side.encode()), to=made.add_master())
        assert cache.clear()
        assert cache.get(key) is None
