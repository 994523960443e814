"""Redis as L2, another as its bus: the two steps of Memcached, and who vouches."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager, suppress

import pytest
import redis
from flask import Flask

from cachebridge import Cache, ConfigError, L2Error
from cachebridge.flask_ext import Cache as FlaskCache
from cachebridge.testing import redis_server
from tests.failover import two_servers
from tests.hostile import serving
from tests.rig import (
    PATIENT,
    after_heartbeats,
    breaker_of,
    each_reaches,
    engine_of,
    eventually,
    listening,
    lone_cache,
    outbox_of,
    rules_of,
    spying,
    stores_of,
)
from tests.sides import SIDES, on_side
from tests.unit.django.support import entry

RIGHTS = (
    "+get +getrange +mget +exists +pttl +scan +set +append +incrby +persist +pexpire "
    "+unlink +hget +hmget +hset +hdel +hexists +time +eval +evalsha +select +info "
    "+flushdb +client"
)
"""No channel, no PUBLISH, no SUBSCRIBE, and no PING."""
_databases = itertools.count(10)
FAST = {"bus_heartbeat": 0.05, "breaker_retry": 0.05, "socket_connect_timeout": 1.0}


@pytest.fixture(scope="module")
def store():
    """Start a server whose user ``shop`` may neither publish nor subscribe."""
    with redis_server(args=("--databases", "1000")) as server:
        with redis.Redis.from_url(server.url) as admin:
            rules = ("reset", "on", ">a-secret", "~*", "resetchannels")
            admin.execute_command("ACL", "SETUSER", "shop", *rules, *RIGHTS.split())
        yield server


@pytest.fixture
def url(store):
    """Return the address of an empty database there, for that user."""
    return f"redis://shop:a-secret@{store.host}:{store.port}/{next(_databases)}"


@pytest.fixture
def make(url, redis_url):
    """Return a function that makes a cache as in a process of its own."""

    def make(location=url, **options):
        given = {"bus_location": redis_url, "key_prefix": "p:", **FAST, **options}
        return lone_cache(location, **given)

    return make


# -- what is told ---------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
def test_a_write_reaches_the_other_process(make, side):
    """Every kind of change is told once it is made, and L1 answers in between."""
    writer, theirs = listening(make()), listening(make())
    ours = on_side(side, writer)
    changes = [
        (lambda: ours.set("k", 1), 1),
        (lambda: ours.set_many({"k": 2, "l": 1}), 2),
        (lambda: ours.incr("k"), 3),
        (lambda: ours.touch("k", 60), 3),
        (lambda: ours.delete("k"), None),
        (lambda: ours.add("k", "a"), "a"),
        (lambda: ours.append("k", "b"), "ab"),
        (lambda: ours.delete_many(["k", "l"]), None),
        (lambda: ours.get_or_load("k", lambda: 5), 5),
        (ours.clear, None),
        (lambda: ours.set("k", 6), 6),
    ]
    each_reaches(changes, writer, theirs)
    assert listening(make()).warm(pattern="*") == 1
    assert ours.counter("seats").give(3)
    assert theirs.counter("seats").take(2)
    assert ours.counter("seats").value() == 1


def test_one_message_per_change_and_none_at_the_store(make, store, redis_url):
    """None for what changed nothing; what the server keeps no message of is told."""
    cache = make(clear_flushes_db=True)
    rules_of(cache).on_subscribed()
    with spying(redis_url) as spy, spying(store.url) as none:
        cache.set_many({f"k{number}": number for number in range(300)})
        cache.delete("gone")
        assert not cache.add("k1", 1)
        assert not cache.touch("gone")
        assert cache.clear()
        messages = spy.messages()
        assert none.frames() == []
    assert [len(message.keys) for message in messages] == [300, 1, 0]


def test_the_failed_load_of_another_process_is_told(make, monkeypatch):
    """A caller that waits for it there goes on at once."""
    monkeypatch.setattr("cachebridge.core.loading.POLL_WITH_BUS_S", 600.0)
    ours, theirs = (listening(make(lease_ttl=600.0)) for _ in range(2))
    begun, may_fail, answers = threading.Event(), threading.Event(), []

    def fail():
        begun.set()
        assert may_fail.wait(30.0)
        raise LookupError

    def load():
        with suppress(LookupError):
            ours.get_or_load("k", fail)

    threads = [
        threading.Thread(target=load),
        threading.Thread(
            target=lambda: answers.append(theirs.get_or_load("k", lambda: 2))
        ),
    ]
    threads[0].start()
    assert begun.wait(30.0)
    threads[1].start()
    eventually(lambda: theirs.stats().lease_waits)
    may_fail.set()
    for thread in threads:
        thread.join(30.0)
    assert answers == [2]


def test_messages_are_owed_while_the_bus_is_away(make, bus):
    """Each key once; the other process hears of them when the bus is back."""
    ours, theirs = (listening(make(bus_location=bus.url)) for _ in range(2))
    ours.set_many({"k": 1, "l": 1})
    assert theirs.get_many(["k", "l"]) == {"k": 1, "l": 1}
    bus.kill()
    for number in range(20):
        assert ours.set("k", number)
    ours.delete("l")
    health = ours.health()
    assert health.messages_owed == 2
    assert health.l2_reachable
    eventually(lambda: not theirs.stats().trusted)
    assert theirs.get_many(["k", "l"]) == {"k": 19}  # the store is there
    bus.restart()
    eventually(lambda: theirs.stats().trusted and not ours.health().messages_owed)
    assert theirs.get_many(["k", "l"]) == {"k": 19}


def test_a_change_without_an_answer_is_told(redis_server_factory, redis_url):
    """Also if it is carried out long after the caller was told that it failed."""
    own = redis_server_factory()
    options = {"bus_location": redis_url, "on_error": "raise", **FAST}
    ours = listening(lone_cache(own.url, socket_timeout=0.6, **options))
    theirs = listening(lone_cache(own.url, **options))
    ours.set("k", 1)
    assert theirs.get("k") == 1
    own.pause()
    with pytest.raises(L2Error):
        ours.set("k", 7)
    own.resume()
    eventually(lambda: theirs.get("k") == 7)
    eventually(lambda: not ours.health().messages_owed)
    assert theirs.get("k") == 7


WRITER = textwrap.dedent(
    """
    import os, signal, sys
    from cachebridge import Cache
    from cachebridge.engine.messages.outbox import Sender
    Sender.send = lambda self, message: os.kill(os.getpid(), signal.SIGKILL)
    Cache(sys.argv[1], bus_location=sys.argv[2], key_prefix="p:").set("k", "new")
    """
)


def test_a_writer_killed_before_its_message(make, url, redis_url):
    """Peers keep the old value for L1_TTL, which health() says, and no longer."""
    reader = listening(make(l1_ttl=1.5))
    lasting = listening(make(l1_ttl=600.0))
    assert reader.health().staleness_bound_s == 1.5
    reader.set("k", "old", None)
    after_heartbeats(lasting)
    assert reader.get("k") == lasting.get("k") == "old"
    writer = subprocess.run([sys.executable, "-c", WRITER, url, redis_url], check=False)
    assert writer.returncode == -signal.SIGKILL
    eventually(lambda: reader.get("k") == "new")
    assert lasting.get("k") == "old"


# -- who vouches, and who keeps what --------------------------------------------------


def test_the_bus_keeps_switch_and_server_id(make, store, redis_url):
    """What says whether L1 is on outlasts a flush of the store."""
    ours, theirs = listening(make(clear_flushes_db=True)), listening(make())
    ours.l1_off()
    eventually(lambda: not theirs.health().l1_enabled)
    assert ours.clear()
    late = make()
    engine_of(late).listening.start()
    eventually(lambda: not late.health().l1_enabled)
    ours.l1_on()
    eventually(lambda: theirs.health().l1_enabled and late.health().l1_enabled)
    with (
        redis.Redis.from_url(store.url) as at_store,
        redis.Redis.from_url(redis_url) as at_bus,
    ):
        assert not at_store.exists("cachebridge:server-id", "cachebridge:l1")
        assert at_bus.exists("cachebridge:server-id", "cachebridge:l1") == 2


def test_two_stores_on_one_bus_are_no_siblings(store, bus, redis_url):
    """The id of the bus says nothing of where the keys are."""
    caches = [
        listening(Cache(server.url, bus_location=redis_url)) for server in (store, bus)
    ]
    assert len({engine_of(cache).server_id for cache in caches}) == 1
    assert all(rules_of(cache).siblings == () for cache in caches)
    for cache in caches:
        cache.close()


@pytest.mark.parametrize("side", SIDES)
def test_the_store_fails_over(make, monkeypatch, side):
    """Commands follow the address; the bus, and trust in L1, have no part in it."""
    with two_servers("name", monkeypatch) as pair:
        cache = listening(make(pair.url, bus_trust=60.0))
        face = on_side(side, cache)
        face.set("k", "v")
        pair.replicate()
        pair.fail_over()
        flushes = cache.stats().flushes
        assert face.set("k", "w")
        assert not pair.callers(pair.at_old)
        assert pair.at_new.exists("p:k")
        assert cache.stats().trusted
        assert cache.stats().flushes == flushes
        assert f":{pair.new.port} " in cache.health().server


def test_one_server_for_both(make, redis_url):
    """It works, in two steps: also a flush, which takes the names of the bus along."""
    ours = listening(make(redis_url, clear_flushes_db=True))
    theirs = listening(make(redis_url))
    ours.set("k", 1)
    assert theirs.get("k") == 1
    ours.l1_off()
    eventually(lambda: not theirs.health().l1_enabled)
    assert ours.clear()
    with redis.Redis.from_url(redis_url) as client:
        eventually(lambda: client.get("cachebridge:l1") == b"off")
    ours.l1_on()
    eventually(lambda: theirs.stats().trusted)
    assert theirs.get("k") is None


def is_up(server):
    with suppress(ConnectionRefusedError):
        socket.create_connection((server.host, server.port)).close()
        return True
    return False


@contextmanager
def proxied(server):
    """Lead to a server as Envoy does: PING is answered here, and no pub/sub passes."""

    def talk(connection):
        with suppress(ConnectionRefusedError):
            with socket.create_connection((server.host, server.port)) as upstream:

                def back():
                    with suppress(OSError):
                        while data := upstream.recv(65536):
                            connection.sendall(data)
                        connection.shutdown(socket.SHUT_RDWR)

                thread = threading.Thread(target=back, daemon=True)
                thread.start()
                while data := connection.recv(65536):
                    assert b"SUBSCRIBE" not in data
                    if data == b"*1\r\n$4\r\nPING\r\n":
                        connection.sendall(b"+PONG\r\n")
                    else:
                        upstream.sendall(data)
                upstream.shutdown(socket.SHUT_RDWR)
                thread.join(10)
            return
        while (data := connection.recv(65536)) and not is_up(server):
            answer = b"+PONG" if b"PING" in data else b"-no upstream host"
            connection.sendall((answer + b"\r\n") * data.count(b"*"))

    with serving(talk) as port:
        yield f"redis://127.0.0.1:{port}/0"


def test_a_proxy_that_answers_ping_itself(make, redis_server_factory):
    """It is no proof of a server: behind it, an outage begins and ends as any other."""
    server = redis_server_factory()
    with proxied(server) as location:
        ours, theirs = listening(make(location)), listening(make(location))
        assert ours.set("k", 1)
        assert theirs.get("k") == 1
        ours.set("k", 2)
        eventually(lambda: theirs.get("k") == 2)
        assert ours.health().ok
        server.kill()
        assert not ours.health().l2_reachable
        eventually(lambda: ours.get("none") is None and breaker_of(ours).is_open)
        assert ours.set("k", 3) is False
        server.restart()
        eventually(lambda: ours.health().ok and not ours.health().deletes_owed)
        assert ours.set("k", 4)
        eventually(lambda: theirs.get("k") == 4)


def test_a_forked_child_starts_anew(make):
    """It owes nothing of its parent's, and talks over connections of its own."""
    ours = make(**PATIENT)
    ours.set("k", 1)
    child = os.fork()
    if not child:
        good = ours.get("k") == 1 and not len(outbox_of(ours)) and ours.set("k", 2)
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert ours.get("k") == 2


