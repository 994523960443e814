"""The listener on a real server: trust comes with proof and goes with every doubt."""

from __future__ import annotations

import logging
import threading
import time

import pytest
import redis

from cachebridge.bus.listener import BACKOFF_MIN_S
from cachebridge.codec.messages import Message, MessageType, encode_message
from cachebridge.testing import FaultProxy, redis_server
from tests.rig import (
    PATIENCE_S,
    STRANGER,
    after_heartbeats,
    bus_of,
    engine_of,
    eventually,
    l1_of,
    listening,
    lone_cache,
    pool_of,
    receiver_of,
    rules_of,
    spying,
)

QUICK = {"bus_heartbeat": 0.05, "bus_trust": 1.0}
"""Trust that ends soon when it must."""
LASTING = {"bus_heartbeat": 0.05, "bus_trust": 60.0}
"""Trust that a stalled process does not lose by itself."""


@pytest.fixture
def server(redis_server_factory):
    return redis_server_factory()


@pytest.fixture
def admin(server):
    with redis.Redis.from_url(server.url) as client:
        yield client


def trusted(cache):
    return cache.stats().trusted


def threads():
    return [t for t in threading.enumerate() if t.name == "cachebridge-listener"]


def kill_subscriptions(admin):
    return admin.client_kill_filter(_type="pubsub")


def test_trust_comes(redis_url):
    """Acknowledged, flushed, and then vouched for by the first heartbeat."""
    cache = lone_cache(redis_url, **LASTING)
    health = cache.health()
    assert not health.bus_connected
    assert not health.l1_trusted
    assert health.l2_reachable
    assert "not listening yet" in health.error
    listening(cache)
    health = cache.health()
    assert health.ok
    assert health.bus_connected
    assert health.error == ""
    assert health.staleness_bound_s == 60.0
    assert cache.stats().flushes == {"subscribe": 1}
    with redis.Redis.from_url(redis_url) as client:
        assert len(client.get("cachebridge:server-id")) == 16
    assert all(thread.daemon for thread in threads())


def test_trust_is_renewed(redis_url):
    """Each heartbeat that comes back moves the end of it on; L1 goes on meanwhile."""
    cache = listening(lone_cache(redis_url, **LASTING))
    cache.set("k", "v")
    ends = []
    for _ in range(10):
        ends.append(rules_of(cache).trusted_until)
        after_heartbeats(cache, 1)
        assert trusted(cache)
        assert cache.get("k") == "v"
    assert ends == sorted(set(ends))
    assert cache.stats().flushes == {"subscribe": 1}
    assert cache.stats().l2_hits == 0


def test_invalidation_arrives(redis_url):
    """A write of one is seen by the other within moments; its own echo is ignored."""
    one, two = listening(lone_cache(redis_url)), listening(lone_cache(redis_url))
    for version in range(50):
        one.set("k", version)
        eventually(lambda version=version: two.get("k") == version)
        assert one.get("k") == version
    assert one.stats().l2_hits < 25, "mostly written through"
    stats = two.stats()
    assert stats.invalidation_delay.count == 50
    assert 0 < stats.invalidation_delay.quantile(0.5) < PATIENCE_S  # in seconds
    assert stats.messages_received >= 50
    assert one.stats().messages_sent == 50
    one.delete("k")
    eventually(lambda: two.get("k") is None)
    one.set_many({"a": 1, "b": 2})
    assert two.get_many(["a", "b"]) == {"a": 1, "b": 2}
    one.delete_many(["a", "b"])
    eventually(lambda: two.get_many(["a", "b"]) == {})


def test_databases_do_not_hear_each_other(server):
    """The channel has the database's number: pub/sub itself would ignore it."""
    zero = listening(lone_cache(server.url))
    one = listening(lone_cache(server.url[:-1] + "1"))
    zero.set("k", "zero")
    one.set("k", "one")
    # The message that tests the right to the channel, and the echo of the own write.
    eventually(lambda: zero.stats().messages_received == 2)
    for _ in range(10):
        one.set("k", "one")
    assert zero.get("k") == "zero"
    zero.set("l", "later than the others'")
    eventually(lambda: zero.stats().messages_received >= 3)
    assert zero.stats().messages_received == 3


