"""Replies of Redis (RESP2) out of a stream of bytes.

redis-py opens, authenticates and closes the connections; what flows over them after
that is packed and parsed here and in ``l2/commands.py``, because its general layers
cost more than the round trip's own work.  Parsing is hiredis's where it is installed.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import (
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

try:
    import hiredis
except ImportError:
    HIREDIS_INSTALLED = False
else:
    HIREDIS_INSTALLED = True

READ_BYTES: Final = 65536

_ERRORS: Final[dict[str, type[ResponseError]]] = {
    "NOPERM": NoPermissionError,
    "NOSCRIPT": NoScriptError,
    "OOM": OutOfMemoryError,
    "READONLY": ReadOnlyError,
}

_END: Final = b"\r\n"
_ARRAY, _BULK, _INTEGER, _SIMPLE, _ERROR = b"*$:+-"


class ReplyParser(Protocol):
    """Cuts a stream into replies; holds back what is incomplete."""

    def feed(self, data: bytes) -> list[Any]:
        """Return the replies that are complete now, in order.

        A reply is bytes, an int, None, a list of replies, or a ResponseError, which is
        returned, not raised.  Raises redis's ConnectionError for bytes that are none.
        """


def make_parser() -> ReplyParser:
    """Return a parser for one new connection."""
    return HiredisParser() if HIREDIS_INSTALLED else PythonParser()


_UNAVAILABLE: Final = (
    "LOADING",
    "BUSY ",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "NOAUTH",
    "ERR max number of clients",
)
"""Error replies of a server that can do nothing at all at the moment."""


def is_unavailable(exc: Exception) -> bool:
    """Tell a server that cannot be reached or used from one that refuses a command."""
    if isinstance(exc, ResponseError):
        return str(exc).startswith(_UNAVAILABLE)
    return isinstance(exc, (OSError, RedisConnectionError, RedisTimeoutError))


def reply_error(text: str) -> ResponseError:
    """Make the exception for the text of an error reply."""
    code = text.partition(" ")[0]
    return _ERRORS.get(code, ResponseError)(text)


class HiredisParser:
    """Parses in C."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(
            protocolError=RedisConnectionError, replyError=reply_error
        )

    def feed(self, data: bytes) -> list[Any]:
        """See ``ReplyParser``."""
        reader = self._reader
        reader.feed(data)
        replies = []
        # RESP2 has no booleans: False says that the next reply is incomplete.
        while (reply := reader.gets()) is not False:
            replies.append(reply)
        return replies


class Backlog:
    """What of a stream has arrived, and is no whole reply yet.

    A long value is looked at once when it is complete, not with every piece.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._missing = 0

    def joined(self, data: bytes) -> bytes:
        """Return what was held back and the new; nothing while it is too little."""
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
        """Hold back the beginning of a reply that lacks so many bytes, 0 if unknown."""
        self._pieces.append(rest)
        self._missing = missing


class PythonParser:
    """Parses without any extension, in time proportional to what arrives."""

    def __init__(self) -> None:
        self._backlog = Backlog()
        self._open: list[tuple[list[Any], int]] = []
        """Arrays that have begun, outermost first, with their lengths."""

    def feed(self, data: bytes) -> list[Any]:
        """See ``ReplyParser``."""
        buffer = self._backlog.joined(data)
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
        except ValueError as exc:
            raise RedisConnectionError(f"not a reply: {exc}") from exc
        return replies

    def _deliver(self, reply: Any, replies: list[Any]) -> None:
        """Put a reply where it belongs: into the innermost open array, or out."""
        if type(reply) is _Array:
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
        replies.append(reply)


class _Array(NamedTuple):
    """The head of an array."""

    length: int


class _IncompleteError(Exception):
    """More bytes are needed: those up to ``stop`` at least, as far as is known."""

    def __init__(self, stop: int = 0) -> None:
        super().__init__(stop)
        self.stop = stop


def _parse(buffer: bytes, at: int) -> tuple[Any, int]:
    """Return the reply or array head that begins at ``at``, and where it ends."""
    end = buffer.find(_END, at)
    if end < 0:
        raise _IncompleteError
    mark = buffer[at]
    line = buffer[at + 1 : end]
    after = end + 2
    if mark == _BULK:
        return _parse_bulk(buffer, after, int(line))
    if mark == _ARRAY:
        length = int(line)
        return (None if length < 0 else _Array(length)), after
    if mark == _INTEGER:
        return int(line), after
    if mark == _SIMPLE:
        return line, after
    if mark == _ERROR:
        return reply_error(line.decode("utf-8", "replace")), after
    raise ValueError(f"unknown mark {bytes([mark])!r}")


def _parse_bulk(buffer: bytes, start: int, length: int) -> tuple[Any, int]:
    if length < 0:
        return None, start
    stop = start + length
    if len(buffer) < stop + 2:
        raise _IncompleteError(stop + 2)
    return buffer[start:stop], stop + 2