# -- options --------------------------------------------------------------------------


@pytest.mark.parametrize("adapter", ["django", "flask"])
def test_adapters(url, redis_url, settings, adapter):
    """The option is the same everywhere."""
    with spying(redis_url) as spy:
        if adapter == "django":
            from django.core.cache import caches

            settings.CACHES = {
                "default": entry(url, OPTIONS={"BUS_LOCATION": redis_url})
            }
            cache = caches["default"]
            cache.set("k", 1)
            assert cache.get("k") == 1
        else:
            app = Flask(__name__)
            config = {
                "CACHE_TYPE": "RedisCache",
                "CACHE_REDIS_URL": url,
                "CACHE_BRIDGE": {"BUS_LOCATION": redis_url},
            }
            cache = FlaskCache(app, config=config)
            with app.app_context():
                cache.set("k", 1)
                assert cache.get("k") == 1
        assert [len(message.keys) for message in spy.messages()] == [1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bus_location": "memcached://b"}, "must be the URL of a Redis server: redis"),
        ({"bus_location": "memory://"}, "must be the URL of a Redis server: redis"),
        ({"bus_location": "x:secret@y"}, "BUS_LOCATION: LOCATION"),
        ({"bus_location": "redis://:secret@h/x"}, "BUS_LOCATION: .* is not a number"),
        (
            {
                "bus_location": "redis+sentinel://h/name",
                "sentinel_kwargs": {"password": "secret"},
            },
            "SENTINEL_KWARGS are for redis.sentinel://, not for 'redis://a'",
        ),
    ],
)
def test_unusable_options(options, says):
    """Each is named, with what would do, and without its secrets."""
    with pytest.raises(ConfigError, match=says) as raised:
        Cache("redis://a", **options)
    assert "secret" not in str(raised.value)


