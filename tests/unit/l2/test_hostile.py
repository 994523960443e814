"""Servers that answer anything: an L2Error in time, for threads, tasks and the bus."""

from __future__ import annotations

import re

import pytest

from cachebridge import Cache
from cachebridge.bounds import MAX_REPLY_ITEMS, MAX_VALUE_BYTES
from cachebridge.commands.facts import questions_of
from cachebridge.errors import L2Error
from cachebridge.l2.redis import client
from cachebridge.l2.store import Bounds
from cachebridge.parsers import HiredisParser, PythonParser
from tests.hostile import redis_that_answers, scripted, serving, trickle
from tests.rig import PATIENCE_S, engine_of, eventually, lone_cache, receiver_of
from tests.unit.l2.conftest import open_memcached, open_store
from tests.unit.l2.test_contract import KeptMessages

sides = pytest.mark.parametrize("side", ["threads", "tasks"])
parsers = pytest.mark.parametrize("parser", [HiredisParser, PythonParser])

NO_REPLIES = {
    "http": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "negative": b"$-12\r\n:1\r\n",
    "value": b"$%d\r\n" % (MAX_VALUE_BYTES + 1) + b"x" * (1 << 21),
    "array": b"*%d\r\n:1\r\n" % (MAX_REPLY_ITEMS + 1),
    "deep": b"*1\r\n" * 300_000,
    "line": b"+" + b"x" * 2_000_000,
    "set": b"~1\r\n*0\r\n:1\r\n",
    "map": b"%1\r\n*0\r\n:1\r\n:1\r\n",
    "zeros": b"\0" * 1000,
    "too many": b":1\r\n" * 20,
}
WRONG_KINDS = {
    "integer": b":1\r\n",
    "text": b"$1\r\nx\r\n",
    "array": b"*1\r\n:1\r\n",
    "nothing": b"$-1\r\n",
    "nested": b"*1\r\n*1\r\n*0\r\n",
    "error inside": b"*2\r\n-ERR a\r\n:1\r\n",
    "no script": b"-NOSCRIPT No matching script.\r\n",
    "wrong type": b"-WRONGTYPE Operation against a key\x1b[2J\n\r\n",
}


def calls(store):
    """Return calls of every kind, by name."""
    return {
        "get": lambda: store.get("k"),
        "get_many": lambda: store.get_many(["k", "l"]),
        "exists": lambda: store.exists("k"),
        "store": lambda: store.store([("k", b"v")], 1000, b"m"),
        "add": lambda: store.add("k", b"v", 1000, b"m"),
        "touch": lambda: store.touch("k", 1000, b"m"),
        "delete": lambda: store.delete(["k"], b"m"),
        "incr": lambda: store.incr("k", 1, b"m"),
        "count": lambda: store.count("k", 1, Bounds(), 1000, b"m"),
        "replace": lambda: store.replace("k", b"v", b"w", b"m"),
    }


def outcome_of(call):
    """Return the L2Error, or the answer; anything else comes out."""
    try:
        outcome = call()
    except L2Error as exc:
        outcome = exc
    assert not isinstance(outcome, L2Error) or str(outcome).isprintable()
    return outcome


@sides
@parsers
@pytest.mark.parametrize("answer", NO_REPLIES.values(), ids=NO_REPLIES)
def test_no_reply(answer, side, parser, monkeypatch):
    """Whatever it is, it is an L2Error, and the connection is not used again."""
    monkeypatch.setattr(client, "make_parser", parser)
    with redis_that_answers(answer) as port:
        store = open_store(f"redis://127.0.0.1:{port}", side)
        for name in ("get", "get_many"):
            assert isinstance(outcome_of(calls(store)[name]), L2Error)
        store.close()


@sides
@parsers
@pytest.mark.parametrize("answer", WRONG_KINDS.values(), ids=WRONG_KINDS)
def test_a_reply_of_another_kind(answer, side, parser, monkeypatch):
    """It is an L2Error, or an answer that such a call may give; nothing else."""
    monkeypatch.setattr(client, "make_parser", parser)
    with redis_that_answers(answer) as port:
        store = open_store(f"redis://127.0.0.1:{port}", side, socket_timeout=0.2)
        for name, call in calls(store).items():
            outcome = outcome_of(call)
            assert isinstance(outcome, (L2Error, bool, int, tuple, type(None))), name
        store.close()


MEMCACHED_ANSWERS = {
    "negative": b"HD\r\nVA -12 f\r\n",
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "redis": b"-ERR unknown command 'mg'\r\n" * 3,
    "value": b"VA %d f0 t0 c1\r\n" % (MAX_VALUE_BYTES + 1),
    "numbers": b"HD fx ty cz\r\n" * 3,
    "flags": b"VA 2 f999999999999 t-1 c1\r\n[]\r\n" * 3,
    "clears": b"VA 6 f1 t-1 c1\r\n[[[[[[\r\n" * 2,
    "deep": b"VA 200000 f1 t-1 c1\r\n%b\r\n" % (b"[" * 200_000) * 2,
    "error": b"SERVER_ERROR \x1b[2J\x07\r\n" * 3,
    "line": b"x" * 100_000,
}


