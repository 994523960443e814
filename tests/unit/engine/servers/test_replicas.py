"""Reads from a replica, on real servers whose replication can be held up."""

from __future__ import annotations

import pytest
import redis

from cachebridge.core.outage import NEVER
from cachebridge.testing import FaultProxy, redis_server
from cachebridge.waiting.run import run
from tests.rig import PATIENT, engine_of, eventually, lone_cache, rules_of
from tests.sides import SIDES, on_loop, on_side

OPTIONS = {
    "replicas": "near",
    "on_error": "raise",
    "l1_exclude": ["session"],
    "l1_max_entry_bytes": 1,  # so that reads go to L2
    "bus_heartbeat": 0.05,
    **PATIENT,
}


class Pair:
    """A primary, a replica, and the way that the replica's stream takes."""

    def __init__(self, primary, replica, way):
        self.way = way
        self.servers = primary, replica
        self.urls = [primary.url, replica.url]
        self.primary, self.replica = (redis.Redis.from_url(url) for url in self.urls)

    def reads(self):
        """Count what each has been asked for by GET."""
        stats = [each.info("commandstats") for each in (self.primary, self.replica)]
        return [each.get("cmdstat_get", {}).get("calls", 0) for each in stats]


@pytest.fixture
def pair():
    with (
        redis_server(args=("--repl-diskless-sync-delay", "0")) as primary,
        redis_server() as replica,
        FaultProxy(primary.host, primary.port) as way,
    ):
        made = Pair(primary, replica, way)
        made.replica.replicaof("127.0.0.1", way.port)
        eventually(
            lambda: made.replica.info("replication")["master_link_status"] == "up"
        )
        yield made
        made.primary.close()
        made.replica.close()


def proven(cache, url):
    """Let the cache listen, until it reads from this replica."""
    engine_of(cache).listening.start()
    eventually(lambda: cache.health().replica == url.rstrip("/"))
    return cache


def settled(cache):
    """Wait for the heartbeat that covers all that the primary has said."""
    rules = rules_of(cache)
    now = rules.clock()
    eventually(lambda: rules.proven_at(2.0) > now)
    return cache


def lagging(pair, cache, key):
    """Let the replica still have "old" at a key where the primary has "new"."""
    other = lone_cache(pair.urls[0], on_error="raise", **PATIENT)
    other.set(key, "old")
    settled(cache)
    pair.way.silence()
    other.set(key, "new")


def deleted(pair, cache, key):
    """Let the replica still have a key that the primary has lost."""
    cache.set(key, "old")
    settled(cache)
    pair.way.silence()
    pair.primary.delete(cache._full_key_of(key))


@pytest.fixture
def cache(pair):
    return proven(lone_cache(pair.urls, **OPTIONS), pair.urls[1])


@pytest.mark.parametrize("side", SIDES)
def test_reads_go_to_the_replica(pair, cache, side):
    """Single reads, batches and questions for existence; writes do not."""
    there = on_side(side, cache)
    there.set_many({"x1": 1, "x2": 2})
    settled(cache)
    before, calls = pair.reads(), pair.primary.info("commandstats")
    assert there.get("x1") == 1
    assert there.get("none") is None
    assert there.get_many(["x1", "x2"]) == {"x1": 1, "x2": 2}
    assert there.has_key("x2")
    after = pair.primary.info("commandstats")
    assert pair.reads()[1] >= before[1] + 2
    for name in ("cmdstat_get", "cmdstat_exists", "cmdstat_evalsha"):
        assert after.get(name, {}).get("calls") == calls.get(name, {}).get("calls")


def test_own_writes_are_seen_at_once(pair, cache):
    """While the replica lacks them, and the bus has not brought them back."""
    cache.set("x", "old")
    settled(cache)
    assert cache.get("x") == "old"
    pair.way.silence()
    for number in range(20):
        cache.set("x", number)
        assert cache.get("x") == number
        assert cache.get_many(["x"]) == {"x": number}
    cache.delete("x")
    assert cache.get("x") is None
    assert not cache.has_key("x")


