"""The subscribed connection, read raw: bytes from its socket, replies out of them.

A subscription only ever receives small arrays, so parsing them here costs a fraction of
the general reader's layers; and every microsecond the listener holds the interpreter is
one that a writer waits for its own answer.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Final, TypeAlias

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

if TYPE_CHECKING:
    from redis.connection import Connection

Reply: TypeAlias = "bytes | int | list[Reply] | None"

READ_BYTES: Final = 65536
MAX_REPLY_BYTES: Final = 16 * 1024 * 1024
"""A frame is 256 KiB at most; what is longer than this is not one."""

_END: Final = b"\r\n"
_ARRAY, _BULK, _INTEGER, _SIMPLE, _ERROR = b"*$:+-"


class ReplyParser:
    """Cuts a stream of RESP2 into replies; holds back what is incomplete.

    Source: https://redis.io/docs/latest/develop/reference/protocol-spec/
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Reply]:
        """Return the replies that are complete now.

        Raises ResponseError for an error reply and redis's ConnectionError for bytes
        that are no reply.
        """
        buffer = self._rest + data if self._rest else data
        replies = []
        at = 0
        while at < len(buffer):
            try:
                reply, at = _parse(buffer, at)
            except _IncompleteError:
                break
            except ValueError as exc:
                raise RedisConnectionError(f"not a reply: {exc}") from exc
            replies.append(reply)
        self._rest = buffer[at:]
        if len(self._rest) > MAX_REPLY_BYTES:
            raise RedisConnectionError("a reply without end on the subscription")
        return replies


class Subscription:
    """A connection on which only messages arrive.  Used by the listener's thread."""

    def __init__(self, connection: Connection, channels: list[bytes]) -> None:
        self._connection = connection
        self._channels = channels
        self._parser = ReplyParser()

    def open(self, tick_s: float) -> list[Reply]:
        """Subscribe and wait for every acknowledgement; a refusal raises.

        Returns messages that arrived right behind them.  From then on ``receive`` waits
        for ``tick_s`` seconds at most.
        """
        self._connection.connect()
        self._connection.send_command("SUBSCRIBE", *self._channels)
        replies: list[Reply] = []
        while len(replies) < len(self._channels):
            arrived = self.receive()
            if not arrived:
                raise RedisConnectionError("SUBSCRIBE was not answered in time")
            replies += arrived
        acknowledgements = replies[: len(self._channels)]
        for reply in acknowledgements:
            if not isinstance(reply, list) or reply[0] != b"subscribe":
                raise RedisConnectionError(f"SUBSCRIBE was answered with {reply!r}")
        self._socket().settimeout(tick_s)
        return replies[len(self._channels) :]

    def receive(self) -> list[Reply]:
        """Wait for bytes and return the replies they complete, none after a while."""
        try:
            data = self._socket().recv(READ_BYTES)
        except TimeoutError:
            return []
        if not data:
            raise RedisConnectionError("Connection closed by server.")
        return self._parser.feed(data)

    def wake(self) -> None:
        """End the wait of ``receive`` from another thread, for good."""
        with contextlib.suppress(OSError, RedisConnectionError):
            self._socket().shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(Exception):
            self._connection.disconnect()

    def _socket(self) -> socket.socket:
        sock: socket.socket | None = self._connection._sock  # noqa: SLF001 no other way
        if sock is None:
            raise RedisConnectionError("the subscription is closed")
        return sock


class _IncompleteError(Exception):
    """More bytes are needed."""


def _parse(buffer: bytes, at: int) -> tuple[Reply, int]:
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
        items: list[Reply] = []
        for _ in range(int(line)):
            item, after = _parse(buffer, after)
            items.append(item)
        return items, after
    if mark == _INTEGER:
        return int(line), after
    if mark == _SIMPLE:
        return line, after
    if mark == _ERROR:
        raise ResponseError(line.decode("utf-8", "replace"))
    raise ValueError(f"unknown mark {bytes([mark])!r}")


def _parse_bulk(buffer: bytes, start: int, length: int) -> tuple[Reply, int]:
    if length < 0:
        return None, start
    stop = start + length
    if len(buffer) < stop + 2:
        raise _IncompleteError
    return buffer[start:stop], stop + 2
