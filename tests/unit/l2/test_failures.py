"""An outage of any kind is one exception type from every method, with its cause."""

from __future__ import annotations

import os
import socket
import threading
import time

import pytest
import redis
from redis.exceptions import (
    AuthenticationError,
    RedisError,
)

from cachebridge.errors import L2Error
from cachebridge.l2.connections import task_exchange
from cachebridge.l2.store import Bounds
from cachebridge.testing import redis_server
from tests.rig import eventually, spying
from tests.unit.l2.conftest import open_store, pool_of

READS = {
    "get": lambda store: store.get("k"),
    "get_many": lambda store: store.get_many(["k", "l"]),
    "exists": lambda store: store.exists("k"),
    "scan": lambda store: store.scan("*", 0),
    "ping": lambda store: store.ping(),
}
GROWING = {
    "store": lambda store: store.store([("k", b"2")], None, b"m"),
    "store_silent": lambda store: store.store([("k", b"2")], None, None),
    "store_many_silent": lambda store: store.store(
        [("k", b"2"), ("l", b"2")], None, None
    ),
    "add": lambda store: store.add("new", b"2", None, b"m"),
    "add_silent": lambda store: store.add("new", b"2", None, None),
    "incr": lambda store: store.incr("k", 1, b"m"),
    "count": lambda store: store.count("k", 1, Bounds(), None, b"m"),
    "replace": lambda store: store.replace("k", b"1", b"2", b"m"),
}
SHRINKING = {
    "touch": lambda store: store.touch("k", 1000, b"m"),
    "delete": lambda store: store.delete(["k"], b"m"),
    "delete_silent": lambda store: store.delete(["k"], None),
    "replace_by_nothing": lambda store: store.replace("k", b"1", None, b"m"),
    "flush_db": lambda store: store.flush_db(b"m"),
}
PUBLISHING = {"publish": lambda store: store.publish(b"m")}
CHANGES = {**GROWING, **SHRINKING}
ALL = {**READS, **CHANGES, **PUBLISHING}


def assert_each_fails(store, calls, cause, text=""):
    """Every call raises L2Error with the cause chained, none anything else."""
    for name, call in calls.items():
        with pytest.raises(L2Error) as raised:
            call(store)
        assert isinstance(raised.value.__cause__, cause), name
        assert str(raised.value.__cause__) in str(raised.value), name
        assert text in str(raised.value), name


@pytest.mark.parametrize("name", ["default", "unknown"])
def test_wrong_password(own_server, own_db, admin, user_url, *, name, side):
    """A refused log-in says so, and gives the password away nowhere."""
    user_url("+@all", "~*", "&*")
    url = f"redis://{name}:wr0ngsecret@{own_server.host}:{own_server.port}/{own_db}"
    if name == "default":
        url = url.replace("default", "someone")
    store = open_store(url, side)
    assert_each_fails(store, ALL, AuthenticationError)
    with pytest.raises(L2Error) as raised:
        store.get("k")
    assert "wr0ngsecret" not in str(raised.value)


def test_no_right_to_the_channel(own_db, own_url, user_url, side):
    """PUBLISH comes first: without the right to it nothing at all changes."""
    with redis.Redis.from_url(own_url) as client:
        client.set("k", b"1")
        store = open_store(user_url("+@all", "~*", "resetchannels"), side)
        published = {
            name: call
            for name, call in {**CHANGES, **PUBLISHING}.items()
            if not name.endswith("silent")
        }
        with spying(own_url) as spy:
            for name, call in published.items():
                with pytest.raises(L2Error, match=r"(?i)channel|permissions") as raised:
                    call(store)
                assert isinstance(raised.value.__cause__, redis.ResponseError), name
                assert client.get("k") == b"1", name
                assert client.ttl("k") == -1, name
            assert client.keys() == [b"k"]
            assert spy.frames() == []
    assert store.get("k") == (b"1", -1)