def test_killed_subscription(server, admin):
    """L1 is off at once, flushed on the new acknowledgement, and on again."""
    cache = listening(lone_cache(server.url, **QUICK))
    cache.set("k", "old")
    assert cache.get("k") == "old"
    seen = set()
    for round_ in range(1, 6):
        admin.set("k", b"%d" % round_)
        assert kill_subscriptions(admin) == 1
        flushes = round_ + 1
        eventually(lambda least=flushes: cache.stats().flushes["subscribe"] == least)
        eventually(lambda: trusted(cache))
        seen.add(cache.get("k"))
        assert cache.get("k") == round_
    assert seen == {1, 2, 3, 4, 5}
    assert cache.health().ok


def test_entries_are_unusable_during_a_break(server, admin):
    """Between the break and the acknowledgement every read goes to L2."""
    with FaultProxy(server.host, server.port) as proxy:
        cache = listening(lone_cache(proxy.url, **QUICK))
        cache.set("k", "old")
        admin_cache = lone_cache(server.url)
        pool = pool_of(cache)
        pool.keep(pool.open())  # the break may take along the link of a heartbeat
        proxy.refuse()
        assert kill_subscriptions(admin) == 1
        eventually(lambda: not trusted(cache))
        assert len(l1_of(cache)) == 1
        admin_cache.set("k", "new")
        assert cache.get("k") == "new"
        proxy.restore()
        eventually(lambda: trusted(cache))
        assert cache.get("k") == "new"


def test_restart_with_nothing(server):
    """An empty server: what L1 held is gone, and trust returns with a new id."""
    cache = listening(lone_cache(server.url, **QUICK))
    cache.set("k", "v")
    with redis.Redis.from_url(server.url) as client:
        old_id = client.get("cachebridge:server-id")
    flushes = cache.stats().flushes["subscribe"]
    server.restart()
    eventually(lambda: cache.stats().flushes["subscribe"] > flushes)
    eventually(lambda: trusted(cache))
    assert cache.get("k") is None
    with redis.Redis.from_url(server.url) as client:
        assert client.get("cachebridge:server-id") not in {old_id, None}


@pytest.mark.parametrize("how", ["flushall", "other id"])
def test_server_changed_under_a_living_connection(server, admin, how):
    """I14: FLUSHALL, or another server at the same address, flushes L1."""
    cache = listening(lone_cache(server.url, **LASTING))
    cache.set("k", "v")
    assert cache.get("k") == "v"
    if how == "flushall":
        admin.flushall()
    else:
        admin.delete("k")
        admin.set("cachebridge:server-id", "another")
    eventually(lambda: cache.get("k") is None)
    assert cache.stats().flushes["server"] == 1
    eventually(lambda: trusted(cache))
    assert admin.get("cachebridge:server-id")


def test_half_open_connection(server):
    """Nothing arrives and nothing ends: trust runs out by itself within BUS_TRUST."""
    with FaultProxy(server.host, server.port) as proxy:
        cache = listening(lone_cache(proxy.url, **QUICK))
        other = lone_cache(server.url)
        cache.set("k", "old")
        assert cache.get("k") == "old"
        proxy.silence()
        silent_since = time.monotonic()
        other.set("k", "new")
        assert rules_of(cache).trusted_until <= silent_since + QUICK["bus_trust"]
        eventually(lambda: not trusted(cache))
        proxy.restore()
        eventually(lambda: trusted(cache))
        assert cache.get("k") == "new"
        assert proxy.fired["silence"] > 0


def test_stalled_server(server):
    """A server that stalls longer than BUS_TRUST turns L1 off, and on again after."""
    cache = listening(lone_cache(server.url, **QUICK))
    cache.set("k", "v")
    server.pause()
    eventually(lambda: not trusted(cache))
    server.resume()
    eventually(lambda: trusted(cache))
    assert cache.get("k") == "v"


