"""When Redis cannot answer, with ON_ERROR="raise" and without the circuit breaker.

One exception type from every method, and nothing wrong.  Each way of failing is
a real server that really fails so.  What happens otherwise: tests/proofs/outages.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from django.core.cache import caches

from cachebridge.errors import CacheBridgeError, L2Error
from cachebridge.testing import ServerStartError
from tests.rig import PATIENT_SETTINGS, eventually
from tests.unit.django.support import entry, hits_of, trusted

OPTIONS = {**PATIENT_SETTINGS, "ON_ERROR": "raise", "BREAKER_FAILURES": 0}
HASTY = {"SOCKET_TIMEOUT": 1.0, "SOCKET_CONNECT_TIMEOUT": 1.0}
"""For those that wait in vain: long for a server that answers, short for a test."""

READS = {
    "get": lambda cache: cache.get("k"),
    "get_many": lambda cache: cache.get_many(["k", "other"]),
    "has_key": lambda cache: cache.has_key("k"),
    "in": lambda cache: "k" in cache,
}
STORES = {
    "set": lambda cache: cache.set("k", "new"),
    "set_many": lambda cache: cache.set_many({"k": "new", "other": 1}),
    "add": lambda cache: cache.add("absent", "new"),
    "get_or_set": lambda cache: cache.get_or_set("absent", "new"),
    "incr": lambda cache: cache.incr("n"),
    "decr": lambda cache: cache.decr("n"),
    "incr a float": lambda cache: cache.incr("f"),
    "incr_version": lambda cache: cache.incr_version("k"),
    "decr_version": lambda cache: cache.decr_version("k"),
}
CHANGES = {
    "set, timeout 0": lambda cache: cache.set("k", "new", 0),
    "touch": lambda cache: cache.touch("k", 50),
    "touch, timeout 0": lambda cache: cache.touch("k", 0),
    "delete": lambda cache: cache.delete("k"),
    "delete_many": lambda cache: cache.delete_many(["k", "other"]),
    "clear": lambda cache: cache.clear(),
}
EVERY = {**READS, **STORES, **CHANGES}
SETUP = {"k": "old", "n": 1, "f": 1.5}


def _fails(cache, call, words):
    """Check one call: the type and the cause; it ends, whatever the server does."""
    with pytest.raises(L2Error) as raised:
        call(cache)
    assert isinstance(raised.value, CacheBridgeError)
    cause = raised.value.__cause__
    assert isinstance(cause, (redis.RedisError, OSError)), repr(raised.value)
    assert any(word in f"{type(cause).__name__} {cause}" for word in words), str(cause)


@pytest.fixture
def owned(redis_server_factory, set_caches):
    """Return a server of the test's own and a function that makes caches on it."""
    server = redis_server_factory()

    def make(location=None, **options):
        set_caches(
            default=entry(location or server.url, OPTIONS={**OPTIONS, **options})
        )
        return caches["default"]

    with redis.Redis.from_url(server.url) as admin:
        yield server, admin, make


@pytest.mark.parametrize("name", EVERY)
def test_no_server(set_caches, name):
    """Connection refused."""
    set_caches(default=entry("redis://127.0.0.1:1/0", OPTIONS=OPTIONS))
    _fails(caches["default"], EVERY[name], ["refused", "ConnectionError"])


@pytest.mark.parametrize("location", ["rediss://127.0.0.1:1/0", "unix:///no/such"])
def test_no_server_by_tls_or_socket(set_caches, location):
    """Connection refused, over TLS and over a socket, too."""
    set_caches(default=entry(location, OPTIONS=OPTIONS))
    for call in EVERY.values():
        _fails(caches["default"], call, ["refused", "Connection"])


def test_a_wrong_password(owned):
    """AuthenticationError, from each method.

    On a long request without a login Redis hangs up, and that may overtake its answer.
    """
    words = ["Authentication", "unauthenticated", "Connection reset", "Broken pipe"]
    server, admin, make = owned
    admin.config_set("requirepass", "right")
    for location in (server.url, server.url.replace("redis://", "redis://:wrong@")):
        cache = make(location)
        for call in EVERY.values():
            _fails(cache, call, words)
        assert "wrong" not in cache.health().error


