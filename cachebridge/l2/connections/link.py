"""An open connection: a bare socket and a parser, for one caller at a time."""

from __future__ import annotations

import select
import time
import weakref
from contextlib import suppress
from socket import SHUT_WR
from typing import TYPE_CHECKING, Any

from cachebridge.resp import HUNG_UP, READ_BYTES, NotAReplyError

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket as Socket  # noqa: N812 a class in the end

    from cachebridge.parsers import ReplyParser


class _Poller:
    """Asks whether bytes have arrived where there is no ``poll``: under eventlet."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket

    def poll(self, _timeout_ms: int) -> list[Any]:
        """Return a list that is empty if nothing has arrived."""
        return select.select([self._socket], [], [], 0)[0]


def _make_poller(socket: Socket) -> Any:
    """Return an object whose ``poll(0)`` tells whether bytes have arrived.

    Looked up each time: eventlet takes ``poll`` away, perhaps after our import.
    """
    if not hasattr(select, "poll"):
        return _Poller(socket)
    poller = select.poll()
    poller.register(socket, select.POLLIN)
    return poller


class Link:
    """An open connection, used by one caller at a time.

    A client library has opened it, and ``close`` is that library's; in between, packed
    requests go out and replies come in over its bare socket, from threads
    (``exchange``) and from tasks (``task_exchange.py``) alike.
    """

    __slots__ = (
        "__weakref__",
        "_close",
        "arrived",
        "era",
        "login",
        "login_due",
        "parser",
        "socket",
        "ticket",
        "timeout_s",
    )

    def __init__(
        self, socket: Socket, parser: ReplyParser, close: Callable[[], object]
    ) -> None:
        self.socket = socket
        self.parser = parser
        self.timeout_s = socket.gettimeout()
        self.ticket: object = None
        """What its caller holds slots by: see ``waiting.signals.Slots``."""
        self.era: object = None
        """Since when the link is in use; see ``pool.Era``."""
        self.login: bytes | None = None
        """The AUTH that it has been given last, None for that of its opening."""
        self.login_due = b""
        """An AUTH that goes out with the next request."""
        self._close = close
        self.arrived: Callable[[int], object] = _make_poller(socket).poll
        """Waits for so many milliseconds; what it returns is true if bytes came."""
        # Close a connection that is no longer referenced, but not at interpreter exit.
        weakref.finalize(self, close).atexit = False

    def exchange(self, packed: bytes, count: int) -> list[Any]:
        """Send a request and return its ``count`` replies; errors are among them.

        After any exception the link is unusable: close it.
        """
        if self.login_due:
            return self.without_login(self.exchange(self.with_login(packed), count + 1))
        began = time.monotonic()
        socket = self.socket
        socket.sendall(packed)
        data = socket.recv(READ_BYTES)
        if not data:
            raise ConnectionError(HUNG_UP)
        replies = self.parser.feed(data)
        if len(replies) != count:
            self._receive_rest(replies, count, began)
        return replies

    def with_login(self, packed: bytes) -> bytes:
        """Return a request with the AUTH that is due before it: one more reply."""
        due, self.login_due = self.login_due, b""
        return due + packed

    def without_login(self, replies: list[Any]) -> list[Any]:
        """Return the replies without that to the AUTH.

        If the server refused it, the former login stays in force, and the link is not
        used again.
        """
        if replies.pop(0) != b"OK":
            self.era = None
        return replies

    def send(self, packed: bytes) -> None:
        """Send a request whose replies ``receive`` will take, later."""
        self.socket.sendall(packed)

    def receive(self, count: int, sent_at: float | None = None) -> list[Any]:
        """Return the ``count`` replies to what was sent.

        If nothing has arrived yet, the timeout began at ``sent_at``, else now.
        """
        replies: list[Any] = []
        began = sent_at
        if began is None or self.arrived(0):
            began = time.monotonic()
        self._receive_rest(replies, count, began)
        return replies

    def _receive(self) -> list[Any]:
        data = self.socket.recv(READ_BYTES)
        if not data:
            raise ConnectionError(HUNG_UP)
        return self.parser.feed(data)

    def _receive_rest(self, replies: list[Any], count: int, began: float) -> None:
        """Receive the other replies; the timeout is for the whole exchange."""
        while len(replies) < count:
            if self.timeout_s is not None:
                left_s = began + self.timeout_s - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError("timed out in the middle of the reply")
                self.socket.settimeout(left_s)
            replies += self._receive()
        if len(replies) > count:
            raise NotAReplyError("more replies than questions")
        self.socket.settimeout(self.timeout_s)

    def is_stale(self) -> bool:
        """Return whether bytes arrived unasked: the end of the stream, or garbage."""
        return bool(self.arrived(0))

    def peer(self) -> str:
        """Return the address that the link is connected to: host and port, or path."""
        name = self.socket.getpeername()
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)

    def hang_up(self) -> None:
        """Say that no more requests come; those that were sent are still carried out.

        A request of which only a part was sent never is.
        """
        with suppress(OSError):  # it is closed already
            self.socket.shutdown(SHUT_WR)

    def see_off(self, timeout_s: float) -> None:
        """Wait until the server has hung up, too, at most so many seconds; close."""
        ends_at = time.monotonic() + timeout_s
        try:
            with suppress(OSError):
                while (left_s := ends_at - time.monotonic()) > 0:
                    self.socket.settimeout(left_s)
                    if not self.socket.recv(READ_BYTES):
                        break
        finally:
            self.close()

    def is_open(self) -> bool:
        """Return whether ``close`` has not been called yet."""
        return self.socket.fileno() >= 0

    def close(self) -> None:
        """Close the connection."""
        self._close()
