"""One engine per process and server: shared, told apart, replaced, forked."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cachebridge import Cache, ConfigError
from cachebridge.config import EngineOptions
from cachebridge.engine import registry
from cachebridge.engine.registry import engine_for, retire
from tests.rig import (
    PATIENCE_S,
    engine_of,
    eventually,
    listening,
    lone_cache,
    pool_of,
    rules_of,
)


@pytest.fixture
def retired():
    """Retire at the end what the test registers."""
    before = set(registry._engines)
    yield
    for identity in set(registry._engines) - before:
        retire(registry._engines[identity][0])


def test_same_server_same_engine(redis_url, other_redis_url, retired):
    """Caches on one server and database share L1, whatever their prefix."""
    one = Cache(redis_url, key_prefix="a:")
    two = Cache(redis_url, key_prefix="b:", timeout=5, serializer="json")
    assert engine_of(one) is engine_of(two)
    other = Cache(other_redis_url)
    assert engine_of(other) is not engine_of(one)


def test_same_engine_in_many_threads(redis_url, retired):
    """However many threads come first, there is one engine."""
    start = threading.Barrier(16)

    def make():
        start.wait()
        return engine_of(Cache(redis_url))

    with ThreadPoolExecutor(16) as pool:
        engines = [future.result() for future in [pool.submit(make) for _ in "x" * 16]]
    assert len({id(engine) for engine in engines}) == 1


def test_shared_key_is_shared_in_l1(redis_url, retired):
    """L1 is keyed by the full key: a write through one is seen by the other at once."""
    one = listening(Cache(redis_url, key_prefix="a:"))
    two = Cache(redis_url)
    one.set("k", 1)
    assert two.get("a:k") == 1
    two.set("a:k", 2)
    assert one.get("k") == 2
    two.delete("a:k")
    assert one.get("k") is None


def test_serializers_keep_apart_in_l1(redis_url, retired):
    """An entry of one serializer is never the answer for another."""
    with_pickle = listening(Cache(redis_url))
    with_json = Cache(redis_url, serializer="json")
    with_pickle.set("k", (1, 2))
    assert with_json.get("k") is None
    with_json.set("l", [1])
    assert with_json.get("l") == [1]
    assert with_pickle.get("l") is None


def leave_something(url, method):
    """Leave a value and a count in the process, and end."""
    cache = Cache(url, key_prefix=method, write_behind_ms=10_000)
    cache.set("k", 1, wait=False)
    cache.batched_counter("n", batch_ms=10_000).add(3)


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_the_end_of_a_child_of_multiprocessing(redis_url, method):
    """It sends what was left in it, although such a process may run no ``atexit``."""
    context = multiprocessing.get_context(method)
    child = context.Process(target=leave_something, args=(redis_url, method))
    child.start()
    child.join(PATIENCE_S)
    assert child.exitcode == 0
    cache = lone_cache(redis_url, key_prefix=method)
    assert cache.get("k") == 1
    assert cache.counter("n").value() == 3


def test_differing_options(redis_url, retired):
    """Engine options that differ raise, naming both caches and every difference."""
    kept = Cache(redis_url, bus_trust=5)
    with pytest.raises(ConfigError) as raised:
        Cache(redis_url, bus_trust=6, bus="none")
    text = str(raised.value)
    assert text.count("Cache(") == 2
    assert "differ in BUS, BUS_TRUST" in text
    assert "BUS is 'none' here and 'pubsub' there" in text
    assert engine_of(Cache(redis_url, bus_trust=5)) is engine_of(kept)


@pytest.mark.parametrize("lifetimes", [(60, 5), (5, 60), (5, 60, 30)])
def test_the_shortest_life_in_l1_counts(redis_url, retired, lifetimes):
    """For all caches of the server, in whatever order they are made."""
    caches = [Cache(redis_url, l1_ttl=each) for each in lifetimes]
    Cache(redis_url, l1_ttl=7, serializer="json")
    for cache in caches:
        engine = engine_of(cache)
        assert engine.options.l1_ttl == 5
        for serializer in ("pickle", "json"):
            assert engine.values_for(serializer).ttl_rule.l1_lifetime_s(None) == 5


def test_names_in_the_error(redis_url, retired):
    """The users' names are the ones they gave."""
    engine_for(redis_url, EngineOptions(), user="CACHES['default']")
    with pytest.raises(ConfigError, match=r"CACHES\['b'\] and CACHES\['default'\]"):
        engine_for(redis_url, EngineOptions(bus_trust=1.0), user="CACHES['b']")


