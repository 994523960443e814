"""Replies of Redis (RESP2) out of a stream of bytes.

redis-py opens, authenticates and closes the connections; what flows over them after
that is packed and parsed here and in ``l2/commands.py``, because its general layers
cost more than the round trip's own work.  Parsing is hiredis's where it is installed.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import (
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

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


class PythonParser:
    """Parses without any extension."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Any]:
        """See ``ReplyParser``."""
        buffer = self._rest + data if self._rest else data
        replies = []
        at = 0
        try:
            while at < len(buffer):
                reply, at = _parse(buffer, at)
                replies.append(reply)
        except _IncompleteError:
            pass
        except ValueError as exc:
            raise RedisConnectionError(f"not a reply: {exc}") from exc
        self._rest = buffer[at:]
        return replies


class _IncompleteError(Exception):
    """More bytes are needed."""


def _parse(buffer: bytes, at: int) -> tuple[Any, int]:
    """Return the reply that begins at ``at``, and where the next one begins."""
    end = buffer.find(_END, at)
    if end < 0:
        raise _IncompleteError
    mark = buffer[at]
    line = buffer[at + 1 : end]
    after = end + 2
    if mark == _BULK:
        return _parse_bulk(buffer, after, int(line))
    if mark == _ARRAY:
        return _parse_array(buffer, after, int(line))
    if mark == _INTEGER:
        return int(line), after
    if mark == _SIMPLE:
        return line, after
    if mark == _ERROR:
        return reply_error(line.decode("utf-8", "replace")), after
    raise ValueError(f"unknown mark {bytes([mark])!r}")


def _parse_array(buffer: bytes, after: int, length: int) -> tuple[Any, int]:
    if length < 0:
        return None, after
    items: list[Any] = []
    for _ in range(length):
        item, after = _parse(buffer, after)
        items.append(item)
    return items, after


def _parse_bulk(buffer: bytes, start: int, length: int) -> tuple[Any, int]:
    if length < 0:
        return None, start
    stop = start + length
    if len(buffer) < stop + 2:
        raise _IncompleteError
    return buffer[start:stop], stop + 2
