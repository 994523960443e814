"""Memcached's text protocol: commands as bytes, replies out of a stream of bytes.

Reads are meta commands, whose replies have the TTL and the CAS number; so are counters
and guarded deletes.  Values are stored with the classic commands.  Needs Memcached
1.6.10: earlier meta commands were an experiment with other replies.

Source: https://github.com/memcached/memcached/blob/master/doc/protocol.txt
"""

from __future__ import annotations

import re
import time
from typing import Final, NamedTuple

from cachebridge.bounds import MAX_VALUE_BYTES
from cachebridge.core.entry import INT64
from cachebridge.l2.memcached.names import CLEARS
from cachebridge.parsers import Backlog
from cachebridge.resp import NotAReplyError
from cachebridge.texts import shown_reply

MONTH_S: Final = 30 * 24 * 3600
"""The server takes a longer TTL for a date."""
DOOMSDAY: Final = 2**31
"""2038-01-19: an item that is to live longer has no expiry."""
MAX_LINE: Final = 2048
INT64_MAX: Final = INT64[-1]

_END: Final = b"\r\n"
_VALUE: Final = b"VA "
_UNKNOWN: Final = b"ERROR"
_ERRORS: Final = (_UNKNOWN, b"CLIENT_ERROR", b"SERVER_ERROR")
_WORDS: Final = frozenset(
    b"HD EN NF NS EX MN OK RESET VERSION"
    b" STORED NOT_STORED EXISTS NOT_FOUND DELETED TOUCHED".split()
)
"""What the other replies begin with."""
_NUMBERS: Final = re.compile(
    rb"f[0-9]{1,10} t(?:-1|[0-9]{1,10}) c[0-9]{1,20}"
).fullmatch
_MOST_DIGITS: Final = 10
_NO_ROOM: Final = ("too large for cache", "out of memory")


class MemcachedError(Exception):
    """An error reply."""

    @property
    def is_about_room(self) -> bool:
        """Whether the server has no room for what was to be stored."""
        return any(words in str(self) for words in _NO_ROOM)


class Reply(NamedTuple):
    """One reply: the words of its line, and the block of bytes that follows, if any."""

    words: list[bytes]
    block: bytes | None = None


Answer = Reply | MemcachedError


class Request(NamedTuple):
    """What is sent at once, and how many replies come back."""

    packed: bytes
    replies: int
    idempotent: bool = True
    """Whether sending it twice does no harm."""
    token: bytes = b""
    """The token of the lease that it may take."""


class Parser:
    """Cuts a stream into replies; holds back what is incomplete.  See ``ReplyParser``.

    An error reply is returned, not raised.
    """

    def __init__(self) -> None:
        self._backlog = Backlog()

    def feed(self, data: bytes) -> list[Answer]:
        """Return the replies that are complete now; NotAReplyError for other bytes."""
        buffer = self._backlog.joined(data)
        if _VALUE not in buffer and buffer.endswith(_END):  # as for most changes
            return [_line_reply(line) for line in buffer[:-2].split(_END)]
        replies: list[Answer] = []
        at = missing = 0
        while at < len(buffer):
            end = buffer.find(_END, at, at + MAX_LINE)
            if end < 0:
                if len(buffer) - at >= MAX_LINE:
                    raise _no_reply(buffer[at:])
                break
            line = buffer[at:end]
            if not line.startswith(_VALUE):
                replies.append(_line_reply(line))
                at = end + 2
                continue
            words = line.split(b" ")
            start = end + 2
            stop = start + _size(words)
            if (missing := stop + 2 - len(buffer)) > 0:
                break
            if buffer[stop : stop + 2] != _END:
                raise NotAReplyError("a reply of Memcached has the wrong length")
            replies.append(Reply(words, buffer[start:stop]))
            at = stop + 2
        if at < len(buffer):
            self._backlog.hold(buffer[at:], max(0, missing))
        return replies


def _line_reply(line: bytes) -> Answer:
    if line == _UNKNOWN:
        return MemcachedError("ERROR: unknown command; Memcached 1.6.10 is needed")
    if line.startswith(_ERRORS):
        return MemcachedError(shown_reply(line.decode("utf-8", "replace")))
    words = line.split(b" ")
    if words[0] not in _WORDS and not words[0].isdigit():
        raise _no_reply(line)
    return Reply(words)


def _no_reply(line: bytes) -> NotAReplyError:
    return NotAReplyError(f"not a reply of Memcached: {line[:40]!r}")


def _size(words: list[bytes]) -> int:
    """Return the length of the block that follows a line."""
    digits = words[1]
    if not digits.isdigit() or len(digits) > _MOST_DIGITS:
        raise _no_reply(b" ".join(words))
    if (size := int(digits)) > MAX_VALUE_BYTES:
        raise NotAReplyError(f"a value is longer than {MAX_VALUE_BYTES} bytes")
    return size


def numbers_of(reply: Reply) -> tuple[int, int, int] | None:
    """Return flags, TTL and CAS number; None if there is no item."""
    words = reply.words[-3:]
    if words == [b"EN"]:
        return None
    if not _NUMBERS(b" ".join(words)):
        raise MemcachedError(f"not the answer that was asked for: {words!r}")
    flags, ttl, cas = words
    return int(flags[1:]), int(ttl[1:]), int(cas[1:])


# -- commands --------------------------------------------------------------------------

ASK_CLEARS: Final = b"mg %b f\r\n" % CLEARS
"""Its flags say whether the item is the one that is known."""
PING: Final = b"mn\r\n"
PONG: Final = b"MN"
FLUSH: Final = b"flush_all\r\n"


def read(name: bytes) -> bytes:
    """Value, flags, TTL and CAS number."""
    return b"mg %b v f t c\r\n" % name


def look_at(name: bytes) -> bytes:
    """The same without the value."""
    return b"mg %b f t c\r\n" % name


def put(verb: bytes, name: bytes, flags: int, expiry: int, block: bytes) -> bytes:
    """``set`` or ``add``."""
    return b"%b %b %d %d %d\r\n%b\r\n" % (verb, name, flags, expiry, len(block), block)


def swap(name: bytes, flags: int, expiry: int, block: bytes, cas: int) -> bytes:
    """Set the item if it still has this CAS number."""
    return b"cas %b %d %d %d %d\r\n%b\r\n" % (
        name,
        flags,
        expiry,
        len(block),
        cas,
        block,
    )


def delete(name: bytes) -> bytes:
    """Delete the item."""
    return b"delete %b\r\n" % name


def drop(name: bytes, cas: int) -> bytes:
    """Delete the item if it still has this CAS number."""
    return b"md %b C%d\r\n" % (name, cas)


def touch(name: bytes, expiry: int) -> bytes:
    """Give the item a new expiry."""
    return b"touch %b %d\r\n" % (name, expiry)


def increase(name: bytes, delta: int) -> bytes:
    """Add to digits; the reply has the item's new CAS number."""
    return b"ma %b D%d v c\r\n" % (name, delta)


def decrease(name: bytes, delta: int, cas: int) -> bytes:
    """Subtract from digits, if the item still has this CAS number."""
    return b"ma %b MD D%d v C%d\r\n" % (name, delta, cas)


def seconds(ttl_ms: int) -> int:
    """Return a TTL in Memcached's unit, rounded up."""
    return -(-ttl_ms // 1000)


def expiry(ttl_s: int | None) -> int:
    """Return how Memcached wants a TTL of seconds to be written."""
    if ttl_s is None:
        return 0
    if ttl_s <= MONTH_S:
        return ttl_s
    date = int(time.time()) + ttl_s
    return date if date < DOOMSDAY else 0