@pytest.mark.parametrize(
    "location",
    ["redis://user:hunter2@localhost:1/0", "redis://localhost:1/0?password=hunter2"],
)
def test_secrets_in_the_error(location, retired):
    """Neither the URL nor CLIENT_KWARGS give a password away."""
    kept = Cache(location, client_kwargs={"client_name": "a"})
    with pytest.raises(ConfigError) as raised:
        Cache(location, client_kwargs={"client_name": "b", "lib_name": "hunter2"})
    assert "hunter2" not in str(raised.value)
    assert "CLIENT_KWARGS is ['client_name', 'lib_name'] here" in str(raised.value)
    assert "hunter2" not in engine_of(kept).location.label


def test_arguments_of_connections_differ_wherever_they_stand(retired):
    """One cache must not lose the check of certificates because another has."""
    kept = Cache("rediss://localhost:1/0?ssl_cert_reqs=none")
    with pytest.raises(ConfigError, match="differ in CLIENT_KWARGS"):
        Cache("rediss://localhost:1/0")
    with pytest.raises(ConfigError, match=r"\['connection_class', 'ssl_cert_reqs'\]"):
        Cache("rediss://localhost:1/0?ssl_cert_reqs=optional")
    in_dict = Cache("rediss://localhost:1/0", client_kwargs={"ssl_cert_reqs": "none"})
    assert engine_of(in_dict) is engine_of(kept)


def test_passwords_are_part_of_the_identity(retired):
    """Another password or user is another engine, in the URL or in CLIENT_KWARGS."""
    engines = {
        id(engine_of(Cache(location, **options)))
        for location, options in [
            ("redis://localhost:1/0", {}),
            ("redis://:a@localhost:1/0", {}),
            ("redis://:b@localhost:1/0", {}),
            ("redis://localhost:1/0", {"client_kwargs": {"password": "c"}}),
            ("redis://u:a@localhost:1/0", {}),
            ("redis://localhost:1/0", {"client_kwargs": {"db": 1}}),
        ]
    }
    assert len(engines) == 6


def test_database_of_client_kwargs_is_the_bus_s(redis_url, retired):
    """Two ways to name one database: the same keys, the same channel."""
    base, _, db = redis_url.rpartition("/")
    one = listening(lone_cache(base + "/0", client_kwargs={"db": int(db)}))
    two = listening(lone_cache(redis_url))
    one.set("k", "old")
    assert two.get("k") == "old"
    one.set("k", "new")
    eventually(lambda: two.get("k") == "new")


def test_retired_engine_is_replaced(redis_url, retired):
    """A retired engine is forgotten: the next cache gets a new one."""
    cache = Cache(redis_url, l1_ttl=5)
    old = engine_of(cache)
    retire(old)
    new = engine_of(Cache(redis_url, l1_ttl=6))
    assert new is not old
    retire(old)
    assert engine_of(Cache(redis_url, l1_ttl=6)) is new


def test_two_engines_of_one_process(redis_url):
    """They have different origins and treat each other's messages as foreign."""
    one, two = listening(lone_cache(redis_url)), listening(lone_cache(redis_url))
    assert rules_of(one).origin != rules_of(two).origin
    for number in range(20):
        one.set("k", number)
        two.set("k", -number)
        eventually(lambda number=number: one.get("k") == -number)
        assert two.get("k") == -number


def test_memory_names_are_apart(retired):
    """Each name of ``memory://`` is a store of its own, shared under that name."""
    one, same, other = Cache("memory://a"), Cache("memory://a"), Cache("memory://b")
    one.set("k", 1)
    assert same.get("k") == 1
    assert other.get("k") is None


