"""Idle connections of one engine, and the one rule about broken ones.

A connection that was interrupted by *any* exception, KeyboardInterrupt and greenlet
kills included, may still have a reply of its old command under way.  It is closed and
never used again: reusing it gives one caller the answer meant for another.
"""

from __future__ import annotations

import select
import threading
from collections import deque
from typing import TYPE_CHECKING

from redis.exceptions import ConnectionError as RedisConnectionError

from cachebridge.errors import L2Error

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from redis.connection import Connection


class Pooled:
    """A connection with the poll object that tells whether its peer has hung up."""

    __slots__ = ("connection", "poller")

    def __init__(self, connection: Connection) -> None:
        try:
            connection.connect()
        except BaseException:
            connection.disconnect()
            raise
        self.connection = connection
        self.poller = select.poll()
        sock: socket.socket | None = connection._sock  # noqa: SLF001 no other way
        if sock is None:
            raise RedisConnectionError("connected without a socket")
        self.poller.register(sock, select.POLLIN)

    def is_stale(self) -> bool:
        """Tell whether something arrived unasked: the end of the stream, or garbage."""
        return bool(self.poller.poll(0))


class Pool:
    """Idle connections, last used first; unbounded unless ``limit`` is given.

    Thread safe without a lock: a deque's ``append`` and ``pop`` are atomic.
    """

    def __init__(
        self,
        make_connection: Callable[[], Connection],
        limit: int | None,
        wait_s: float,
    ) -> None:
        self._make_connection = make_connection
        self._idle: deque[Pooled] = deque()
        self._limit = limit
        self._wait_s = wait_s
        self._slots = threading.BoundedSemaphore(limit) if limit else None

    def take(self, *, fresh: bool = False) -> Pooled:
        """Return a connected connection; one just opened if ``fresh``.

        Raises what connecting raises, or L2Error if all ``limit`` stay busy.
        """
        if self._slots is not None and not self._slots.acquire(timeout=self._wait_s):
            raise L2Error(
                f"no connection became free within {self._wait_s} s: all "
                f"{self._limit} of MAX_CONNECTIONS are busy"
            )
        try:
            while not fresh and self._idle:
                pooled = self._pop()
                if pooled is None:
                    break
                if not pooled.is_stale():
                    return pooled
                pooled.connection.disconnect()
            return Pooled(self._make_connection())
        except BaseException:
            self._free_slot()
            raise

    def give_back(self, pooled: Pooled) -> None:
        """Return a connection whose replies have all been read."""
        self._idle.append(pooled)
        self._free_slot()

    def discard(self, pooled: Pooled) -> None:
        """Close a connection that was interrupted, whatever interrupted it."""
        try:
            pooled.connection.disconnect()
        finally:
            self._free_slot()

    def close_idle(self) -> None:
        """Close every idle connection."""
        while (pooled := self._pop()) is not None:
            pooled.connection.disconnect()

    def forget(self) -> None:
        """Drop idle connections without a word to the server: they are the parent's."""
        self._idle = deque()
        if self._limit:
            self._slots = threading.BoundedSemaphore(self._limit)

    def _pop(self) -> Pooled | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _free_slot(self) -> None:
        if self._slots is not None:
            self._slots.release()