@pytest.mark.parametrize("rules", ["-evalsha -eval", "-evalsha", "-eval"])
def test_no_right_to_scripts(own_url, admin, user_url, side, rules):
    """Every change is refused and says which right is missing; reads go on."""
    admin.script_flush()
    store = open_store(user_url("+@all", "~*", "&*", *rules.split()), side)
    for name in (*GROWING, "touch", "delete", "replace_by_nothing", "get_many"):
        with pytest.raises(L2Error, match=r"\+evalsha \+eval .*SECURITY") as raised:
            ALL[name](store)
        assert raised.value.is_permanent, name
        assert isinstance(raised.value.__cause__, redis.exceptions.NoPermissionError)
        assert "secret" not in str(raised.value)
    with redis.Redis.from_url(own_url) as client:
        assert client.keys() == []
        client.set("k", b"1")
    assert store.get("k") == (b"1", -1)
    store.publish(b"m")


def test_a_server_without_scripts(redis_server_factory):
    """One that does not know EVALSHA is named as what it is."""
    server = redis_server_factory(args=("--rename-command", "EVALSHA", ""))
    store = open_store(server.url)
    with pytest.raises(L2Error, match="needs a server that has EVALSHA") as raised:
        CHANGES["store"](store)
    assert raised.value.is_permanent
    assert store.get("k") == (None, -2)


def test_no_right_to_the_keys(own_db, user_url, side):
    """A user of other keys is refused every key, and L2Error says why."""
    store = open_store(user_url("+@all", "~other:*", "~cachebridge:*", "&*"), side)
    calls = {**READS, **CHANGES}
    for name in ("scan", "ping", "flush_db"):
        del calls[name]
    assert_each_fails(store, calls, redis.ResponseError, "permission")
    assert store.add("other:k", b"1", None, b"m")


def test_wrong_type(own_url, side):
    """A key that holds a list fails its own calls and no others."""
    store = open_store(own_url, side)
    with redis.Redis.from_url(own_url) as client:
        client.rpush("k", "x")
    calls = {name: READS[name] for name in ("get",)}
    calls |= {name: GROWING[name] for name in ("incr", "replace")}
    assert_each_fails(store, calls, redis.ResponseError, "WRONGTYPE")
    store.store([("l", b"1")], None, None)
    assert store.get("l") == (b"1", -1)
    assert store.get_many(["k", "l"])[1] == (b"1", -1)


def test_replica(redis_server_factory, side):
    """A replica answers reads and refuses every change."""
    server = redis_server_factory()
    store = open_store(server.url, side)
    store.store([("k", b"1")], None, None)
    with redis.Redis.from_url(server.url) as admin:
        admin.replicaof("127.0.0.1", 1)
        assert_each_fails(store, CHANGES, redis.ResponseError, "READONLY")
        assert store.get("k") == (b"1", -1)
        admin.replicaof("NO", "ONE")
    assert CHANGES["store"](store) == ()


def test_full_server(redis_server_factory, side):
    """A server without memory refuses what would grow it, and still deletes."""
    args = ("--maxmemory-policy", "noeviction")
    server = redis_server_factory(args=args)
    store = open_store(server.url, side)
    store.store([("k", b"1")], None, None)
    store.incr("k", 0, b"m")
    store.add("k", b"1", None, b"m")
    store.replace("k", b"x", b"2", b"m")
    with redis.Redis.from_url(server.url) as admin:
        admin.config_set("maxmemory", "1")
        assert_each_fails(store, GROWING, redis.ResponseError, "OOM")
        assert set(admin.keys()) == {b"k", b"cachebridge:writes"}
        assert store.get("k") == (b"1", -1)
        assert store.delete(["k"], b"m") == 1
        admin.config_set("maxmemory", "0")
    assert CHANGES["add"](store)


def test_loading_server(own_server, own_url, admin):
    """A server that still reads its data refuses all but PUBLISH until it has done."""
    store = open_store(own_url)
    with redis.Redis.from_url(own_url) as client:
        for start in range(0, 2000, 500):
            client.mset({f"{start + n}": os.urandom(2000) for n in range(500)})
    admin.config_set("loading-process-events-interval-bytes", 1024)
    admin.config_set("key-load-delay", 1000)
    done = threading.Event()

    def reload():
        with redis.Redis.from_url(own_server.url, socket_timeout=30) as client:
            client.execute_command("DEBUG", "RELOAD")
        done.set()

    thread = threading.Thread(target=reload)
    thread.start()
    try:
        eventually(lambda: is_loading(store))
        for name, call in {**READS, **CHANGES}.items():
            with pytest.raises(L2Error) as raised:
                call(store)
            cause = raised.value.__cause__
            assert isinstance(cause, RedisError), name
            assert "loading" in str(cause).lower(), name
        assert not done.is_set(), "it was loading all the time"
    finally:
        admin.config_set("key-load-delay", 0)
        thread.join()
    assert store.exists("7")


