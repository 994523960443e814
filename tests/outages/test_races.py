"""What must not happen around an outage, each once seen to happen."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager

import pytest
import redis

from cachebridge import ABSENT, CounterUnavailableError, L2UnavailableError, Loaded
from cachebridge.engine.binding import Binding
from cachebridge.testing import FaultProxy
from tests.rig import engine_of, eventually, listening, lone_cache

QUICK = {"socket_timeout": 0.3, "socket_connect_timeout": 0.3, "key_prefix": "p:"}


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


def all_paid(cache):
    eventually(lambda: not cache.health().deletes_owed)


def test_whoever_pays_tells_the_others(server, proxy):
    """A delete that a session's read has paid for reaches the peers' L1 like any."""
    options = {**QUICK, "l1_exclude": ["session:"]}
    ours = listening(lone_cache(proxy.url, **options))
    theirs = listening(lone_cache(server.url, **options))
    ours.set("k", "old")
    eventually(lambda: theirs.get("k") == "old")
    with away(proxy):
        assert ours.set("k", "new") is False
        assert ours.set("session:1", "new") is False
    ours.get("session:1")
    all_paid(ours)
    eventually(lambda: theirs.get("k") is None)


def test_a_delete_during_a_load_wins_in_an_outage(cache, proxy):
    """What was loaded before it serves its caller, and nobody after the delete."""
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
        thread.join(10)
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
        go_on.wait(5)
        return value

    def follow():
        rows["k"] = "new"
        cache.delete(key)
        values.append(cache.get_or_load(key, lambda: rows["k"]))

    with away(proxy):
        breaker_opens(cache)
        leader = threading.Thread(target=lambda: cache.get_or_load(key, load_slowly))
        leader.start()
        assert loading.wait(5)
        follower = threading.Thread(target=follow)
        follower.start()
        eventually(lambda: engine_of(cache).flights._waiting)
        go_on.set()
        leader.join(5)
        follower.join(5)
    assert values == ["new"]


def test_a_debt_never_takes_a_later_write(cache, proxy):
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
        all_paid(cache)
        with cache.bypass_l1():
            assert cache.get("k") == "mine"
        assert not cache.add("k", "other")


def test_a_server_that_cannot_be_paid_serves_the_rest(server, redis_url):
    """On a read-only replica only the cleared cache, or the owed key, is in doubt."""
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
        assert others.get("l") == 2
        admin.execute_command("REPLICAOF", "NO", "ONE")
    eventually(lambda: ours.set("k", 2))
    eventually(lambda: others.set("k", 2))
    assert ours.get("k") == others.get("k") == 2


def test_what_an_account_may_never_do_is_not_owed(server):
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
    debts = engine_of(cache).outage.debts
    assert not debts
    debts.owe(["p:no1", "p:ok1"], None)  # as an outage would have left them
    assert cache.get("ok1") is None
    assert not debts
    assert debts.lost == 1
    assert cache.get("ok2") == 2


def test_loaders_that_wait_for_each_other_within_the_limit():
    """MAX_LOADS: whoever waits for another's load lets that one have the slot."""
    cache = lone_cache("memory://", max_loads=1)
    inside = threading.Event()
    values = []

    def outer():
        inside.set()
        time.sleep(0.2)  # the other leads the inner key meanwhile
        return cache.get_or_load("inner", lambda: "inner")

    threads = [
        threading.Thread(
            target=lambda: values.append(cache.get_or_load("outer", outer)),
            daemon=True,
        ),
        threading.Thread(
            target=lambda: values.append(
                [inside.wait(5), cache.get_or_load("inner", lambda: "inner")][1]
            ),
            daemon=True,
        ),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
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
            thread.join(10)
            assert not thread.is_alive()
        eventually(lambda: not cache.health().breaker_open)
    finally:
        logger.removeHandler(handler)


def test_absence_without_scripts(server):
    """Where nothing can be noted in L2, L1 takes no note either."""
    with redis.Redis.from_url(server.url) as admin:
        make_user(admin, "pw", "+@all -evalsha -eval ~* &*")
    url = server.url.replace("redis://", "redis://app:pw@")
    ours = listening(lone_cache(url, negative_ttl=60, **QUICK))
    theirs = listening(lone_cache(url, **QUICK))

    def load():
        theirs.set("k", "new")
        time.sleep(0.2)  # the message has come by then
        return ABSENT

    ours.get_or_load("k", load)
    assert ours.get("k") == "new"


def test_a_bus_that_is_well_does_not_close_the_breaker(server):
    """If only new connections fail, L1 goes on as before, and nothing flaps."""
    with redis.Redis.from_url(server.url) as admin:
        make_user(admin, "old", "+@all ~* &*")
        url = server.url.replace("redis://", "redis://app:old@")
        cache = listening(lone_cache(url, bus_heartbeat=0.1, bus_trust=1, **QUICK))
        cache.set("k", "v")
        cache.get("k")
        make_user(admin, "new", "+@all ~* &*")
        engine_of(cache).l2.close()  # commands have to log in again
        breaker_opens(cache)
        before = cache.stats()
        for _ in range(100):
            assert cache.get("k") == "v"
            cache.get("missing")
            time.sleep(0.01)
        after = cache.stats()
    assert after.outages == before.outages == 1
    assert after.flushes == before.flushes


def test_caches_that_raise_see_nothing_of_an_outage(proxy):
    """They share L1 with one that degrades, but not what that keeps for itself."""
    degrading = listening(lone_cache(proxy.url, **QUICK))
    options = lone_cache(proxy.url, on_error="raise", **QUICK)._binding.options
    raising = Binding(engine_of(degrading), options)
    degrading.set("k", "in L2")
    with away(proxy):
        breaker_opens(degrading)
        degrading.set("k", "only here")
        assert degrading.get("k") == "only here"
        raising.remember("k", "p:k")
        assert not raising.probe("k")
        with pytest.raises(L2UnavailableError, match="not asked"):
            raising.coherent.get("p:k")


def test_a_counter_is_not_guessed_from_an_owed_value(cache, proxy):
    """Incr of a key whose delete is owed pays first, or raises."""
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
    l2 = engine_of(cache).l2
    terms = cache._binding.terms.look(is_refresh=True)
    look = l2.look("k", b"token", terms)
    assert look.cost_ms >= 20
    l2.release("k", look, 0, None)
    assert l2.look("k", b"other", terms).cost_ms == look.cost_ms


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
        time.sleep(0.7)
        cache.set("k", "v")
        assert cache.get("k") == "v"
        assert cache.get("old") is None