@sides
@pytest.mark.parametrize("answer", MEMCACHED_ANSWERS.values(), ids=MEMCACHED_ANSWERS)
def test_a_memcached_that_answers_anything(answer, side):
    """An L2Error, or a miss, for every call."""
    with scripted(answer) as port:
        url = f"memcached://127.0.0.1:{port}"
        store = open_memcached(url, KeptMessages(), side, socket_timeout=0.1)
        for call in calls(store).values():
            outcome_of(call)
        assert isinstance(outcome_of(calls(store)["get"]), L2Error)
        store.close()


# -- the deadline is for the whole reply ---------------------------------------------


@sides
@pytest.mark.parametrize("answer", [b"$1000\r\n" + b"x" * 900, b"*900\r\n" + b":1\r\n"])
def test_a_trickle(answer, side):
    """Each byte comes in time, and the reply does not."""
    with redis_that_answers(answer, trickle_s=0.01) as port:
        store = open_store(f"redis://127.0.0.1:{port}", side, socket_timeout=0.3)
        outcome = outcome_of(calls(store)["get"])
        assert isinstance(outcome, L2Error)
        assert re.search("timed out|Timeout", str(outcome))
        store.close()


@sides
def test_a_trickle_of_memcached(side):
    """The same there."""

    def talk(connection):
        connection.recv(65536)
        trickle(connection, b"VA 900 f1 t1 c1\r\n" + b"x" * 800, 0.01)

    with serving(talk) as port:
        url = f"memcached://127.0.0.1:{port}"
        store = open_memcached(url, KeptMessages(), side, socket_timeout=0.3)
        assert "timed out" in str(outcome_of(calls(store)["get"]))
        store.close()


HANDSHAKES = {
    "trickle": None,
    "endless": b"+" + b"x" * 200_000,
    "deep": b"*1\r\n" * 10_000,
    "array": b"*99999999\r\n:1\r\n",
    "negative": b"$-12\r\n",
    "number": b":x\r\n",
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "value": b"$99999999999999999999\r\n",
}


@sides
@pytest.mark.parametrize("answer", HANDSHAKES.values(), ids=HANDSHAKES)
def test_the_handshake(answer, side):
    """redis-py's own part is bounded in time and memory as well."""

    def talk(connection):
        while connection.recv(65536):
            if answer is None:
                trickle(connection, b"$900\r\n", 0.01)
            connection.sendall(answer)

    with serving(talk) as port:
        url = f"redis://:password@127.0.0.1:{port}"
        store = open_store(url, side, socket_timeout=0.3)
        assert isinstance(outcome_of(calls(store)["get"]), L2Error)
        store.close()


# -- the bus, and the checks -----------------------------------------------------------


@pytest.mark.parametrize("answer", NO_REPLIES.values(), ids=NO_REPLIES)
def test_the_bus(answer):
    """L1 is not trusted, health says why in one line, and the thread ends in time."""
    with redis_that_answers(answer) as port:
        cache = lone_cache(f"redis://127.0.0.1:{port}", socket_timeout=0.3)
        engine_of(cache).listening.start()
        problem = eventually(lambda: receiver_of(cache).problem)
        assert problem.isprintable()
        assert not cache.stats().trusted
        assert not cache.health().ok


def test_the_bus_in_a_trickle():
    """Nor does a subscription that is confirmed byte by byte hold it up."""
    with redis_that_answers(b"*900\r\n:1\r\n", trickle_s=0.01) as port:
        cache = lone_cache(f"redis://127.0.0.1:{port}", socket_timeout=0.2)
        engine_of(cache).listening.start()
        eventually(lambda: receiver_of(cache).problem)
        assert not cache.stats().trusted


@pytest.mark.parametrize("scheme", ["redis", "memcached"])
@pytest.mark.parametrize("answer", [NO_REPLIES["http"], b":1\r\n", b"VERSION 9\r\n"])
def test_the_checks(scheme, answer):
    """They say that the server could not be asked, or know nothing of it."""
    server = scripted if scheme == "memcached" else redis_that_answers
    with server(answer) as port:
        options = {"bus": "none"} if scheme == "memcached" else {}
        cache = lone_cache(f"{scheme}://127.0.0.1:{port}", **options)
        for question in questions_of(engine_of(cache)):
            facts = question.ask()
            assert facts.failure or not facts.max_memory


def test_degraded():
    """A cache over such a server answers as in any outage."""
    with redis_that_answers(NO_REPLIES["http"]) as port:
        cache = Cache(f"redis://127.0.0.1:{port}", socket_timeout=PATIENCE_S)
        assert cache.get("k", 1) == 1
        assert cache.get_or_load("k", lambda: 2, ttl=9) == 2
        cache.set("k", 3)
