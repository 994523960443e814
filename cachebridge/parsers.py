"""Replies of Redis (RESP2) out of a stream of bytes, as long as ``bounds.py`` allows.

hiredis parses if it is installed.  Whatever a server sends is a reply, or an error of
the connection: no other exception, no recursion, and no room is made for what is only
announced.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple, Protocol

from cachebridge.bounds import (
    MAX_LINE_BYTES,
    MAX_REPLY_BYTES,
    MAX_REPLY_DEPTH,
    MAX_REPLY_ITEMS,
    MAX_VALUE_BYTES,
    MEBIBYTE,
)
from cachebridge.resp import GARBLED, NotAReplyError, reply_error

_END: Final = b"\r\n"
_MARKS: Final = b"*$:+-"
_ARRAY, _BULK, _INTEGER, _SIMPLE, _ERROR = _MARKS
_MOST_DIGITS: Final = 19
_TOO_LARGE: Final = 2**63
_LONG_HEAD: Final = re.compile(rb"\r(?=\n[*~>|][+-]?[0-9]{7})").search
_LONG_HEAD_HERE: Final = re.compile(rb"\n?[*~>|][+-]?[0-9]{7}").match
"""What may announce a million elements, or be in the middle of a value.

The marks are RESP's of arrays, sets, pushes and attributes; the search is by its first
byte alone, which takes a third of the time.
"""
_LARGE: Final = re.compile(rb"(?:\*[0-9]{1,6}\r\n)?\$[0-9]{5}").match
"""A value of 10,000 bytes or more, or an array that begins with one: in large pieces
the ``PythonParser`` is as fast."""
_TAIL: Final = 12
"""Bytes of such a head that may stand at the end of what has arrived."""
_SOME: Final = 8192
_TINY: Final = 9
"""So many bytes are too few to announce a million elements."""
_SEVEN_DIGITS: Final = b"0000000"
_DIGITS_AS_ZEROS: Final = bytes.maketrans(b"123456789", b"000000000")
_SUSPENSE: Final = MEBIBYTE
"""So much of an incomplete reply is kept, to be read again by the stricter parser."""


class ReplyParser(Protocol):
    """Cuts a stream into replies; holds back what is incomplete."""

    def feed(self, data: bytes) -> list[Any]:
        """Return the replies that are complete now, in order.

        A reply is bytes, an int, None, a list of replies, or a ResponseError, which is
        returned, not raised.  Raises NotAReplyError for bytes that are no reply, and
        for one that is longer than ``bounds.py`` allows.
        """


def make_parser(most_bytes: int = MAX_REPLY_BYTES) -> ReplyParser:
    """Return a parser for one new connection, of replies of ``most_bytes`` at most."""
    try:
        return HiredisParser(most_bytes)
    except ImportError:
        return PythonParser(most_bytes)


class HiredisParser:
    """Parses in C; raises ImportError without the extra ``hiredis``.

    hiredis makes room for what is announced, however much, and has no bounds.  So what
    announces a million elements, or has not ended after a mebibyte, is read by the
    ``PythonParser``; its bytes are kept until then.
    """

    def __init__(self, most_bytes: int = MAX_REPLY_BYTES) -> None:
        import hiredis  # noqa: PLC0415 only with Redis

        self._make_reader = hiredis.Reader
        self._most_bytes = most_bytes
        self._strict: PythonParser | None = None
        self._begin()

    def _begin(self) -> None:
        self._reader = self._make_reader(
            protocolError=NotAReplyError,
            replyError=reply_error,
            notEnoughData=_NOT_YET,
        )
        self._held: list[bytes] = []
        """What has arrived of a reply that is incomplete."""
        self._held_bytes = self._given = 0
        """Their length, and how many replies they have completed."""

    def feed(self, data: bytes) -> list[Any]:
        """See ``ReplyParser``."""
        reader, held, size = self._reader, self._held, len(data)
        if (
            held
            or size > _SOME
            or (size > _TINY and _SEVEN_DIGITS in data.translate(_DIGITS_AS_ZEROS))
            or self._strict is not None
        ) and self._is_for_strict(data):
            return self._feed_strict(data)
        replies = []
        try:
            reader.feed(data)
            reply = reader.gets()
            while reply is not _NOT_YET:
                replies.append(reply)
                reply = reader.gets()
        except GARBLED as exc:
            raise NotAReplyError(f"not a reply: {type(exc).__name__}") from None
        if replies and not reader.has_data():
            if held:
                held.clear()
                self._held_bytes = self._given = 0
            return replies
        self._held.append(data)
        self._held_bytes += len(data)
        self._given += len(replies)
        return replies

    def _is_for_strict(self, data: bytes) -> bool:
        """Return whether this may announce much, or is large, or does not end."""
        if self._strict is not None or self._held_bytes >= _SUSPENSE:
            return True
        if self._held:
            tail = b"".join(self._held[-_TAIL:])[-_TAIL:] + data[:_TAIL]
            if _LONG_HEAD(tail) or _LONG_HEAD_HERE(tail):
                return True
        elif len(data) > _SOME and _LARGE(data):
            return True
        return bool(_LONG_HEAD_HERE(data) or _LONG_HEAD(data))

    def _feed_strict(self, data: bytes) -> list[Any]:
        """Let the stricter parser read what has begun, until it has ended."""
        strict, given = self._strict, 0
        if strict is None:
            strict = self._strict = PythonParser(self._most_bytes)
            data, given = b"".join([*self._held, data]), self._given
            self._begin()
        replies = strict.feed(data)
        if strict.is_idle:
            self._strict = None
        return replies[given:]


_NOT_YET: Final = object()


class Backlog:
    """The bytes of a stream that are no whole reply yet.

    A long value is parsed once, when it is complete, and not with every piece.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._missing = 0

    def joined(self, data: bytes) -> bytes:
        """Return the held bytes and ``data``; nothing while that is too little."""
        if not self._pieces:
            return data
        self._pieces.append(data)
        self._missing -= len(data)
        if self._missing > 0:
            return b""
        buffer = b"".join(self._pieces)
        self._pieces.clear()
        return buffer

    def hold(self, rest: bytes, missing: int) -> None:
        """Hold the start of a reply that lacks ``missing`` bytes, 0 if unknown."""
        self._pieces.append(rest)
        self._missing = missing

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held."""
        return not self._pieces


class PythonParser:
    """Parses without any extension, in time proportional to the bytes."""

    def __init__(self, most_bytes: int = MAX_REPLY_BYTES) -> None:
        self._backlog = Backlog()
        self._open: list[tuple[list[Any], int]] = []
        """Arrays that have begun, outermost first, with their lengths."""
        self._most_bytes = most_bytes
        self._bytes = self._items = 0
        """What has arrived, and was announced, of the reply that is incomplete."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing has begun that has not ended."""
        return not self._open and self._backlog.is_empty

    def feed(self, data: bytes) -> list[Any]:
        """See ``ReplyParser``."""
        buffer = self._backlog.joined(data)
        self._bytes += len(data)
        replies: list[Any] = []
        at = 0
        try:
            while at < len(buffer):
                reply, at = _parse(buffer, at)
                if self._open or type(reply) is _Array:
                    self._deliver(reply, replies)
                else:
                    replies.append(reply)
        except _IncompleteError as exc:
            self._backlog.hold(buffer[at:], exc.stop - len(buffer))
        if replies:
            self._bytes = len(buffer) - at
        if self._bytes > self._most_bytes:
            raise NotAReplyError(f"a reply is longer than {self._most_bytes} bytes")
        return replies

    def _deliver(self, reply: Any, replies: list[Any]) -> None:
        """Add a reply to the innermost open array, or to ``replies``."""
        if type(reply) is _Array:
            self._items += reply.length
            if self._items > MAX_REPLY_ITEMS or len(self._open) >= MAX_REPLY_DEPTH:
                raise NotAReplyError("a reply has too many elements")
            if reply.length:
                self._open.append(([], reply.length))
                return
            reply = []
        while self._open:
            items, length = self._open[-1]
            items.append(reply)
            if len(items) < length:
                return
            self._open.pop()
            reply = items
        self._items = 0
        replies.append(reply)