def in_child(function):
    """Run in a forked child; return what it gave back."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            answer = str(function())
        except BaseException as exc:
            answer = f"{type(exc).__name__}: {exc}"
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return answer


FORKS = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@FORKS
@pytest.mark.parametrize("kind", ["registered", "retired", "lone"])
def test_fork_shares_no_connection(redis_url, retired, kind):
    """Parent and child never read from one socket, not even of a retired engine."""
    cache = lone_cache(redis_url) if kind == "lone" else Cache(redis_url)
    if kind == "retired":
        retire(engine_of(cache))
    cache.set("k", "parent")
    assert cache.get("k") == "parent"
    parents = list(pool_of(cache)._idle)
    assert parents

    def child():
        cache.get("k")
        return [link in parents for link in pool_of(cache)._idle]

    assert in_child(child) == "[False]"
    assert cache.get("k") == "parent"


@FORKS
def test_fork_begins_anew(redis_url, retired):
    """I15: another origin, an empty L1, a listener of its own when it reads."""
    cache = listening(Cache(redis_url))
    cache.set("k", "parent")
    origin = rules_of(cache).origin
    assert cache.get("k") == "parent"

    def child():
        engine = engine_of(cache)
        fresh = engine.rules.origin != origin and not len(engine.l1)
        idle = not engine.listening.is_running()
        values = [cache.get("k") for _ in range(5)]
        eventually(lambda: cache.stats().trusted)
        cache.set("k", "child")
        return fresh, idle, set(values), engine.listening.is_running()

    assert in_child(child) == "(True, True, {'parent'}, True)"
    eventually(lambda: cache.get("k") == "child")
    assert cache.stats().trusted


@FORKS
def test_fork_while_locks_are_held(redis_url, retired):
    """A lock that another thread held at the fork does not stop the child."""
    cache, memory = Cache(redis_url), Cache("memory://forked")
    memory.set("k", "v")
    engine = engine_of(cache)
    held = [
        registry._lock,
        engine.rules.lock,
        engine.listening.lock,
        engine.single_flight._lock,
        engine_of(memory).memory_server.lock,
    ]
    taken, done = threading.Event(), threading.Event()

    def hold():
        for lock in held:
            lock.acquire()
        taken.set()
        done.wait(PATIENCE_S)
        for lock in held:
            lock.release()

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait()

    def child():
        import signal

        signal.alarm(5)
        cache.set("k", 1)
        loaded = cache.get_or_load("l", lambda: 2)
        return cache.get("k"), loaded, memory.get("k"), Cache("memory://x").get("k")

    try:
        assert in_child(child) == "(1, 2, 'v', None)"
    finally:
        done.set()
        holder.join()


# -- two names of one server -----------------------------------------------------------


def test_two_names_of_one_server_hear_of_writes_at_once(redis_url, caplog):
    """Each has an L1 of its own; after a write neither reads anything older."""
    one = Cache(redis_url, key_prefix="p")
    two = Cache(redis_url.replace("127.0.0.1", "localhost"), key_prefix="p")
    assert engine_of(one) is not engine_of(two)
    try:
        listening(one)
        listening(two)
        hits = two.stats().l1_hits
        for number in range(50):
            one.set("k", number)
            assert two.get("k") == number
            assert two.get("k") == number
            two.set_many({"k": -number, "l": number})
            assert one.get_many(["k", "l"]) == {"k": -number, "l": number}
        assert two.stats().l1_hits > hits
        two.get("k")
        one.clear()
        assert two.get("k") is None
        warnings = [r for r in caplog.records if "one server" in r.getMessage()]
        assert len(warnings) == 1
        engine_of(two).leave_server("for a test")
        eventually(lambda: two.stats().trusted)
        assert len([r for r in caplog.records if "one server" in r.message]) == 1
    finally:
        retire(engine_of(two))
        assert engine_of(one).rules.siblings == ()
        retire(engine_of(one))


def test_databases_and_servers_are_apart(
    redis_url, other_redis_url, redis_server_factory
):
    """Another database, or another server, is no second name."""
    urls = (redis_url, other_redis_url, redis_server_factory().url)
    engines = [engine_of(listening(Cache(url))) for url in urls]
    assert [engine.rules.siblings for engine in engines] == [()] * 3
    for engine in engines:
        retire(engine)
