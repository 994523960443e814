"""Commands and bus meet on one server, a master; else L1 rests and the server is left.

Real servers, demoted and replaced under living connections, for threads and tasks.
"""

from __future__ import annotations

import pytest
import redis

from cachebridge.engine import engine as engine_module
from cachebridge.errors import L2UnavailableError
from cachebridge.l2.connections.link import Link
from tests.failover import ADDRESSES, two_servers
from tests.rig import (
    after_heartbeats,
    breaker_of,
    bus_of,
    engine_of,
    eventually,
    listening,
    lone_cache,
    pool_of,
    rules_of,
)
from tests.sides import SIDES, on_side

LASTING = {"bus_heartbeat": 0.05, "bus_trust": 60.0}
"""Trust that only a reason can end."""
RARE = {"bus_heartbeat": 30.0, "bus_trust": 120.0}
"""The same, and no heartbeat may come first."""
WRITES = {
    "set": lambda cache: cache.set("k", "new"),
    "set_many": lambda cache: cache.set_many({"k": "new"}),
    "add": lambda cache: cache.add("added", "new"),
    "incr": lambda cache: cache.incr("n"),
    "give": lambda cache: cache.counter("n").give(),
    "touch": lambda cache: cache.touch("k", 60),
    "delete": lambda cache: cache.delete("k"),
    "get_or_load": lambda cache: cache.get_or_load("loaded", lambda: "new"),
}


@pytest.fixture(params=ADDRESSES)
def pair(request, monkeypatch):
    with two_servers(request.param, monkeypatch) as pair:
        yield pair


@pytest.fixture
def named(monkeypatch):
    with two_servers("name", monkeypatch) as pair:
        yield pair


@pytest.fixture(params=SIDES)
def side(request):
    return request.param


def trusted(cache):
    return cache.stats().trusted


def warm(pair, options, **further):
    cache = listening(lone_cache(pair.url, **options, **further))
    cache.set_many({"k": "old", "n": 1})
    assert cache.get("k") == cache.get("k") == "old"
    pair.replicate()
    return cache


@pytest.mark.parametrize("write", WRITES)
def test_the_first_refused_write_finds_the_new_primary(named, side, write):
    """It is carried out there, once, by the very call that was refused."""
    cache = warm(named, RARE, on_error="raise")
    face = on_side(side, cache)
    face.get("n")
    named.fail_over()
    assert trusted(cache), "nothing has told it yet"
    WRITES[write](face)
    assert named.at_new.info("replication")["role"] == "master"
    eventually(lambda: trusted(cache))
    assert face.get("n") == (2 if write == "incr" else 1)
    assert named.at_new.exists("k") == (write != "delete")
    expected = {"set": "new", "set_many": "new", "delete": None}.get(write, "old")
    assert face.get("k") == expected
    assert not breaker_of(cache).failures
    eventually(lambda: not named.callers(named.at_old), "the old one is left")


def test_heartbeats_find_out(pair, side):
    """Without any write, trust ends with the next heartbeat, and comes back."""
    cache = warm(pair, LASTING)
    face = on_side(side, cache)
    with redis.Redis(pair.new.host, pair.new.port) as other:
        pair.fail_over()
        other.delete("k")  # a writer that publishes nothing to the old primary
        eventually(lambda: not pair.callers(pair.at_old))
        eventually(lambda: trusted(cache))
        assert face.get("k") is None


def test_a_demoted_server_vouches_for_nothing(named):
    """The address is its own: L1 rests for as long as it is a replica."""
    cache = warm(named, LASTING)
    named.promote()
    cache.set("k", "lost")
    assert cache.get("k") == cache.get("k") == "lost"
    named.demote()
    eventually(lambda: not trusted(cache))
    assert cache.get("k") == "old"
    health = cache.health()
    assert (health.role, health.ok) == ("replica", False)
    assert "address of the primary" in health.error or "READONLY" in health.error
    named.at_old.replicaof("NO", "ONE")
    eventually(lambda: trusted(cache))
    assert cache.get("k") == "old"
    health = cache.health()
    assert health.ok
    assert health.role == "master"
    version = named.at_old.info("server")["redis_version"]
    assert health.server.startswith(f"{named.old.host}:{named.old.port} ")
    assert health.server.endswith(version)


def test_a_standing_replica_is_an_outage(named, side):
    """The retry is told the same: the breaker counts it; nothing goes on for ever."""
    named.replicate()
    named.move()
    cache = lone_cache(named.url, on_error="raise", breaker_failures=2)
    face = on_side(side, cache)
    for _ in range(2):
        with pytest.raises(L2UnavailableError, match="read only"):
            face.set("k", "v")
    assert breaker_of(cache).is_open


def test_data_that_was_replaced(named):
    """Demoted and promoted between two heartbeats: the mark of the last one is gone.

    The server's id was copied with the data; no connection has broken.
    """
    cache = warm(named, LASTING)
    named.promote()
    cache.set("k", "lost")
    after_heartbeats(cache)
    bus = bus_of(cache)
    leave = bus._settings.leave
    with bus._session._telling:  # no heartbeat is handled meanwhile
        named.demote()
        named.at_old.replicaof("NO", "ONE")
    assert leave
    eventually(lambda: cache.get("k") == "old")


