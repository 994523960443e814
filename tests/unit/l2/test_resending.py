"""What is sent twice and what is not, when scripts or connections have gone."""

from __future__ import annotations

import time
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import redis

from cachebridge.core.breaker import Breaker
from cachebridge.errors import L2Error
from cachebridge.l2.connections import link, task_pool
from cachebridge.l2.connections.link import Link
from cachebridge.l2.redis import commands, load_scripts, scripts, write_log
from cachebridge.l2.store import Bounds
from cachebridge.testing import FaultProxy
from tests.rig import eventually
from tests.unit.l2.conftest import open_store


@pytest.fixture
def store(own_url, side):
    return open_store(own_url, side)


@pytest.fixture
def client(own_url):
    with redis.Redis.from_url(own_url) as client:
        yield client


@pytest.fixture
def sent(monkeypatch):
    """Record the first word of every request, but not what a cluster's watch asks."""
    words = []
    exchange = Link.exchange

    def recording(self, packed, count):
        word = packed.split(b"\r\n")[2]
        if word != b"CLUSTER":  # of an engine that another test has used
            words.append(word)
        return exchange(self, packed, count)

    def recording_task(connection, packed, count):
        words.append(packed.split(b"\r\n")[2])
        return exchange_of_task(connection, packed, count)

    exchange_of_task = task_pool.exchange
    monkeypatch.setattr(Link, "exchange", recording)
    monkeypatch.setattr(task_pool, "exchange", recording_task)
    return words


@pytest.fixture
def unnoticed(monkeypatch):
    """Let no link of the test see that its server has hung up."""
    blind = SimpleNamespace(poll=lambda _timeout_ms: [])
    monkeypatch.setattr(link, "_make_poller", lambda _socket: blind)


def kill_connections(admin):
    admin.client_kill_filter(_type="normal", skipme=True)


REPEATABLE = {
    "get": (lambda store: store.get("k"), (b"1", -1)),
    "get_many": (lambda store: store.get_many(["k"]), [(b"1", -1)]),
    "exists": (lambda store: store.exists("k"), True),
    "store": (lambda store: store.store([("k", b"2")], None, b"m"), ()),
    "store_silent": (lambda store: store.store([("k", b"2")], None, None), ()),
    "touch": (lambda store: store.touch("k", None, b"m"), True),
    "delete": (lambda store: store.delete(["gone"], b"m"), 0),
    "scan": (lambda store: store.scan("k", 0), (0, ["k"])),
    "publish": (lambda store: store.publish(b"m"), None),
    "ping": (lambda store: store.ping(), None),
}
ONCE_ONLY = {
    "add": lambda store: store.add("new", b"1", None, b"m"),
    "add_silent": lambda store: store.add("new", b"1", None, None),
    "incr": lambda store: store.incr("k", 1, b"m"),
    "count": lambda store: store.count("k", 1, Bounds(), None, b"m").value,
    "replace": lambda store: store.replace("k", b"1", b"2", b"m"),
}


@pytest.mark.parametrize("name", [*REPEATABLE, *ONCE_ONLY])
def test_hung_up_connection_is_noticed(store, client, admin, sent, name):
    """An idle connection whose peer has hung up is passed over: nothing fails."""
    client.set("k", "1")
    store.get("k")
    kill_connections(admin)
    sent.clear()
    if name in REPEATABLE:
        call, expected = REPEATABLE[name]
        assert call(store) == expected
    else:
        assert ONCE_ONLY[name](store) in {True, 2}
    assert len(sent) <= 2, "once, or twice to load the script"


@pytest.mark.parametrize("name", REPEATABLE)
@pytest.mark.usefixtures("unnoticed")
def test_idempotent_requests_are_sent_again(store, client, admin, name):
    """If the end comes unnoticed, what does no harm twice is sent once more."""
    client.set("k", "1")
    store.get("k")
    kill_connections(admin)
    call, expected = REPEATABLE[name]
    assert call(store) == expected


@pytest.mark.parametrize("name", ONCE_ONLY)
@pytest.mark.usefixtures("unnoticed")
def test_others_are_not(store, client, admin, name):
    """add, incr and replace may have been carried out: they fail instead."""
    client.set("k", "1")
    store.get("k")
    kill_connections(admin)
    with pytest.raises(L2Error):
        ONCE_ONLY[name](store)
    assert client.get("k") == b"1"
    assert client.get("new") is None
    assert ONCE_ONLY[name](store) in {True, 2}


@pytest.mark.usefixtures("unnoticed")
def test_sent_again_once_only(own_server, sent, side):
    """Two attempts are the most: a server that cuts every connection is an outage."""
    with FaultProxy(own_server.host, own_server.port) as proxy:
        store = open_store(proxy.url, side)
        store.ping()
        proxy.refuse()
        proxy.cut()
        sent.clear()
        with pytest.raises(L2Error, match="refused"):
            store.ping()
        assert sent == [b"PING"]


def test_timeouts_are_not_sent_again(own_server, client, sent, side):
    """A write that timed out may still come: it is sent once, and may count once."""
    with FaultProxy(own_server.host, own_server.port) as proxy:
        store = open_store(proxy.url, side, socket_timeout=0.5)
        store.store([("other", b"1")], None, None)  # the server knows the script now
        proxy.hold_requests()
        sent.clear()
        with pytest.raises(L2Error, match=r"(?i)time"):
            store.store([(f"late {side}", b"1")], None, None)
        assert sent == [b"EVALSHA"]
        with redis.Redis.from_url(own_server.url) as db_0:
            assert db_0.get(f"late {side}") is None
            proxy.release_held()
            eventually(lambda: db_0.get(f"late {side}") == b"1")


def test_scripts_come_back(store, client, admin, sent):
    """After SCRIPT FLUSH each script is sent with its text, once, and counts once."""
    client.set("k", "1")
    for _ in range(2):
        admin.script_flush()
        sent.clear()
        assert store.incr("k", 1, b"m") in {2, 3}
        assert sent == [b"EVALSHA", b"EVAL"]
    assert store.incr("k", 1, b"m") == 4
    assert sent[2:] == [b"EVALSHA"]


def test_a_trial_may_load_a_script(store, admin, sent):
    """A server that has restarted has no scripts: the call that finds it may send one.

    The breaker admits one call; its script's text is part of it.
    """
    breaker = store.client.breaker = Breaker(
        threshold=1,
        retry_s=60.0,
        clock=time.monotonic,
        jitter=lambda _low, high: high,
        watcher=MagicMock(),
    )
    admin.script_flush()
    breaker.fail("away")
    breaker._retry_at = 0.0
    assert store.get_many(["k"]) == [(None, -2)]
    assert sent == [b"EVALSHA", b"EVAL"]
    assert not breaker.is_open


@pytest.mark.parametrize(
    "name",
    ["READ", "STORE", "ADD", "TOUCH", "DELETE", "DELETE_OLDER", "INCR", "REPLACE"],
)
def test_hashes_are_the_servers(admin, name):
    """The hash that is sent is the one under which the server keeps the text."""
    script = {**vars(load_scripts), **vars(scripts), **vars(write_log)}[name]
    assert admin.script_load(script.text.decode()).encode() == script.sha


def test_only_scripts_can_be_loaded():
    """A plain request has no text."""
    with pytest.raises(AssertionError):
        commands.load_script(commands.ping())
