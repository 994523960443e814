"""Idle connections of one engine, and the one rule about broken ones.

A connection that was interrupted by *any* exception, KeyboardInterrupt and greenlet
kills included, may still have a reply of its old command under way.  It is closed and
never used again: reusing it gives one caller the answer meant for another.
"""

from __future__ import annotations

import select
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError

from cachebridge.errors import L2Error
from cachebridge.resp import READ_BYTES, make_parser
from cachebridge.waiting import Slots

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket as Socket  # noqa: N812 a class in the end

    from redis.connection import Connection

    from cachebridge.resp import ReplyParser


class Link:
    """An open connection, used by one caller at a time.

    A client library has opened it, and ``close`` is that library's; in between, packed
    requests go out and replies come in over its bare socket, from threads
    (``exchange``) and from tasks (``l2/exchange.py``) alike.
    """

    __slots__ = ("__weakref__", "_close", "_poller", "parser", "socket", "timeout_s")

    def __init__(
        self, socket: Socket, parser: ReplyParser, close: Callable[[], object]
    ) -> None:
        self.socket = socket
        self.parser = parser
        self.timeout_s = socket.gettimeout()
        self._close = close
        self._poller = select.poll()
        self._poller.register(socket, select.POLLIN)
        # One that came too late for anybody is just dropped.
        weakref.finalize(self, close).atexit = False

    def exchange(self, packed: bytes, count: int) -> list[Any]:
        """Send a request and return its ``count`` replies; errors are among them.

        After any exception the link is unusable: close it.
        """
        began = time.monotonic()
        self.socket.sendall(packed)
        replies = self._receive()
        if len(replies) < count:
            self._receive_rest(replies, count, began)
        if len(replies) > count:
            raise RedisConnectionError("more replies than questions")
        return replies

    def _receive(self) -> list[Any]:
        data = self.socket.recv(READ_BYTES)
        if not data:
            raise RedisConnectionError("Connection closed by server.")
        return self.parser.feed(data)

    def _receive_rest(self, replies: list[Any], count: int, began: float) -> None:
        """Go on receiving; the timeout is for the whole, however slowly it drips in."""
        while len(replies) < count:
            if self.timeout_s is not None:
                left_s = began + self.timeout_s - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError("timed out in the middle of the reply")
                self.socket.settimeout(left_s)
            replies += self._receive()
        self.socket.settimeout(self.timeout_s)

    def is_stale(self) -> bool:
        """Tell whether something arrived unasked: the end of the stream, or garbage."""
        return bool(self._poller.poll(0))

    def is_open(self) -> bool:
        """Tell whether ``close`` was not called yet."""
        return self.socket.fileno() >= 0

    def close(self) -> None:
        """Close the connection."""
        self._close()


def open_link(connection: Connection) -> Link:
    """Connect a connection of redis-py; raises what that raises."""
    try:
        connection.connect()
        sock: Socket = connection._sock  # type: ignore[assignment]  # noqa: SLF001 no other way
        return Link(sock, make_parser(), connection.disconnect)
    except BaseException:
        connection.disconnect()
        raise


class Pool:
    """Idle connections, last used first; unbounded unless ``limit`` is given.

    Thread safe without a lock: a deque's ``append`` and ``pop`` are atomic.
    """

    def __init__(
        self,
        open_link: Callable[[], Link],
        limit: int | None,
        wait_s: float,
    ) -> None:
        self.open = open_link
        """Opens a connection; blocks."""
        self._idle: deque[Link] = deque()
        self._limit = limit
        self.wait_s = wait_s
        self.slots = Slots(limit) if limit else None

    def take(self, *, fresh: bool = False) -> Link:
        """Return a connected connection; one just opened if ``fresh``.

        Raises what connecting raises, or L2Error if all ``limit`` stay busy.
        """
        if self.slots is not None and not self.slots.acquire(self.wait_s):
            raise self.all_busy()
        try:
            link = None if fresh else self.pop_idle()
            return link or self.open()
        except BaseException:
            self.free_slot()
            raise

    def give_back(self, link: Link) -> None:
        """Return a connection whose replies have all been read."""
        self.keep(link)
        self.free_slot()

    def discard(self, link: Link) -> None:
        """Close a connection that was interrupted, whatever interrupted it."""
        try:
            link.close()
        finally:
            self.free_slot()

    def close_idle(self) -> None:
        """Close every idle connection."""
        while (link := self._pop()) is not None:
            link.close()

    def forget(self) -> None:
        """Drop idle connections without a word to the server: they are the parent's."""
        self._idle = deque()
        if self._limit:
            self.slots = Slots(self._limit)

    # -- parts of the above, for tasks (``l2/apool.py``) -----------------------------

    def pop_idle(self) -> Link | None:
        """Return an idle connection that the server has not hung up on, if any."""
        while (link := self._pop()) is not None:
            if not link.is_stale():
                return link
            link.close()
        return None

    def keep(self, link: Link) -> None:
        """Let others use a connection that holds no slot."""
        self._idle.append(link)

    def all_busy(self) -> L2Error:
        """Return the exception for too many callers."""
        return L2Error(
            f"no connection became free within {self.wait_s} s: all "
            f"{self._limit} of MAX_CONNECTIONS are busy"
        )

    def free_slot(self) -> None:
        """Let the next caller have a connection."""
        if self.slots is not None:
            self.slots.release()

    def _pop(self) -> Link | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None
