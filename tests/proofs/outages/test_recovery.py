"""From the first failure to the last pending delete of an outage."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import redis

from cachebridge import Cache, L2Error
from cachebridge.engine.outage import pending_deletes
from cachebridge.testing import FaultProxy
from tests.rig import (
    binding_of,
    breaker_of,
    engine_of,
    eventually,
    followers_in,
    listening,
    lone_cache,
    pending_deletes_of,
    rules_of,
)

FAST = {
    "socket_timeout": 1.0,
    "socket_connect_timeout": 1.0,
    "bus_trust": 1.5,
    "bus_heartbeat": 0.1,
    "breaker_failures": 1,
    "breaker_retry": 0.2,
}


@pytest.fixture
def proxy(shared_server):
    with FaultProxy(shared_server.host, shared_server.port) as proxy:
        yield proxy


@pytest.fixture
def make(proxy, redis_url):
    """Return a function that makes a cache which connects through the proxy."""
    db = redis_url.rsplit("/", 1)[1]

    def make(**options):
        url = proxy.url.replace("/0", f"/{db}")
        return lone_cache(url, **{"key_prefix": "p", **FAST, **options})

    return make


@pytest.fixture
def peer(redis_url):
    """Return a cache of another process, which the faults do not meet."""
    return listening(lone_cache(redis_url, key_prefix="p", **FAST))


@pytest.fixture
def raw(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        yield client


@contextmanager
def away(proxy, *caches):
    """Cut the way to the server, and wait until the breakers are open."""
    proxy.refuse()
    proxy.cut()
    for cache in caches:
        cache.get("opener")
        engine = engine_of(cache)
        assert engine.breaker.is_open
        eventually(lambda: not engine.rules.connected)  # noqa: B023
    yield
    proxy.restore()


def is_back(cache):
    health = cache.health()
    return health.ok and not health.breaker_open and not health.deletes_owed


class Loader:
    """Counts its calls and takes a moment."""

    def __init__(self, value="loaded"):
        self.calls = 0
        self._value = value
        self._lock = threading.Lock()

    def __call__(self):
        with self._lock:
            self.calls += 1
        time.sleep(0.05)  # others come meanwhile; who comes later finds the value
        return self._value


def test_start_while_redis_is_down(redis_server_factory, caplog):
    """A process that starts without Redis serves its loaders' values, and heals."""
    server = redis_server_factory()
    server.kill()
    cache = lone_cache(server.url, key_prefix="p", **FAST)
    loader = Loader()
    assert cache.get("k") is None
    assert cache.get_or_load("k", loader) == "loaded"
    assert cache.get_or_load("k", loader) == "loaded"
    assert loader.calls == 1
    assert not cache.set("other", 1)
    server.restart()

    def is_member():
        cache.get("some key")
        return is_back(cache)

    eventually(is_member)
    assert cache.get("k") is None, "what was loaded meanwhile is gone"
    assert cache.set("k", "stored")
    assert cache.get("k") == "stored"


@pytest.mark.parametrize("change", ["delete", "set", "clear", "set_many", "expire"])
def test_changes_are_replayed_before_the_first_read(make, proxy, raw, change):
    """The old value is deleted before any read of the process could return it."""
    cache = listening(make(bus_heartbeat=10.0, bus_trust=20.0))
    cache.set("k", "old")
    with away(proxy, cache):
        calls = {
            "delete": lambda: cache.delete("k"),
            "set": lambda: cache.set("k", "new"),
            "set_many": lambda: cache.set_many({"k": "new"}),
            "expire": lambda: cache.touch("k", 0),
            "clear": cache.clear,
        }
        calls[change]()
        assert raw.get("pk")
        assert cache.health().deletes_owed == 1
    answers = []

    def answers_nothing():
        answers.append(cache.get("k"))
        return answers[-1] is None and not breaker_of(cache).is_open

    eventually(answers_nothing)
    assert set(answers) <= {None, "new"}  # from L1, while another call tries the server
    assert raw.get("pk") is None
    assert cache.health().deletes_owed == 0