def test_each_has_its_login_and_arguments(make, url, bus, caplog):
    """CLIENT_KWARGS are for LOCATION; what the bus needs stands in its URL."""
    caplog.set_level(logging.DEBUG)
    with redis.Redis.from_url(bus.url) as admin:
        rules = ("reset", "on", ">hush-hush", "~cachebridge:*", "resetchannels")
        rights = (
            "&cachebridge:* -@all +client +mget +set +publish +subscribe +eval +evalsha"
        )
        admin.execute_command("ACL", "SETUSER", "bus", *rules, *rights.split())
        bus_url = bus.url.replace("redis://", "redis://bus:hush-hush@")
        named = f"{bus_url}?client_name=of-the-bus"
        cache = listening(
            make(bus_location=named, client_kwargs={"client_name": "of-the-keys"})
        )
        assert cache.set("k", 1)
        names = {each["name"] for each in admin.client_list() if each["user"] == "bus"}
        assert names == {"of-the-bus"}
    keys_of = stores_of(cache).redis.location
    assert "of-the-keys" not in str(stores_of(cache).bus.location.connection_kwargs)
    assert keys_of.connection_kwargs["username"] == "shop"
    health = str(cache.health())
    assert "hush-hush" not in health + caplog.text
    assert "a-secret" not in health + caplog.text


def test_no_bus_at_all(make):
    """BUS="none" wins: nothing is published, and L1_TTL bounds L1."""
    cache = make(bus="none", l1_ttl=7.0)
    for _ in range(4):
        cache.get("k")
    assert cache.set("k", 1)
    assert cache.clear()
    health = cache.health()
    assert health.bus.startswith("BUS is 'none'")
    assert health.staleness_bound_s == 7.0
    assert health.ok
