"""What is sent twice and what is not, when scripts or connections have gone."""

from __future__ import annotations

import pytest
import redis

from cachebridge.errors import L2Error
from cachebridge.l2 import commands
from cachebridge.l2.pool import Link
from cachebridge.testing import FaultProxy
from tests.l2.conftest import open_store


@pytest.fixture
def store(own_url):
    store = open_store(own_url)
    yield store
    store.close()


@pytest.fixture
def client(own_url):
    with redis.Redis.from_url(own_url) as client:
        yield client


@pytest.fixture
def sent(monkeypatch):
    """Record the first word of every request."""
    words = []
    exchange = Link.exchange

    def recording(self, packed, count):
        words.append(packed.split(b"\r\n")[2])
        return exchange(self, packed, count)

    monkeypatch.setattr(Link, "exchange", recording)
    return words


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
def test_idempotent_requests_are_sent_again(store, client, admin, monkeypatch, name):
    """If the end comes unnoticed, what does no harm twice is sent once more."""
    client.set("k", "1")
    store.get("k")
    kill_connections(admin)
    monkeypatch.setattr(Link, "is_stale", lambda self: False)
    call, expected = REPEATABLE[name]
    assert call(store) == expected


@pytest.mark.parametrize("name", ONCE_ONLY)
def test_others_are_not(store, client, admin, monkeypatch, name):
    """add, incr and replace may have been carried out: they fail instead."""
    client.set("k", "1")
    store.get("k")
    kill_connections(admin)
    monkeypatch.setattr(Link, "is_stale", lambda self: False)
    with pytest.raises(L2Error):
        ONCE_ONLY[name](store)
    assert client.get("k") == b"1"
    assert client.get("new") is None
    assert ONCE_ONLY[name](store) in {True, 2}


def test_sent_again_once_only(own_server, sent, monkeypatch):
    """Two attempts are the most: a server that cuts every connection is an outage."""
    with FaultProxy(own_server.host, own_server.port) as proxy:
        store = open_store(proxy.url)
        store.ping()
        proxy.refuse()
        proxy.cut()
        monkeypatch.setattr(Link, "is_stale", lambda self: False)
        sent.clear()
        with pytest.raises(L2Error, match="refused"):
            store.ping()
        assert sent == [b"PING"]


def test_timeouts_are_not_sent_again(own_server, client, sent):
    """A write that timed out may still come: it is sent once, and may count once."""
    with FaultProxy(own_server.host, own_server.port) as proxy:
        store = open_store(proxy.url, socket_timeout=0.1)
        store.store([("other", b"1")], None, None)  # the server knows the script now
        proxy.hold_requests()
        sent.clear()
        with pytest.raises(L2Error, match=r"(?i)time"):
            store.store([("late", b"1")], None, None)
        assert sent == [b"EVALSHA"]
        with redis.Redis.from_url(own_server.url) as db_0:
            assert db_0.get("late") is None
            proxy.release_held()
            assert db_0.get("late") == b"1"


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


@pytest.mark.parametrize(
    "name", ["READ", "STORE", "ADD", "TOUCH", "DELETE", "INCR", "REPLACE"]
)
def test_hashes_are_the_servers(admin, name):
    """The hash that is sent is the one under which the server keeps the text."""
    script = getattr(commands, name)
    assert admin.script_load(script.text.decode()).encode() == script.sha


def test_only_scripts_can_be_loaded():
    """A plain request has no text."""
    with pytest.raises(AssertionError):
        commands.load_script(commands.ping())


def test_refusal_is_found_out_once(user_url, sent, caplog):
    """A user without EVALSHA costs one attempt and one log line, not one per call."""
    store = open_store(user_url("+@all", "-evalsha", "-eval", "~*", "&*"))
    for number in range(3):
        store.store([("k", b"%d" % number)], None, b"m")
        assert store.incr("k", 1, b"m") == "not an integer"
    assert sent == [b"EVALSHA", b"MULTI", b"MULTI", b"MULTI"]
    assert len(caplog.records) == 1
    assert "MULTI/EXEC" in caplog.text
    assert "secret" not in caplog.text


def test_first_refusal_by_incr(user_url, client):
    """Incr cannot do without scripts and says so in the way its caller expects."""
    store = open_store(user_url("+@all", "-evalsha", "-eval", "~*", "&*"))
    client.set("k", "1")
    assert store.incr("k", 1, b"m") == "not an integer"
    assert client.get("k") == b"1"


def test_replace_without_scripts_is_atomic(user_url, client, monkeypatch):
    """A change between reading and replacing makes the replacement fail."""
    store = open_store(user_url("+@all", "-evalsha", "-eval", "~*", "&*"))
    client.set("k", "1")
    exchange = Link.exchange

    def meddling(self, packed, count):
        if packed.startswith(b"*1\r\n$5\r\nMULTI"):
            client.set("k", "meddled")
        return exchange(self, packed, count)

    assert store.replace("k", b"1", b"2", b"m")
    monkeypatch.setattr(Link, "exchange", meddling)
    assert not store.replace("k", b"2", b"3", b"m")
    assert client.get("k") == b"meddled"
