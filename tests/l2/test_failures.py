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
from cachebridge.testing import redis_server
from tests.l2.conftest import open_store
from tests.rig import eventually, spying

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


@pytest.mark.parametrize("name", ["default", "nobody"])
def test_wrong_password(own_server, own_db, admin, user_url, name):
    """A refused log-in says so, and gives the password away nowhere."""
    user_url("+@all", "~*", "&*")
    url = f"redis://{name}:wr0ngsecret@{own_server.host}:{own_server.port}/{own_db}"
    if name == "default":
        url = url.replace("default", "someone")
    store = open_store(url)
    assert_each_fails(store, ALL, AuthenticationError)
    with pytest.raises(L2Error) as raised:
        store.get("k")
    assert "wr0ngsecret" not in str(raised.value)


def test_no_right_to_the_channel(own_db, own_url, user_url):
    """PUBLISH comes first: without the right to it nothing at all changes."""
    with redis.Redis.from_url(own_url) as client:
        client.set("k", b"1")
        store = open_store(user_url("+@all", "~*", "resetchannels"))
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


def test_no_right_to_the_channel_without_scripts(own_url, user_url):
    """The same in a transaction: one refused command voids it."""
    with redis.Redis.from_url(own_url) as client:
        client.set("k", b"1")
        rules = ("+@all", "-evalsha", "-eval", "~*", "resetchannels")
        store = open_store(user_url(*rules))
        for name in ("store", "add", "touch", "delete", "replace", "flush_db"):
            with pytest.raises(L2Error) as raised:
                CHANGES[name](store)
            assert "NOPERM" in str(raised.value.__cause__), name
            assert client.get("k") == b"1", name
        assert client.keys() == [b"k"]


def test_no_right_to_the_keys(own_db, user_url):
    """A user of other keys is refused every key, and L2Error says why."""
    store = open_store(user_url("+@all", "~other:*", "&*"))
    calls = {**READS, **CHANGES}
    for name in ("scan", "ping", "flush_db"):
        del calls[name]
    assert_each_fails(store, calls, redis.ResponseError, "permission")
    assert store.add("other:k", b"1", None, b"m")


def test_wrong_type(own_url):
    """A key that holds a list fails its own calls and nobody else's."""
    store = open_store(own_url)
    with redis.Redis.from_url(own_url) as client:
        client.rpush("k", "x")
    calls = {name: READS[name] for name in ("get",)}
    calls |= {name: GROWING[name] for name in ("incr", "replace")}
    assert_each_fails(store, calls, redis.ResponseError, "WRONGTYPE")
    store.store([("l", b"1")], None, None)
    assert store.get("l") == (b"1", -1)
    assert store.get_many(["k", "l"])[1] == (b"1", -1)


def test_replica(redis_server_factory):
    """A replica answers reads and refuses every change."""
    server = redis_server_factory()
    store = open_store(server.url)
    store.store([("k", b"1")], None, None)
    with redis.Redis.from_url(server.url) as admin:
        admin.replicaof("127.0.0.1", 1)
        assert_each_fails(store, CHANGES, redis.ResponseError, "READONLY")
        assert store.get("k") == (b"1", -1)
        admin.replicaof("NO", "ONE")
    assert CHANGES["store"](store) == ()


def test_full_server(redis_server_factory):
    """A server without memory refuses what would grow it, and still deletes."""
    args = ("--maxmemory-policy", "noeviction")
    server = redis_server_factory(args=args)
    store = open_store(server.url)
    store.store([("k", b"1")], None, None)
    store.incr("k", 0, b"m")
    store.add("k", b"1", None, b"m")
    store.replace("k", b"x", b"2", b"m")
    with redis.Redis.from_url(server.url) as admin:
        admin.config_set("maxmemory", "1")
        assert_each_fails(store, GROWING, redis.ResponseError, "OOM")
        assert admin.keys() == [b"k"]
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


def test_dead_port(free_port):
    """Nobody listens: refused at once, without a second try."""
    store = open_store(f"redis://127.0.0.1:{free_port}/0")
    started = time.monotonic()
    assert_each_fails(store, ALL, redis.ConnectionError)
    assert time.monotonic() - started < 2.0


def test_deaf_port():
    """A host that swallows connections costs SOCKET_CONNECT_TIMEOUT, once."""
    with socket.socket() as deaf, socket.socket() as one, socket.socket() as two:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for filler in (one, two):
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        url = f"redis://127.0.0.1:{deaf.getsockname()[1]}/0"
        store = open_store(url, socket_connect_timeout=0.4)
        started = time.monotonic()
        with pytest.raises(L2Error) as raised:
            store.get("k")
        assert 0.4 <= time.monotonic() - started < 0.75
    assert isinstance(raised.value.__cause__, (RedisError, OSError))


def test_silent_server(redis_server_factory):
    """A server that does not answer costs SOCKET_TIMEOUT, once, for every method."""
    server = redis_server_factory()
    store = open_store(server.url, socket_timeout=0.3)
    for call in ALL.values():
        call(store)
    store.ping()
    server.pause()
    try:
        for name in ("get", "store", "incr", "get_many", "replace"):
            started = time.monotonic()
            with pytest.raises(L2Error) as raised:
                ALL[name](store)
            assert 0.3 <= time.monotonic() - started < 0.58, name
            assert isinstance(raised.value.__cause__, (RedisError, OSError)), name
    finally:
        server.resume()
    store.ping()


def test_server_that_dies(shared_server):
    """Killed and started again on the same port: the next call works."""
    with redis_server() as server:
        store = open_store(server.url)
        store.store([("k", b"1")], None, b"m")
        server.kill()
        assert_each_fails(store, ALL, (RedisError, OSError))
        server.restart()
        assert store.get("k") == (None, -2)
        assert store.add("k", b"1", None, b"m")


@pytest.mark.parametrize("closer", ["close", "forget"])
def test_idle_connections_are_dropped(own_url, closer):
    """A store whose idle connections were closed or left opens others."""
    store = open_store(own_url)
    store.store([("k", b"1")], None, None)
    (idle,) = store._client._pool._idle
    getattr(store, closer)()
    assert not store._client._pool._idle
    assert idle.is_open() is (closer == "forget")
    assert store.get("k") == (b"1", -1)
    idle.close()
