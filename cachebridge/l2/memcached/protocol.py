"""Memcached's text protocol: commands as bytes, replies out of a stream of bytes.

Reads are meta commands, for the TTL and the CAS number that come along; so are counters
and guarded deletes.  Values are stored with the classic commands.  Needs Memcached
1.6.10: before, meta commands were an experiment, and some replies were others.

Source: https://github.com/memcached/memcached/blob/master/doc/protocol.txt
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from cachebridge.l2.memcached.names import CLEARS
from cachebridge.resp import Backlog

MONTH_S: Final = 30 * 24 * 3600
"""A longer TTL would be taken for a date."""
DOOMSDAY: Final = 2**31
"""2038-01-19: what is to live longer has no expiry."""
MAX_LINE: Final = 2048
INT64_MAX: Final = 2**63 - 1

_END: Final = b"\r\n"
_VALUE: Final = b"VA "
_UNKNOWN: Final = b"ERROR"
_ERRORS: Final = (_UNKNOWN, b"CLIENT_ERROR", b"SERVER_ERROR")
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


class Parser:
    """Cuts a stream into replies; holds back what is incomplete.  See ``ReplyParser``.

    An error reply is returned, not raised.
    """

    def __init__(self) -> None:
        self._backlog = Backlog()

    def feed(self, data: bytes) -> list[Answer]:
        """Return the replies that are complete now; ConnectionError for none at all."""
        buffer = self._backlog.joined(data)
        if _VALUE not in buffer and buffer.endswith(_END):  # as for most changes
            return [_line_reply(line) for line in buffer[:-2].split(_END)]
        replies: list[Answer] = []
        at = missing = 0
        while at < len(buffer):
            end = buffer.find(_END, at)
            if end < 0:
                if len(buffer) - at > MAX_LINE:
                    raise ConnectionError("not a reply of Memcached")
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
                raise ConnectionError("a reply of Memcached has the wrong length")
            replies.append(Reply(words, buffer[start:stop]))
            at = stop + 2
        if at < len(buffer):
            self._backlog.hold(buffer[at:], max(0, missing))
        return replies


def _line_reply(line: bytes) -> Answer:
    if line == _UNKNOWN:
        return MemcachedError("ERROR: unknown command; Memcached 1.6.10 is needed")
    if line.startswith(_ERRORS):
        return MemcachedError(line.decode("utf-8", "replace"))
    return Reply(line.split(b" "))


def _size(words: list[bytes]) -> int:
    try:
        return int(words[1])
    except (IndexError, ValueError):
        raise ConnectionError("not a reply of Memcached") from None


# -- commands --------------------------------------------------------------------------

ASK_CLEARS: Final = b"mg %b f\r\n" % CLEARS
"""Its flags tell whether the item is the one that is known."""
PING: Final = b"mn\r\n"
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
    """Add to digits."""
    return b"ma %b D%d v\r\n" % (name, delta)


def decrease(name: bytes, delta: int, cas: int | None = None) -> bytes:
    """Subtract from digits, if the item still has this CAS number."""
    guard = b"" if cas is None else b" C%d" % cas
    return b"ma %b MD D%d v%b\r\n" % (name, delta, guard)


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