def test_pending_deletes_are_replayed_without_any_call(make, proxy, peer, raw):
    """The heartbeat replays, so peers stop reading the old value without a call."""
    cache = listening(make())
    cache.set("k", "old")
    eventually(lambda: peer.get("k") == "old")
    with away(proxy, cache):
        cache.delete("k")
        assert peer.get("k") == "old", "the peer cannot be told yet"
    eventually(lambda: raw.get("pk") is None)
    eventually(lambda: peer.get("k") is None)


def test_values_are_not_replayed(make, proxy, peer):
    """A value set during the outage never replaces what another process wrote since."""
    cache = listening(make())
    with away(proxy, cache):
        cache.set("k", "mine")
        assert cache.get("k") == "mine"
        peer.set("k", "theirs")
    eventually(lambda: is_back(cache))
    assert cache.get("k") == peer.get("k") == "theirs"


def test_overflow_becomes_a_clear(make, proxy, raw):
    """More pending deletes than are kept: the whole cache goes, and nothing else."""
    cache = listening(make())
    cache.set_many({f"k{number}": number for number in range(30)})
    raw.set("foreign", "stays")
    pending_deletes_of(cache)._limit = 10
    with away(proxy, cache):
        for number in range(20):
            cache.delete(f"k{number}")
        assert cache.health().deletes_owed == 11
    eventually(lambda: is_back(cache))
    assert not raw.keys("pk*")
    assert raw.get("foreign") == b"stays"
    assert cache.health().deletes_lost == 0


def test_overflow_without_a_pattern_is_counted(make, proxy, caplog):
    """A cache that cannot be cleared says how many old values may live on."""
    cache = listening(make(key_prefix=""))
    pending_deletes_of(cache)._limit = 10
    with away(proxy, cache), caplog.at_level(logging.ERROR):
        for number in range(15):
            cache.delete(f"k{number}")
        assert cache.health().deletes_lost == 5
        assert sum("deletes wait" in line for line in caplog.messages) == 1
    assert pending_deletes.MAX_PENDING == 10_000


def test_one_log_line_per_change_of_state(make, proxy, caplog):
    """However many calls fail, an outage is told of once, and its end once."""
    cache = listening(make())
    with caplog.at_level(logging.INFO, "cachebridge.engine"):
        for _ in range(2):
            with away(proxy, cache):
                for number in range(50):
                    cache.get(f"k{number}")
                    cache.set("k", number)
            eventually(lambda: is_back(cache))
    lines = [r.getMessage() for r in caplog.records if r.name == "cachebridge.engine"]
    assert [line.split(",")[0].split(" after")[0] for line in lines] == [
        "the shared store is away",
        "the shared store is back",
    ] * 2


def test_one_log_line_per_refusal(redis_server_factory, caplog):
    """What a server refuses is told of once, and once that it is accepted again."""
    server = redis_server_factory()
    cache = listening(lone_cache(server.url, **FAST))
    with redis.Redis(port=server.port) as admin:
        admin.config_set("maxmemory", "1")
        with caplog.at_level(logging.INFO, "cachebridge.engine"):
            for _ in range(20):
                assert not cache.set("k", "v")
            assert cache.health().refused
            assert not cache.health().ok
            admin.config_set("maxmemory", "0")
            for _ in range(20):
                assert cache.set("k", "v")
    lines = [r.getMessage() for r in caplog.records if r.name == "cachebridge.engine"]
    assert [line.split(":")[0] for line in lines] == [
        "the shared store refuses to write",
        "the shared store accepts to write again",
    ]
    assert cache.health().ok


def test_outage_ttl_bounds_what_was_there_before(make, proxy):
    """Entries of L1 serve for OUTAGE_TTL past their trust, then they are gone."""
    cache = listening(make(outage_ttl=2.0, breaker_retry=60.0))
    cache.set("k", "v")
    began = time.monotonic()  # the trust lasts longer
    with away(proxy, cache):
        if time.monotonic() - began < 1.9:  # the machine may have been busy elsewhere
            assert cache.get("k") == "v"
        eventually(lambda: cache.get("k") is None)
        assert time.monotonic() - began >= 2.0
        assert cache.get_or_load("k", lambda: "anew") == "anew"
        assert cache.get("k") == "anew"


