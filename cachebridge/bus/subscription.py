"""The subscribed connection: a stream on which only messages arrive, read raw.

Every microsecond in which the listener holds the interpreter is one that a writer waits
for its own answer.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

from cachebridge.bounds import MAX_MESSAGE_BYTES
from cachebridge.parsers import make_parser
from cachebridge.resp import HUNG_UP, READ_BYTES, wrong_kind

if TYPE_CHECKING:
    from redis.connection import Connection


class Subscription:
    """A connection on which only messages arrive.  Used by the listener's thread."""

    def __init__(self, connection: Connection, channels: list[bytes]) -> None:
        self._connection = connection
        self._channels = channels
        self._parser = make_parser(MAX_MESSAGE_BYTES)

    def open(self, tick_s: float) -> list[Any]:
        """Subscribe and wait for every acknowledgement; raises a refusal.

        Returns messages that arrived together with the acknowledgements.  From then on
        ``receive`` waits for ``tick_s`` seconds at most.
        """
        self._connection.connect()
        self._connection.send_command("SUBSCRIBE", *self._channels)
        replies: list[Any] = []
        while len(replies) < len(self._channels):
            arrived = self.receive()
            if not arrived:
                raise ConnectionError("SUBSCRIBE was not answered in time")
            for reply in arrived:
                if isinstance(reply, Exception):
                    raise reply
            replies += arrived
        acknowledgements = replies[: len(self._channels)]
        for reply in acknowledgements:
            if not isinstance(reply, list) or reply[:1] != [b"subscribe"]:
                raise wrong_kind(reply)
        self._socket().settimeout(tick_s)
        return replies[len(self._channels) :]

    def receive(self) -> list[Any]:
        """Wait for bytes and return the replies they complete; none after a timeout."""
        try:
            data = self._socket().recv(READ_BYTES)
        except TimeoutError:
            return []
        if not data:
            raise ConnectionError(HUNG_UP)
        return self._parser.feed(data)

    def wake(self) -> None:
        """End the wait of ``receive`` from another thread; the connection is dead."""
        with contextlib.suppress(OSError):
            self._socket().shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(Exception):
            self._connection.disconnect()

    def _socket(self) -> socket.socket:
        sock: socket.socket | None = self._connection._sock  # noqa: SLF001 no other way
        if sock is None:
            raise ConnectionError("the subscription is closed")
        return sock