def test_dead_server_is_tried_with_patience(server, caplog):
    """Attempts grow apart, one line tells of it, and one of the recovery."""
    cache = listening(lone_cache(server.url, **QUICK))
    attempts = []
    make = bus_of(cache)._settings.make_connection
    session = bus_of(cache)._settings

    def counting():
        attempts.append(time.monotonic())
        return make()

    object.__setattr__(session, "make_connection", counting)
    server.kill()
    eventually(lambda: not cache.stats().trusted)
    eventually(lambda: len(attempts) >= 2 * 6)
    # Two connections each, and between two attempts at least half of the longest pause.
    pauses = [BACKOFF_MIN_S * 2**number / 2 for number in range(5)]
    assert attempts[11] - attempts[0] >= sum(pauses)
    problems = [r for r in caplog.records if r.name == "cachebridge.bus"]
    assert len(problems) <= 2, "the cut, and the refusals"
    assert all(record.levelno == logging.WARNING for record in problems)
    assert not cache.health().ok
    assert cache.health().error
    server.restart()
    eventually(lambda: trusted(cache))
    assert caplog.records[-1].message.endswith("again")


@pytest.mark.parametrize(
    ("missing", "granted"),
    [("resetchannels", "&*"), ("-publish", "+publish"), ("-mget", "+mget")],
)
def test_missing_right(server, admin, caplog, missing, granted):
    """L1 stays off, one error line says why, so does health; it recovers when granted.

    Reads work all the while.
    """
    admin.execute_command(
        "ACL", "SETUSER", "app", "on", ">secret", "+@all", "~*", "&*", missing
    )
    url = server.url.replace("//", "//app:secret@")
    admin.set("k", "1")
    cache = lone_cache(url, **QUICK)
    for _ in range(5):
        assert cache.get("k") == 1
    eventually(lambda: "permission" in cache.health().error)
    attempts = []
    refuse = receiver_of(cache).on_break
    receiver_of(cache).on_break = lambda reason: (attempts.append(1), refuse(reason))
    eventually(lambda: len(attempts) >= 4)
    assert not trusted(cache)
    assert cache.stats().l1_entries == 0
    assert not cache.health().ok
    assert cache.health().l2_reachable
    errors = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "secret" not in caplog.text
    admin.execute_command("ACL", "SETUSER", "app", granted)
    eventually(lambda: trusted(cache))
    assert cache.get("k") == cache.get("k") == 1
    assert cache.health().ok


def forge(kind, *, origin=STRANGER, write_id=1, keys=(), on=False):
    return encode_message(Message(kind, origin, write_id, 0, keys, on))


def test_forged_frames(redis_url):
    """A stranger on the channel can cause misses, never a wrong value or an error."""
    cache = listening(lone_cache(redis_url, **LASTING))
    origin = rules_of(cache).origin
    frames = [
        b"",
        b"\xcb",
        b"garbage" * 1000,
        b"\x80\x05cos\nsystem\n",
        forge(MessageType.KEYS, keys=("k",)),
        forge(MessageType.KEYS, origin=origin, write_id=99, keys=("k",)),
        forge(MessageType.KEYS)[:-1],
        forge(MessageType.CLEAR),
        forge(MessageType.PREFIX, keys=("",)),
        forge(MessageType.HEARTBEAT),
        forge(MessageType.SWITCH, on=False),
        forge(MessageType.SWITCH, on=True),
        forge(MessageType.KEYS)[:1] + b"\x09" + forge(MessageType.KEYS)[2:],
    ]
    with spying(redis_url) as spy:
        for frame in frames * 3:
            cache.set("k", "v")
            spy.publish(frame)
            for _ in range(3):
                assert cache.get("k") == "v"
        spy.publish(forge(MessageType.KEYS))
    eventually(lambda: cache.stats().messages_malformed >= 12)
    cache.l1_on()  # a heartbeat between the forged switches may have kept the "off"
    eventually(lambda: trusted(cache))
    assert threads()
    assert cache.get("k") == cache.get("k") == "v"