def test_outage_ttl_bounds_what_was_made_meanwhile(make, proxy):
    """What was loaded or written during the outage is kept for OUTAGE_TTL."""
    cache = listening(make(outage_ttl=0.7, breaker_retry=60.0))
    loader = Loader()
    with away(proxy, cache):
        began = time.monotonic()
        cache.set("written", 1)
        cache.get_or_load("k", loader)
        if time.monotonic() - began < 0.6:
            assert cache.get("written") == 1
        eventually(lambda: cache.get("written") is None)
        eventually(lambda: cache.get("k") is None)
        assert cache.get_or_load("k", loader) == "loaded"
        assert loader.calls == 2


def test_outage_ttl_0_serves_nothing(make, proxy):
    """Neither old entries nor new ones."""
    cache = listening(make(outage_ttl=0))
    cache.set("k", "v")
    loader = Loader()
    with away(proxy, cache):
        eventually(lambda: not cache.stats().trusted)
        assert cache.get("k") is None
        cache.set("k", "w")
        assert cache.get("k") is None
        for _ in range(2):
            assert cache.get_or_load("k", loader) == "loaded"
    assert loader.calls == 2


def test_outage_entries_vanish_on_recovery(make, proxy, peer, raw):
    """Nothing that only this process knew outlives the outage."""
    cache = listening(make())
    with away(proxy, cache):
        cache.set("set", 1)
        cache.get_or_load("load", lambda: 2)
        cache.get_or_load("none", lambda: None)
        assert cache.get_many(["set", "load"]) == {"set": 1, "load": 2}
        assert cache.stats().l1_entries == 3
    eventually(lambda: is_back(cache))
    for reader in (cache, peer):
        assert reader.get_many(["set", "load", "none"]) == {}
    assert not raw.keys("p*")
    assert cache.stats().l1_entries == 0


def test_slow_loader_is_kept_although_the_bus_tries_again_and_again(make, proxy):
    """Attempts to subscribe that fail meanwhile have nothing to do with it."""
    cache = listening(make(breaker_retry=60.0))
    loader = Loader()
    with away(proxy, cache):
        engine = engine_of(cache)
        breaks, on_break = [], engine.receiver.on_break

        def counting(reason):
            breaks.append(reason)
            on_break(reason)

        engine.receiver.on_break = counting

        def slow():
            eventually(lambda: len(breaks) >= 2)
            return loader()

        for _ in range(2):
            assert cache.get_or_load("k", slow) == "loaded"
    assert loader.calls == 1


@pytest.mark.parametrize("failures", [0, 1])
def test_64_threads_load_once_during_an_outage(make, proxy, failures):
    """The loader runs once for all who ask together; and is kept while it is open."""
    cache = listening(make(breaker_failures=failures))
    loader = Loader({"list": [1]})

    def load():
        eventually(lambda: followers_in(cache) == 63)
        return loader()

    proxy.refuse()
    proxy.cut()
    cache.get("opener")
    eventually(lambda: not rules_of(cache).connected)
    with ThreadPoolExecutor(64) as pool:
        calls = [pool.submit(cache.get_or_load, "k", load) for _ in range(64)]
        values = [each.result() for each in calls]
    assert values == [{"list": [1]}] * 64
    assert len({id(value) for value in values}) == 64
    assert loader.calls == 1
    cache.get_or_load("k", loader)
    assert loader.calls == (1 if failures else 2)


