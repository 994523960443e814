"""What must not happen around an outage, each once seen to happen."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager

import pytest
import redis

from cachebridge import CounterUnavailableError, L2UnavailableError, Loaded
from cachebridge.engine.binding import Binding
from cachebridge.testing import FaultProxy
from cachebridge.waiting.run import run
from tests.rig import (
    PATIENCE_S,
    binding_of,
    engine_of,
    eventually,
    l2_of,
    let_expire,
    listening,
    lone_cache,
    options_of,
    pending_deletes_of,
    single_flight_of,
)

QUICK = {"socket_timeout": 1.0, "socket_connect_timeout": 1.0, "key_prefix": "p:"}


@pytest.fixture
def server(redis_server_factory):
    return redis_server_factory()


@pytest.fixture
def proxy(server):
    with FaultProxy(server.host, server.port) as proxy:
        yield proxy


@pytest.fixture
def cache(proxy):
    return listening(lone_cache(proxy.url, **QUICK))


@contextmanager
def away(proxy):
    """Take the server away, and bring it back in the end."""
    proxy.refuse()
    proxy.cut()
    try:
        yield
    finally:
        proxy.restore()


def make_user(admin, password, rules):
    """Give the user ``app`` this password and these rights, and no others."""
    start = ["ACL", "SETUSER", "app", "reset", "on", f">{password}"]
    admin.execute_command(*start, *rules.split())


def breaker_opens(cache):
    eventually(lambda: [cache.get("none"), cache.health().breaker_open][1])


def all_replayed(cache):
    eventually(lambda: not cache.health().deletes_owed)


def test_a_replayed_delete_tells_the_peers(server, proxy):
    """A delete that a session's read replays reaches the peers' L1 like any other."""
    options = {**QUICK, "l1_exclude": ["session:"]}
    ours = listening(lone_cache(proxy.url, **options))
    theirs = listening(lone_cache(server.url, **options))
    ours.set("k", "old")
    eventually(lambda: theirs.get("k") == "old")
    with away(proxy):
        assert ours.set("k", "new") is False
        assert ours.set("session:1", "new") is False
    ours.get("session:1")
    all_replayed(ours)
    eventually(lambda: theirs.get("k") is None)


def test_a_delete_during_a_load_wins_in_an_outage(cache, proxy):
    """A value loaded before the delete serves its caller, and no caller afterwards."""
    rows = {"k": "old"}
    outage = away(proxy)

    def load():
        value = rows["k"]
        outage.__enter__()

        def change():
            breaker_opens(cache)
            rows["k"] = "new"
            cache.delete("k")

        thread = threading.Thread(target=change)
        thread.start()
        thread.join(PATIENCE_S)
        return value

    try:
        assert cache.get_or_load("k", load, 60) == "old"
        assert cache.get("k") is None
        assert cache.get_or_load("k", lambda: rows["k"], 60) == "new"
    finally:
        outage.__exit__(None, None, None)


@pytest.mark.parametrize("key", ["k", "session:k"])
def test_a_follower_knows_of_its_own_delete(proxy, key):
    """Also without Redis, and for keys that never enter L1."""
    cache = listening(lone_cache(proxy.url, l1_exclude=["session:"], **QUICK))
    rows, loading, go_on = {"k": "old"}, threading.Event(), threading.Event()
    values = []

    def load_slowly():
        value = rows["k"]
        loading.set()
        go_on.wait(PATIENCE_S)
        return value

    def follow():
        rows["k"] = "new"
        cache.delete(key)
        values.append(cache.get_or_load(key, lambda: rows["k"]))

    with away(proxy):
        breaker_opens(cache)
        leader = threading.Thread(target=lambda: cache.get_or_load(key, load_slowly))
        leader.start()
        assert loading.wait(PATIENCE_S)
        follower = threading.Thread(target=follow)
        follower.start()
        eventually(lambda: single_flight_of(cache)._waiting)
        go_on.set()
        leader.join(PATIENCE_S)
        follower.join(PATIENCE_S)
    assert values == ["new"]


def test_a_replay_never_deletes_a_later_write(cache, proxy):
    """A write that has returned stays, and an add has one winner."""
    for number in range(5):
        cache.set("k", "old")
        with away(proxy):
            cache.set("k", "failed")
        eventually(lambda: cache.health().l2_reachable)
        if number % 2:
            eventually(lambda: cache.add("k", "mine"))
        else:
            eventually(lambda: cache.set("k", "mine"))
        all_replayed(cache)
        with cache.bypass_l1():
            assert cache.get("k") == "mine"
        assert not cache.add("k", "other")


def test_a_server_that_refuses_a_replay_serves_the_rest(server, redis_url):
    """On a read-only replica only the cleared cache, or the deleted key, is doubted."""
    ours, others = (lone_cache(server.url, **{**QUICK, "key_prefix": p}) for p in "ab")
    ours.set("k", 1)
    others.set_many({"k": 1, "l": 2})
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        admin.config_set("replica-serve-stale-data", "yes")
        assert ours.clear() is False
        assert ours.get("k") is None
        assert others.get("k") == 1
        assert others.delete("k") is False
        assert others.get("k") is None
        # Refused replays in a row may open the breaker; the next read closes it.
        eventually(lambda: others.get("l") == 2)
        admin.execute_command("REPLICAOF", "NO", "ONE")
    eventually(lambda: ours.set("k", 2))
    eventually(lambda: others.set("k", 2))
    assert ours.get("k") == others.get("k") == 2


def test_what_an_account_may_never_do_is_not_kept_pending(server):
    """A missing right is no outage: nothing waits for ever, nothing is poisoned."""
    with redis.Redis.from_url(server.url) as admin:
        make_user(admin, "pw", "+@all -scan ~p:ok* ~cachebridge:* &*")
    url = server.url.replace("redis://", "redis://app:pw@")
    cache = lone_cache(url, **QUICK)
    assert cache.set("ok1", 1)
    assert cache.set("no1", 1) is False
    assert cache.clear() is False
    assert cache.set("ok2", 2)
    assert cache.get_many(["ok1", "ok2"]) == {"ok1": 1, "ok2": 2}
    pending = pending_deletes_of(cache)
    assert not pending
    pending.add(["p:no1", "p:ok1"], None)  # as an outage would have left them
    assert cache.get("ok1") is None
    assert not pending
    assert pending.lost == 1
    assert cache.get("ok2") == 2


def test_loaders_that_wait_for_each_other_within_the_limit():
    """MAX_LOADS: a caller that waits for another's load lends that load its slot."""
    cache = lone_cache("memory://", max_loads=1)
    inside = threading.Event()
    values = []

    def outer():
        inside.set()
        time.sleep(0.2)  # the other leads the inner key meanwhile
        return cache.get_or_load("inner", lambda: "inner")

    def load_outer():
        values.append(cache.get_or_load("outer", outer))

    def load_inner():
        assert inside.wait(PATIENCE_S)
        values.append(cache.get_or_load("inner", lambda: "inner"))

    threads = [
        threading.Thread(target=load, daemon=True) for load in (load_outer, load_inner)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert values == ["inner", "inner"]


def test_a_log_handler_may_use_the_cache(cache, proxy):
    """As those do that limit the rate of mails: no lock is held while logging."""

    class Limiter(logging.Handler):
        def emit(self, record):
            if cache.get("seen") is None:
                cache.set("seen", record.msg, 60)

    logger, handler = logging.getLogger("cachebridge.engine"), Limiter()
    logger.addHandler(handler)
    try:
        with away(proxy):
            thread = threading.Thread(target=breaker_opens, args=(cache,), daemon=True)
            thread.start()
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        eventually(lambda: not cache.health().breaker_open)
    finally:
        logger.removeHandler(handler)


def test_a_login_that_fails_is_one_outage(server):
    """The subscription lives on, but heartbeats go where commands go: trust ends."""
    with redis.Redis.from_url(server.url) as admin:
        make_user(admin, "old", "+@all ~* &*")
        url = server.url.replace("redis://", "redis://app:old@")
        cache = listening(lone_cache(url, bus_heartbeat=0.1, bus_trust=1, **QUICK))
        cache.set("k", "v")
        cache.get("k")
        make_user(admin, "new", "+@all ~* &*")
        l2_of(cache).close()  # commands have to log in again
        breaker_opens(cache)
        eventually(lambda: not cache.stats().trusted)
        for _ in range(10):
            assert cache.get("k") == "v", "an outage entry"
            cache.get("missing")
        assert cache.stats().outages == 1
        make_user(admin, "old", "+@all ~* &*")
        eventually(lambda: cache.stats().trusted)
        eventually(lambda: not cache.health().breaker_open)
        assert cache.get("k") == "v"
        assert cache.stats().outages == 1


def test_caches_that_raise_see_nothing_of_an_outage(proxy):
    """They share L1 with one that degrades, but not what that keeps for itself."""
    degrading = listening(lone_cache(proxy.url, **QUICK))
    options = options_of(lone_cache(proxy.url, on_error="raise", **QUICK))
    raising = Binding(engine_of(degrading), options)
    degrading.set("k", "in L2")
    with away(proxy):
        breaker_opens(degrading)
        degrading.set("k", "only here")
        assert degrading.get("k") == "only here"
        raising.remember("k", "p:k")
        assert not raising.local_get("k")
        with pytest.raises(L2UnavailableError, match="not asked"):
            run(raising.coherent.for_threads.get("p:k"))


def test_a_counter_is_not_guessed_from_a_pending_delete(cache, proxy):
    """Incr of a key whose delete is pending replays it first, or raises."""
    cache.set("n", 5)
    with away(proxy):
        cache.delete("n")
        with pytest.raises(CounterUnavailableError):
            cache.incr("n")
    eventually(lambda: cache.health().l2_reachable)
    with pytest.raises(ValueError, match=r"not found|away"):
        cache.incr("n")


def test_a_finished_refresh_keeps_the_cost(redis_url):
    """A refresh that finds itself done neither forgets the cost nor empties L1s."""
    cache = lone_cache(redis_url, early_refresh=1)
    cache.get_or_load("k", lambda: time.sleep(0.02) or "v", 60)
    l2 = l2_of(cache)
    terms = binding_of(cache).terms.for_lease(is_refresh=True)
    lease = l2.get_or_lease("k", b"token", terms)
    assert lease.cost_ms >= 20
    l2.release("k", lease, 0, None)
    assert l2.get_or_lease("k", b"other", terms).cost_ms == lease.cost_ms


@pytest.mark.parametrize("ttl_ms", [-5, 0.5, "9", True])
def test_loaded_checks_its_ttl(redis_url, ttl_ms):
    """What is no TTL is the loader's mistake, not a server's refusal."""
    cache = lone_cache(redis_url)
    with pytest.raises((TypeError, ValueError), match=r"Loaded\.ttl_ms"):
        cache.get_or_load("k", lambda: Loaded("v", ttl_ms=ttl_ms))
    assert cache.stats().degraded == 0


def test_the_write_that_finds_trust_too_old_is_kept(proxy):
    """The first call after OUTAGE_TTL makes room before it writes, not after."""
    cache = listening(lone_cache(proxy.url, outage_ttl=0.5, **QUICK))
    cache.set("old", "v")
    with away(proxy):
        breaker_opens(cache)
        let_expire(0.6)
        cache.set("k", "v")
        assert cache.get("k") == "v"
        assert cache.get("old") is None