def test_no_read_goes_back(pair, cache):
    """What the primary has shown is not followed by what the replica still has."""
    lagging(pair, cache, "x")
    assert cache.get("x") == "old", "the replica may lag"
    assert cache.get_or_load("x", lambda: "loaded") == "new"
    assert cache.get("x") == "new"


def test_a_replica_that_lags_too_far_is_not_read(pair, cache):
    """After BUS_TRUST nothing proves that it has the last writes."""
    deleted(pair, cache, "x")
    eventually(lambda: cache.get("x") is None)
    assert cache.health().replica == ""
    pair.way.restore()
    eventually(lambda: cache.health().replica)


def test_a_lock_protects_what_is_read(pair, cache):
    """The replica may lack what the last owner of the lock has written."""
    lagging(pair, cache, "x")
    assert cache.add("lock", 1)
    assert cache.get("x") == "new"


def test_keys_that_l1_never_holds_are_read_at_the_primary(pair, cache):
    """Sessions: the next request may come to another process."""
    lagging(pair, cache, "session:1")
    assert cache.get("session:1") == "new"
    assert cache.get_many(["session:1", "x"]) == {"session:1": "new"}


def test_past_a_bypass_the_primary_is_read(pair, cache):
    """It shows what is true now."""
    deleted(pair, cache, "x")
    with cache.bypass_l1():
        assert cache.get("x") is None


def test_l1_is_coherent(pair):
    """The messages come through the replica, behind the changes."""
    options = {**OPTIONS, "l1_max_entry_bytes": 1024}
    cache = proven(lone_cache(pair.urls, **options), pair.urls[1])
    other = lone_cache(pair.urls[0], on_error="raise", **PATIENT)
    for number in range(20):
        other.set("k", number)
        eventually(lambda number=number: cache.get("k") == number)
        cache.get("k")
    assert cache.stats().l1_hits


def test_a_replica_that_dies(pair, cache):
    """The primary answers; when the replica is back, it is read again."""
    cache.set("x", "v")
    settled(cache)
    pair.servers[1].kill()
    for _ in range(5):
        assert cache.get("x") == "v"
    pair.servers[1].restart()
    pair.replica.replicaof("127.0.0.1", pair.way.port)
    eventually(lambda: cache.health().replica)


def test_a_replica_that_is_given_a_snapshot(pair):
    """Its subscribers stay, and have missed the messages of what the snapshot has."""
    patient = {"l1_max_entry_bytes": 1024, "bus_trust": 30.0}
    cache = lone_cache(pair.urls, **{**OPTIONS, **patient})
    proven(cache, pair.urls[1])
    other = lone_cache(pair.urls[0], on_error="raise", **PATIENT)
    other.set("k", "old")
    eventually(lambda: cache.get("k") == "old")
    pair.primary.config_set("repl-backlog-size", 16384)
    pair.way.refuse()
    pair.way.cut()
    other.set("k", "new")
    other.set("other", "x" * 100_000)  # more than the backlog
    pair.way.restore()
    eventually(lambda: cache.get("k") == "new")


def test_the_nearest_stays_while_it_is_heard(pair, cache):
    """Also where a subscription is renewed while a lock is being proven."""
    replicas = engine_of(cache).stores.replicas
    chosen = []
    replicas._nearest = lambda: chosen.append(1)
    rules = rules_of(cache)
    rules.enter_bypass(rules)
    assert replicas._proven() == NEVER
    replicas.make_connection().disconnect()
    rules.leave_bypass(rules)
    assert chosen == []


@pytest.mark.parametrize("side", SIDES)
def test_lists_of_keys_are_kept_at_the_primary(pair, cache, side):
    """A replica refuses them."""
    engine = engine_of(cache)
    if side == "threads":
        run(engine.l2.keep_list("abc", b"1", 60_000))
    else:
        on_loop(engine.l2_for_tasks.keep_list, "abc", b"1", 60_000)
    assert pair.primary.get("cachebridge:warm:abc") == b"1"


def test_the_next_replica_is_taken(pair):
    """If the first cannot be reached."""
    urls = [pair.urls[0], "redis://127.0.0.1:1/0", pair.urls[1]]
    proven(lone_cache(urls, **OPTIONS), pair.urls[1])