def test_a_server_that_says_nothing(owned):
    """Within the timeout, although the connection stands."""
    server, _, make = owned
    cache = trusted(make(**HASTY))
    cache.set_many(SETUP)

    def fails(call):
        with cache.bypass_l1():
            _fails(cache, call, ["Timeout"])

    server.pause()
    try:
        with ThreadPoolExecutor(len(EVERY)) as pool:
            list(pool.map(fails, EVERY.values()))
    finally:
        server.resume()


def test_a_server_that_dies_and_comes_back_empty(owned):
    """No old value is served, neither while it is away nor afterwards."""
    server, _, make = owned
    cache = trusted(make())
    cache.set_many(SETUP)
    assert hits_of(cache, lambda: cache.get("k")) == 1
    server.kill()
    eventually(lambda: not cache.stats().trusted, "trust ends")
    for call in EVERY.values():
        _fails(cache, call, ["Connection"])
    server.restart()
    eventually(lambda: _answers(cache), "recovered")
    assert cache.get_many(SETUP) == {}
    trusted(cache)
    assert cache.get("k") is None
    cache.set("k", "fresh")
    assert hits_of(cache, lambda: cache.get("k")) == 1


def _answers(cache):
    try:
        cache.get("k")
    except L2Error:
        return False
    return True


def test_a_server_that_is_loading(redis_server_factory, set_caches):
    """LOADING, from each method, as after a restart with much data."""
    slow = ("--loading-process-events-interval-bytes", "1024")
    try:
        server = redis_server_factory(args=(*slow, "--enable-debug-command", "yes"))
    except ServerStartError:  # before Redis 7 it is always allowed
        server = redis_server_factory(args=slow)
    set_caches(default=entry(server.url, OPTIONS=OPTIONS))
    cache = trusted(caches["default"])
    cache.set_many(SETUP)
    with (
        redis.Redis.from_url(server.url, socket_timeout=30) as admin,
        ThreadPoolExecutor(1) as reloading,
    ):
        admin.mset({f"filler{n}": "x" * 100 for n in range(20_000)})
        admin.config_set("key-load-delay", 200)  # microseconds
        reloaded = reloading.submit(admin.execute_command, "DEBUG", "RELOAD")
        eventually(lambda: not _answers(cache), "loading")
        for call in EVERY.values():
            _fails(cache, call, ["Loading", "loading"])
        with redis.Redis.from_url(server.url) as other:
            other.execute_command("CONFIG", "SET", "key-load-delay", "0")
        assert reloaded.result()
    with cache.bypass_l1():
        assert cache.get_many(SETUP) == SETUP


def test_a_replica_refuses_writes(owned):
    """READONLY; reads go on, and a refused write changes nothing anywhere."""
    _, admin, make = owned
    cache = trusted(make())
    cache.set_many(SETUP)
    admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    admin.config_set("replica-serve-stale-data", "yes")
    for name, call in {**STORES, **CHANGES}.items():
        _fails(cache, call, ["ReadOnly", "read only"])
        assert cache.get("k") == "old", name
        with cache.bypass_l1():
            assert cache.get_many(SETUP) == SETUP, name
    admin.execute_command("REPLICAOF", "NO", "ONE")
    assert cache.set("k", "new") is None
    assert cache.get("k") == "new"


def test_a_full_server_refuses_what_needs_memory(owned):
    """OOM: stores fail, reads and deletes go on; nothing wrong stays in L1."""
    _, admin, make = owned
    cache = trusted(make())
    cache.set_many(SETUP)
    admin.config_set("maxmemory-policy", "noeviction")
    admin.config_set("maxmemory", "1")
    for name, call in STORES.items():
        _fails(cache, call, ["OutOfMemory", "maxmemory"])
        assert cache.get_many([*SETUP, "absent", "other"]) == SETUP, name
        with cache.bypass_l1():
            assert cache.get_many([*SETUP, "absent", "other"]) == SETUP, name
    assert cache.touch("k", 50)
    assert cache.delete("k")
    assert cache.get("k") is None
    cache.delete_many(["n"])
    cache.clear()
    assert cache.get_many(SETUP) == {}