@pytest.mark.parametrize("nonce", [b"\0" * 16, b"x" * 16, b""])
def test_forged_heartbeats(redis_url, nonce):
    """A nonce that the listener did not send vouches for nothing and breaks nothing."""
    cache = listening(lone_cache(redis_url, bus_heartbeat=60.0, bus_trust=240.0))
    rules = rules_of(cache)
    until = rules.trusted_until
    private = bus_of(cache)._session._private
    with redis.Redis.from_url(redis_url) as client:
        assert client.publish(private, nonce) == 1
    received = cache.stats().messages_received
    cache.set("k", "v")  # what comes later on the same connection
    eventually(lambda: cache.stats().messages_received > received)
    assert rules.trusted_until == until


def test_switch_reaches_the_fleet(redis_url):
    """l1_off empties and stops every L1, of processes to come too, until l1_on."""
    one, two = (listening(lone_cache(redis_url, **LASTING)) for _ in range(2))
    one.set("k", "v")
    assert two.get("k") == two.get("k") == "v"
    two.l1_off()
    assert two.stats().l1_entries == 0
    eventually(lambda: not trusted(one))
    assert one.get("k") == "v"
    late = lone_cache(redis_url, **LASTING)
    for _ in range(5):
        assert late.get("k") == "v"
    eventually(lambda: late.health().bus_connected)
    after_heartbeats(late)
    for cache in (one, two, late):
        assert not trusted(cache)
        assert not cache.health().l1_enabled
        assert cache.stats().l1_entries == 0
    late.l1_on()
    for cache in (one, two, late):
        eventually(lambda cache=cache: trusted(cache))
        assert cache.get("k") == cache.get("k") == "v"
        assert cache.health().l1_enabled


def test_the_switch_outlives_its_key(redis_url):
    """A key that Redis has evicted says nothing: who knows better writes it again."""
    cache = listening(lone_cache(redis_url, **LASTING))
    cache.l1_off()
    with redis.Redis.from_url(redis_url) as client:
        for lose in (lambda: client.delete("cachebridge:l1"), client.flushdb):
            lose()
            eventually(lambda: client.get("cachebridge:l1") == b"off")
            after_heartbeats(cache)
            assert not cache.health().l1_enabled
            late = lone_cache(redis_url, **LASTING)
            for _ in range(5):
                late.get("k")
            after_heartbeats(late)
            assert not late.health().l1_enabled
        cache.l1_on()
        assert client.get("cachebridge:l1") == b"on"
        eventually(lambda: late.health().l1_enabled)
        client.delete("cachebridge:l1")
        after_heartbeats(cache)
        assert cache.health().l1_enabled
        assert not client.exists("cachebridge:l1")


@pytest.mark.parametrize("bus", ["pubsub", "none", "memory"])
def test_switch_before_the_first_read(redis_url, bus):
    """L1 that was switched off stays off when reading begins, with any bus."""
    if bus == "memory":
        cache = lone_cache("memory://")
    else:
        cache = lone_cache(redis_url, bus=bus, **LASTING)
    cache.set("k", "v")
    cache.l1_off()
    for _ in range(5):
        assert cache.get("k") == "v"
    engine_of(cache).listening.start()
    if bus == "pubsub":
        after_heartbeats(cache)
    assert cache.get("k") == "v"
    assert cache.stats().l1_hits == 0
    cache.l1_on()
    eventually(lambda: trusted(cache))
    cache.get("k")
    assert cache.get("k") == "v"
    assert cache.stats().l1_hits >= 1


def test_two_servers(shared_server, redis_url):
    """Engines of different servers have different ids and never mix."""
    with redis_server() as other:
        here, there = listening(lone_cache(redis_url)), listening(lone_cache(other.url))
        here.set("k", "here")
        there.set("k", "there")
        assert (here.get("k"), there.get("k")) == ("here", "there")
        assert rules_of(here).origin != rules_of(there).origin