class _Array(NamedTuple):
    """The head of an array."""

    length: int


class _IncompleteError(Exception):
    """More bytes are needed, at least those up to ``stop``; 0 if unknown."""

    def __init__(self, stop: int = 0) -> None:
        super().__init__(stop)
        self.stop = stop


def _parse(buffer: bytes, at: int) -> tuple[Any, int]:
    """Return the reply or array head that begins at ``at``, and where it ends."""
    end = buffer.find(_END, at, at + MAX_LINE_BYTES)
    mark = buffer[at]
    if mark not in _MARKS:
        raise NotAReplyError(f"not a reply of Redis: {buffer[at : at + 40]!r}")
    if end < 0:
        if len(buffer) - at >= MAX_LINE_BYTES:
            raise NotAReplyError("a line of a reply has no end")
        raise _IncompleteError
    line = buffer[at + 1 : end]
    after = end + 2
    if mark == _BULK:
        return _parse_bulk(buffer, after, line)
    if mark == _INTEGER:
        return _number(line), after
    if mark == _ARRAY:
        length = _length(line)
        return (None if length is None else _Array(length)), after
    if mark == _SIMPLE:
        return line, after
    return reply_error(line.decode("utf-8", "replace")), after


def _parse_bulk(buffer: bytes, start: int, line: bytes) -> tuple[Any, int]:
    length = _length(line)
    if length is None:
        return None, start
    if length > MAX_VALUE_BYTES:
        raise NotAReplyError(f"a value is longer than {MAX_VALUE_BYTES} bytes")
    stop = start + length
    if len(buffer) < stop + 2:
        raise _IncompleteError(stop + 2)
    if buffer[stop : stop + 2] != _END:
        raise NotAReplyError("a value has another length than was announced")
    return buffer[start:stop], stop + 2


def _length(line: bytes) -> int | None:
    """Return a length; that of None is -1."""
    if line.isdigit():
        return int(line[:_MOST_DIGITS])
    if line != b"-1":
        raise NotAReplyError(f"not a length: {line[:40]!r}")
    return None


def _number(line: bytes) -> int:
    digits = line[1:] if line[:1] == b"-" else line
    if digits.isdigit() and len(digits) <= _MOST_DIGITS:
        number = int(line)
        if -_TOO_LARGE <= number < _TOO_LARGE:
            return number
    raise NotAReplyError(f"not a number: {line[:40]!r}")