def test_breaker_failures_0_always_asks(make, proxy):
    """Without a breaker every call tries, and the first after the end succeeds."""
    cache = listening(make(breaker_failures=0))
    cache.set("k", "v")
    proxy.refuse()
    proxy.cut()
    for _ in range(10):
        assert cache.get("other") is None
    assert not cache.health().breaker_open
    assert cache.stats().outages == 0
    assert cache.stats().degraded == 10
    proxy.restore()
    with cache.bypass_l1():
        assert cache.get("k") == "v"


def test_open_breaker_costs_no_timeout(make, proxy):
    """A silent server is asked a few times; from then on calls do not wait for it."""
    cache = listening(make(breaker_failures=3, breaker_retry=60.0))
    proxy.silence()
    while not cache.health().breaker_open:
        cache.get("k")
    began = time.monotonic()
    for number in range(200):
        cache.get(f"k{number}")
        cache.set(f"k{number}", 1)
        cache.delete(f"k{number}")
    assert time.monotonic() - began < 600 * FAST["socket_timeout"] / 2
    proxy.restore()


def test_reads_are_refused_no_more_once_redis_is_back(make, proxy):
    """The heartbeat closes the breaker: no caller has to make the half-open trial."""
    cache = listening(make(breaker_retry=600.0))
    with away(proxy, cache):
        pass
    eventually(lambda: not breaker_of(cache).is_open)
    assert cache.set("k", "v")


def test_a_trial_closes_the_breaker_where_there_is_no_bus(make, proxy):
    """Without heartbeats a caller finds out, after BREAKER_RETRY."""
    cache = make(l1_max_entries=0)
    cache.set("k", "v")
    with away(proxy, cache):
        assert cache.get("k") is None
    eventually(lambda: cache.get("k") == "v")


def test_what_a_server_refused_is_not_kept_in_a_trusted_l1(redis_server_factory):
    """A loaded value that Redis did not take is for its callers, not for L1."""
    server = redis_server_factory()
    cache = listening(lone_cache(server.url, **FAST))
    with redis.Redis(port=server.port) as admin:
        admin.config_set("maxmemory", "1")
        assert cache.stats().trusted
        assert cache.get_or_load("k", lambda: "loaded") == "loaded"
        assert cache.get("k") is None


def test_two_caches_of_one_engine_replay_each_others_deletes(proxy, redis_url, raw):
    """A call of either cache after the outage replays the pending deletes of both."""
    url = proxy.url.replace("/0", "/" + redis_url.rsplit("/", 1)[1])
    one = lone_cache(url, key_prefix="p", **FAST)
    two = Cache(url, key_prefix="q", **FAST)
    two._binding = type(binding_of(two))(engine_of(one), two._options)
    one.set("k", "old")
    with away(proxy, one):
        one.delete("k")
    eventually(lambda: not breaker_of(one).refuses())

    def is_replayed():
        two.get("anything")
        return raw.get("pk") is None

    eventually(is_replayed)


def test_raise_mode_raises_and_keeps_nothing_pending(make, proxy, raw):
    """With ON_ERROR="raise" the caller is told, and no delete is pending."""
    cache = listening(make(on_error="raise"))
    cache.set("k", "old")
    proxy.refuse()
    proxy.cut()
    for call in (lambda: cache.delete("k"), lambda: cache.set("k", 1), cache.clear):
        with pytest.raises(L2Error):
            call()
    assert cache.health().deletes_owed == 0
    proxy.restore()
    eventually(lambda: is_back(cache))
    assert cache.get("k") == "old"


def test_what_was_set_meanwhile_survives_tries_to_pay(make, proxy):
    """That its old value cannot be deleted yet does not take the new one away."""
    cache = listening(make(breaker_retry=0.05))
    with away(proxy, cache):
        cache.set("k", "new")
        probes = cache.stats().degraded
        for number in range(40):
            cache.set("other", number)
            assert cache.get("k") == "new"
            cache.get_or_load(f"l{number}", lambda: 1)
            time.sleep(0.01)  # over many a BREAKER_RETRY
        assert cache.stats().degraded > probes
        assert cache.health().deletes_owed == 2
    eventually(lambda: is_back(cache))
    assert cache.get("k") is None