def _user(admin, *rules):
    """Make a user of these rights; return the address to use."""
    admin.execute_command("ACL", "SETUSER", "app", "reset", "on", ">pw", *rules)
    host, port = (admin.get_connection_kwargs()[name] for name in ("host", "port"))
    return f"redis://app:pw@{host}:{port}/0"


def test_a_user_without_the_right_to_the_channel(owned):
    """NOPERM before anything has changed; reads go on, from L2 alone."""
    server, admin, make = owned
    trusted(make()).set_many(SETUP)
    cache = make(_user(admin, "+@all", "~*", "resetchannels"))
    for _ in range(5):
        assert cache.get_many(SETUP) == SETUP
    for name, call in {**STORES, **CHANGES}.items():
        _fails(cache, call, ["NoPermission", "channel", "ACL"])
        assert cache.get_many([*SETUP, "absent", "other"]) == SETUP, name
        assert admin.get(":1:n") == b"1"
    assert cache.stats().l1_hits == 0
    assert not cache.stats().trusted
    assert "channel" in cache.health().error or "NoPerm" in cache.health().error
    # What never enters L1 needs no message.
    cache.set("throttle_x", [1])
    assert cache.get("throttle_x") == [1]
    assert server.is_running


def test_a_user_without_the_right_to_the_key(owned):
    """NOPERM from every method; nothing enters L1."""
    _, admin, make = owned
    trusted(make()).set_many(SETUP)
    cache = make(_user(admin, "+@all", "&*", "~cachebridge:*"))
    for name, call in EVERY.items():
        if name != "clear":
            _fails(cache, call, ["NoPermission", "permission", "ACL", "key"])
    assert cache.stats().l1_entries == 0


@pytest.mark.parametrize("rights", ["-evalsha -eval", "-@scripting", "-eval"])
def test_a_user_without_the_right_to_scripts(owned, rights):
    """Every change fails, names the missing right and changes nothing; reads go on."""
    _, admin, make = owned
    trusted(make()).set_many(SETUP)
    cache = make(_user(admin, "+@all", "~*", "&*", *rights.split()))
    admin.script_flush()
    before = {key: admin.get(key) for key in admin.keys(":*")}
    for name, call in {**STORES, **CHANGES}.items():
        if name != "clear":
            _fails(cache, call, ["'eval"])
    with pytest.raises(L2Error, match=r"\+evalsha \+eval .*SECURITY"):
        cache.set("k", 1)
    assert cache.get("k") == SETUP["k"]
    assert {key: admin.get(key) for key in admin.keys(":*")} == before


def test_another_server_of_scripts_flushed(owned):
    """SCRIPT FLUSH, as after a failover: the next call loads what it needs."""
    _, admin, make = owned
    cache = trusted(make())
    cache.set_many(SETUP)
    for call in (*READS.values(), *STORES.values(), *CHANGES.values()):
        cache.set_many(SETUP)
        cache.set("k", "old", version=0)
        admin.script_flush()
        call(cache)


def test_a_write_that_failed_leaves_nothing_in_l1(owned):
    """Its outcome is unknown: L1 has neither the old value nor the new one."""
    server, _, make = owned
    cache = trusted(make(BUS_TRUST=60, BUS_HEARTBEAT=2, **HASTY))
    for name, call in {**STORES, **CHANGES}.items():
        cache.clear()
        cache.set_many(SETUP)
        cache.set("k", "old", version=0)
        cache.get_many(SETUP)
        server.pause()
        try:
            _fails(cache, call, ["Timeout"])
        finally:
            server.resume()
        eventually(lambda: _answers(cache), "answers again")
        held = {key: cache.get(key) for key in [*SETUP, "absent", "other"]}
        with cache.bypass_l1():
            stored = {key: cache.get(key) for key in [*SETUP, "absent", "other"]}
        assert held == stored, name
