"""Any bytes: the same replies from both parsers, or an error of the connection."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cachebridge.bounds import (
    MAX_REPLY_DEPTH,
    MAX_REPLY_ITEMS,
    MAX_VALUE_BYTES,
    MEBIBYTE,
)
from cachebridge.l2.memcached.protocol import MemcachedError, Parser, numbers_of
from cachebridge.parsers import HiredisParser, PythonParser
from cachebridge.resp import NotAReplyError
from tests.unit.test_resp import REPLIES, encode

PARSERS = [PythonParser, HiredisParser]
both = pytest.mark.parametrize("make", PARSERS)
all_three = pytest.mark.parametrize("make", [*PARSERS, Parser])
PIECES = st.sampled_from(
    [
        *(b"*", b"$", b":", b"+", b"-", b"%", b"~", b">", b"|", b"#t", b"_", b",1.5"),
        *(b"(", b"\r\n", b"\n", b"\r", b"1", b"0", b"-1", b"-2", b"7", b"1234567"),
        *(b"OK", b"ERR no", b"VA 3 f1 t-1 c1", b"HD", b"EN", b"VA -9", b"\x00\xff"),
        *(b"HTTP/1.1 400 Bad Request\r\n", b"*1\r\n" * 9, b"$1\r\nx\r\n", b"9" * 19),
        b"~1\r\n*0\r\n",
    ]
)
GARBAGE = st.lists(PIECES | st.binary(max_size=9), max_size=12).map(b"".join)


def feed_all(parser, pieces):
    for piece in pieces:
        parser.feed(piece)


def plain(reply):
    """Return a reply in a form that can be compared, errors included."""
    if isinstance(reply, list):
        return [plain(each) for each in reply]
    return str(reply) if isinstance(reply, Exception) else reply


@given(replies=st.lists(REPLIES, max_size=5), extra=st.binary(max_size=300))
@example(replies=[[b"*1234567", b"\r\n*99999999\r\n"], b"~9999999"], extra=b"")
@example(replies=[[b"x" * 12_000, 1], [[b"\r\n~7654321"]]], extra=b"\n*7654321")
@example(replies=[b"y" * 20_000, None, [None, b"", [3]]], extra=b"\r\n$")
def test_both_read_the_same(replies, extra):
    """Also where a value looks like the head of a long array, and in any pieces."""
    stream = b"".join(map(encode, [*replies, extra]))
    for size in (len(stream), 7, 1) if len(stream) < 900 else (len(stream), 4096):
        for make in PARSERS:
            parser, parsed = make(), []
            for start in range(0, len(stream), size):
                parsed += parser.feed(stream[start : start + size])
            assert parsed == [*replies, extra], make


@all_three
@given(data=GARBAGE, cut=st.integers(0, 40))
def test_garbage(make, data, cut):
    """It is a reply, or incomplete, or an error of the connection; nothing else."""
    parser, error = make(), None
    for piece in (data[:cut], data[cut:], b"\r\n"):
        try:
            replies = parser.feed(piece)
        except NotAReplyError as exc:
            error = exc
            break
        for reply in replies:
            str(plain(reply))
    assert str(error).isprintable()


@both
@pytest.mark.parametrize(
    "head",
    [
        b"*%d\r\n" % (MAX_REPLY_ITEMS + 1),
        b"*2\r\n:1\r\n*4294967295\r\n",
        b"~99999999\r\n",
        b">99999999\r\n",
        b"|99999999\r\n",
        b"$%d\r\n" % (MAX_VALUE_BYTES + 1),
        b"$9223372036854775807\r\n",
        b"*9223372036854775807\r\n",
        b"*1\r\n" * (MAX_REPLY_DEPTH + 1) + b"*1234567\r\n",
        b"$-2\r\n",
        b"*-2\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b":9999999999999999999\r\n",
    ],
)
@pytest.mark.parametrize("size", [1, 5, 1 << 20])
def test_more_than_may_be(make, head, size):
    """It is refused when it is announced: no room is made for it."""
    parser = make()
    tracemalloc.start()
    try:
        if make is HiredisParser and head.startswith(b"$"):
            # hiredis makes no room for it; after a mebibyte it is read strictly.
            head, size = head + b"x" * (MEBIBYTE + 70_000), 65536
        pieces = [head[at : at + size] for at in range(0, len(head), size)]
        with pytest.raises(NotAReplyError):
            feed_all(parser, pieces)
        assert tracemalloc.get_traced_memory()[1] < 16 * MEBIBYTE
    finally:
        tracemalloc.stop()


@all_three
def test_a_line_without_an_end(make):
    """It is refused after some of it."""
    pieces = [b"+", *[b"x" * 9999] * 400]
    with pytest.raises(NotAReplyError):
        feed_all(make(), iterator := iter(pieces))
    assert len([*iterator]) * 9999 >= 2 * MEBIBYTE


@both
def test_a_reply_without_an_end(make):
    """Small elements are bounded by their number, large ones by their bytes."""
    parser = make(4 * MEBIBYTE)
    parser.feed(b"*999999\r\n")
    with pytest.raises(NotAReplyError, match="longer than"):
        feed_all(parser, [b"$100000\r\n" + b"x" * 100_000 + b"\r\n"] * 100)


@both
def test_deep_arrays_are_no_recursion(make):
    """Neither when they arrive in one piece nor in many."""
    for size in (4, 65536):
        pieces = [b"*1\r\n" * (size // 4)] * (1_000_000 // size)
        with pytest.raises(NotAReplyError):
            feed_all(make(), pieces)


def test_the_quick_parser_is_used_again():
    """What looked strange was a value: after it hiredis goes on."""
    parser = HiredisParser()
    strange = encode([b"\r\n*1234567\r\n", 5])
    assert parser.feed(strange[:20]) == []
    assert parser.feed(strange[20:] + b":1\r\n") == [[b"\r\n*1234567\r\n", 5], 1]
    assert parser._strict is None
    assert parser.feed(b"*1\r\n") + parser.feed(b":2\r\n") == [[2]]


@pytest.mark.parametrize(
    "stream",
    [
        b"VA -12 f\r\n",
        b"HD\r\nVA -12 f\r\n",
        b"VA 1_0 f0 t0 c1\r\n",
        b"VA %d f0 t0 c1\r\n" % (MAX_VALUE_BYTES + 1),
        b"VA 99999999999999999999 f0\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"+OK\r\n",
        b"\r\n",
        b"VA 1 f0 t0 c1\r\nabc\r\n",
        b"HD " + b"x" * 5000,
    ],
)
def test_no_reply_of_memcached(stream):
    """The position never goes back, and no number is more than it may be."""
    with pytest.raises(NotAReplyError):
        Parser().feed(stream)


@pytest.mark.parametrize(
    "words", [b"HD", b"STORED", b"HD f1 t2", b"HD fx t-1 c1", b"VA 1 f1 t-1 c-1"]
)
def test_numbers_that_are_none(words):
    """Flags, TTL and CAS number are numbers; "no item" is one word alone."""
    (reply,) = Parser().feed(
        words + (b"\r\nx" if words[:2] == b"VA" else b"") + b"\r\n"
    )
    with pytest.raises(MemcachedError):
        numbers_of(reply)
    assert numbers_of(Parser().feed(b"EN\r\n")[0]) is None