def test_a_new_connection_tells_that_the_address_has_moved(pair, side):
    """Opened for any call, it does not meet the subscription: trust ends with it."""
    cache = warm(pair, RARE)
    face = on_side(side, cache)
    pair.promote()
    pair.move()
    pair.at_new.delete("k")
    assert face.get("k") == "old", "all of it is on the old server still"
    pool_of(cache).close_idle()
    assert face.get("elsewhere") is None
    eventually(lambda: trusted(cache))
    assert face.get("k") is None
    assert pair.callers(pair.at_old) == []


def test_the_address_is_looked_up_now_and_then(pair, monkeypatch):
    """Even if the old primary goes on as before, and no connection is needed."""
    monkeypatch.setattr(engine_module, "RENEW_EVERY_S", 0.1)
    cache = warm(pair, LASTING)
    pair.promote()
    pair.move()
    pair.at_new.delete("k")
    eventually(lambda: not pair.callers(pair.at_old))
    eventually(lambda: trusted(cache))
    assert cache.get("k") is None


def test_an_address_that_cannot_be_looked_up(named, monkeypatch):
    """What is connected goes on: trust and connections outlast a broken name server."""
    monkeypatch.setattr(engine_module, "RENEW_EVERY_S", 0.1)
    cache = warm(named, LASTING)
    named.target = type("Nowhere", (), {"host": "127.0.0.1", "port": 1})
    until = rules_of(cache).trusted_until
    after_heartbeats(cache, 6)
    assert rules_of(cache).trusted_until > until
    assert cache.get("k") == "old"
    assert cache.stats().flushes == {"subscribe": 1}


def test_links_of_an_earlier_session_are_not_used(named):
    """They may lead elsewhere: after a break every connection is a new one."""
    cache = warm(named, LASTING)
    old = pool_of(cache).take_now()
    assert named.at_old.client_kill_filter(_type="pubsub") == 1
    eventually(lambda: not trusted(cache))
    eventually(lambda: trusted(cache))
    pool_of(cache).give_back(old)
    assert cache.get("n") == 1
    assert not old.is_open()


def test_leaving_is_prompt_and_harmless(redis_url, side):
    """``leave_server``: no trust, no idle connection; then all is as before."""
    cache = listening(lone_cache(redis_url, **RARE))
    face = on_side(side, cache)
    face.set("k", "v")
    face.get("k")
    old, idle = pool_of(cache).take_now(), set(pool_of(cache)._idle)
    engine_of(cache).leave_server("for a test")
    assert not any(link.is_open() for link in idle)
    assert face.get("k") == "v"
    pool_of(cache).give_back(old)
    eventually(lambda: cache.stats().flushes["subscribe"] == 2)
    eventually(lambda: trusted(cache))
    while pool_of(cache)._idle:
        assert pool_of(cache).take_now() is not old
    assert not old.is_open()


@pytest.mark.parametrize("options", [{"bus": "none"}, {"l1_max_entries": 0}])
def test_leaving_without_a_bus(redis_url, options):
    """Only connections are left: what bounds L1 then is its TTL."""
    cache = lone_cache(redis_url, **options)
    for _ in range(5):
        cache.set("k", "v")
        assert cache.get("k") == "v"
    engine_of(cache).leave_server("for a test")
    assert cache.get("k") == "v"


def test_every_idle_link_carries_heartbeats(redis_url):
    """The one that was unused for the longest time goes first."""
    cache = listening(lone_cache(redis_url, **LASTING))
    pool = pool_of(cache)
    links = [pool.open() for _ in range(4)]
    used = set()
    for link in links:
        pool.keep(link)
    take = pool.take_oldest

    def recording():
        link = take()
        used.add(link)
        return link

    bus_of(cache)._settings.commands.take_oldest = recording
    eventually(lambda: used >= set(links))
    assert trusted(cache)


def test_one_dead_link_costs_no_trust(named, monkeypatch):
    """A heartbeat that is not answered is sent again over another connection."""
    cache = warm(named, {"bus_heartbeat": 0.05, "bus_trust": 2.0})
    pool = pool_of(cache)
    spare = [pool.open() for _ in range(2)]
    for link in spare:
        pool.keep(link)
    dead = spare[0]
    send = Link.send
    monkeypatch.setattr(  # what is sent over it is lost on the way
        Link, "send", lambda link, packed: None if link is dead else send(link, packed)
    )
    eventually(lambda: not dead.is_open())
    after_heartbeats(cache)
    assert cache.stats().flushes == {"subscribe": 1}


@pytest.mark.parametrize(
    "refusal", ["full", "no right", "no right at all", "may not read"]
)
def test_a_master_that_refuses_the_mark(named, refusal):
    """It says that it is one, and L1 works on: only a proof less is to be had."""
    url = named.url
    if refusal != "full":
        rules = {
            "no right": "~* -set",
            "no right at all": "-set ~shop:* ~cachebridge:[sl]*",
            "may not read": "~cachebridge:[sl]* %W~cachebridge:mark:*",
        }
        words = f"on >secret +@all &* {rules[refusal]}".split()
        named.at_old.set("cachebridge:server-id", "given")
        named.at_old.execute_command("ACL", "SETUSER", "app", *words)
        url = url.replace("//", "//app:secret@")
    cache = lone_cache(url, **LASTING)
    if refusal == "full":
        listening(cache)
        named.at_old.config_set("maxmemory", "1")
    listening(cache)
    flushes = dict(cache.stats().flushes)
    after_heartbeats(cache, 4)
    assert trusted(cache)
    assert cache.stats().flushes == flushes
    named.at_old.config_set("maxmemory", "0")
    after_heartbeats(cache, 4)
    assert cache.stats().flushes == flushes
