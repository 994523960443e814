"""Replies out of a stream: any cut of it, and rubbish in it, for both parsers."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis.exceptions import NoScriptError, ResponseError

from cachebridge.parsers import HiredisParser, PythonParser, make_parser
from cachebridge.resp import Hello, is_wrong_server, read_hello, reply_error

PARSERS = [PythonParser, HiredisParser]
both = pytest.mark.parametrize("make", PARSERS)


def encode(reply):
    """Write a reply as the server would."""
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, list):
        return b"*%d\r\n" % len(reply) + b"".join(map(encode, reply))
    return b"$%d\r\n%b\r\n" % (len(reply), reply)


REPLIES = st.recursive(
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.binary(max_size=40)
    | st.sampled_from([b"\r\n", b"$3\r\n", b"*1\r\n", b"-ERR no\r\n"]),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


@both
@given(replies=st.lists(REPLIES, max_size=6), data=st.data())
def test_any_cut(make, replies, data):
    """However the network cuts the stream, the same replies come out, in order."""
    stream = b"".join(map(encode, replies))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=6).map(sorted))
    parser = make()
    parsed = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        parsed += parser.feed(stream[start:end])
    assert parsed == replies


@both
def test_byte_by_byte(make):
    """Every kind of reply, a byte at a time."""
    stream = b"*2\r\n$1\r\nc\r\n:1\r\n+PONG\r\n$-1\r\n*-1\r\n*0\r\n$0\r\n\r\n:-5\r\n"
    parser = make()
    replies = [reply for byte in stream for reply in parser.feed(bytes([byte]))]
    assert replies == [[b"c", 1], b"PONG", None, None, [], b"", -5]


@both
def test_errors_are_replies(make):
    """What the server refuses is returned with its words, also inside of an EXEC."""
    parser = make()
    error, script, inner = parser.feed(
        b"-NOPERM no right\r\n-NOSCRIPT No matching script.\r\n"
        b"*2\r\n+OK\r\n-OOM command not allowed\r\n"
    )
    assert isinstance(error, ResponseError)
    assert str(error).endswith("no right")
    assert isinstance(script, NoScriptError)
    assert inner[0] == b"OK"
    assert isinstance(inner[1], ResponseError)


@both
@given(data=st.binary(max_size=60))
@example(data=b"$-7\r\n")
@example(data=b"*-7\r\n")
@example(data=b"$x\r\n")
@example(data=b":\r\n")
@example(data=b"$3\r\nabcde\r\n")
@example(data=b"\r\n")
def test_rubbish(make, data):
    """Rubbish breaks the connection or waits for more; it is no other exception."""
    parser = make()
    with contextlib.suppress(ConnectionError):
        parser.feed(data)
        parser.feed(b"\r\n")


@both
def test_large_reply_in_pieces(make):
    """A reply of many megabytes costs time in proportion to its size."""
    size = 24 << 20
    parser = make()
    started = time.process_time()
    parser.feed(b"*2\r\n$%d\r\n" % size)
    for _ in range(size // 65536):
        assert parser.feed(b"x" * 65536) == []
    (reply,) = parser.feed(b"\r\n:1\r\n")
    assert len(reply[0]) == size
    assert time.process_time() - started < 1.0


def test_the_faster_one_is_used():
    """Hiredis parses where it is installed, as here."""
    assert isinstance(make_parser(), HiredisParser)


@pytest.mark.parametrize(
    "text",
    [
        "READONLY You can't write against a read only replica.",
        "READONLY You can't write against a read only replica. script: 1f, on @u:3.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set",
        "LOADING Redis is loading the dataset in memory",
        "MOVED 866 127.0.0.1:7001",
        "ASK 866 127.0.0.1:7001",
        "UNBLOCKED force unblock from blocking operation, instance state changed",
        "EXECABORT Transaction discarded because of: READONLY You can't write",
        "ERR Error running script (call to f_8): @user_script: 1: -READONLY You can't",
        "ERR Transaction contains writes but instance is now a read-only replica. EXEC",
    ],
)
def test_errors_of_the_wrong_server(text):
    """A server says in several ways that another one is meant now."""
    assert is_wrong_server(reply_error(text))
    assert not is_wrong_server(ValueError(text))
    assert not is_wrong_server(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "OOM command not allowed when used memory > 'maxmemory'.",
        "NOPERM this user has no permissions to run the 'set' command",
        "ERR unknown command 'EVALSHA', with args beginning with: 'READONLY x'",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "MISCONF Redis is configured to save RDB snapshots",
        "NOREPLICAS Not enough good replicas to write.",
        "EXECABORT Transaction discarded because of previous errors.",
    ],
)
def test_errors_of_the_right_server(text):
    """A master that refuses is the right one."""
    assert not is_wrong_server(reply_error(text))


def test_hello():
    """Any account may ask; what a server does not say stays unknown."""
    reply = [b"server", b"redis", b"version", b"7.0.15", b"proto", 2, b"id", 4]
    reply += [b"mode", b"cluster", b"role", b"replica", b"modules", []]
    assert read_hello(reply) == Hello("redis", "7.0.15", "replica", "cluster")
    assert read_hello([]) == read_hello(reply_error("ERR unknown")) == Hello()
    assert read_hello([b"role", 1, b"x"]) == Hello()