def is_loading(store):
    try:
        store.ping()
    except L2Error as exc:
        return "loading" in str(exc).lower()
    return False


@pytest.fixture
def connects(monkeypatch):
    """Return a list with an item for each attempt to connect."""
    attempts, connect = [], socket.socket.connect

    def counting(self, address):
        attempts.append(address)
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", counting, raising=False)
    return attempts


@pytest.fixture
def timed_out(monkeypatch):
    """Return a list with an item for each wait for an answer that was in vain."""
    waits = []

    def count(receive):
        def counting(*args):
            try:
                return receive(*args)
            except TimeoutError:
                waits.append(1)
                raise

        return counting

    for name in ("recv", "recv_into"):  # ours, and redis-py's while it logs in
        receive = count(getattr(socket.socket, name))
        monkeypatch.setattr(socket.socket, name, receive, raising=False)
    expire = task_exchange._Talk.expire

    def expiring(talk):
        waits.append(1)
        expire(talk)

    monkeypatch.setattr(task_exchange._Talk, "expire", expiring)
    return waits


def test_dead_port(free_port, connects, side):
    """No process listens: refused at once, without a second try."""
    store = open_store(f"redis://127.0.0.1:{free_port}/0", side)
    assert_each_fails(store, ALL, redis.ConnectionError)
    assert len(connects) == len(ALL)


def test_deaf_port(connects, side):
    """A host that swallows connections costs SOCKET_CONNECT_TIMEOUT, once."""
    with socket.socket() as deaf, socket.socket() as one, socket.socket() as two:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for filler in (one, two):
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        url = f"redis://127.0.0.1:{deaf.getsockname()[1]}/0"
        store = open_store(url, side, socket_connect_timeout=0.4)
        started = time.monotonic()
        with pytest.raises(L2Error) as raised:
            store.get("k")
        assert time.monotonic() - started >= 0.4
        assert len(connects) == 1
    assert isinstance(raised.value.__cause__, (RedisError, OSError))


def test_silent_server(redis_server_factory, timed_out, side):
    """A server that does not answer costs SOCKET_TIMEOUT, once, for every method."""
    server = redis_server_factory()
    store = open_store(server.url, side, socket_timeout=0.6)
    for call in ALL.values():
        call(store)
    store.ping()
    server.pause()
    try:
        for name in ("get", "store", "incr", "get_many", "replace"):
            started = time.monotonic()
            timed_out.clear()
            with pytest.raises(L2Error) as raised:
                ALL[name](store)
            assert time.monotonic() - started >= 0.6, name
            assert len(timed_out) == 1, name
            assert isinstance(raised.value.__cause__, (RedisError, OSError)), name
    finally:
        server.resume()
    store.ping()


def test_server_that_dies(shared_server, side):
    """Killed and started again on the same port: the next call works."""
    with redis_server() as server:
        store = open_store(server.url, side)
        store.store([("k", b"1")], None, b"m")
        server.kill()
        assert_each_fails(store, ALL, (RedisError, OSError))
        server.restart()
        assert store.get("k") == (None, -2)
        assert store.add("k", b"1", None, b"m")


@pytest.mark.parametrize("closer", ["close", "forget"])
def test_idle_connections_are_dropped(own_url, closer, side):
    """A store whose idle connections were closed or left opens others."""
    store = open_store(own_url, side)
    store.store([("k", b"1")], None, None)
    (idle,) = pool_of(store)._idle
    getattr(store, closer)()
    assert not pool_of(store)._idle
    assert idle.is_open() is (closer == "forget")
    assert store.get("k") == (b"1", -1)
    idle.close()
