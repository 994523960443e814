"""The same store over tables that a driver keeps: in a file, a database, a service."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

from cachebridge.l2.memory.server import MemoryServer
from cachebridge.l2.memory.store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from contextlib import AbstractContextManager

    from cachebridge.l2.store import L2Store
    from cachebridge.l2.two_steps import Outbox


class TableServer(MemoryServer):
    """The rules of a store, over tables and a lock that a driver gives.

    ``table`` returns the mapping of a name (items, writes, loads, lists).  Its keys are
    strings, lone surrogates included; its values are tuples of bytes, floats and None,
    and small dataclasses; it is iterated from the oldest insertion to the latest.  It
    may return copies.  ``lock`` is held around every access, once by each call: it
    makes what happens inside of it atomic for all processes that share the tables, and
    undoes it if an exception comes out.  ``clock`` is one that they share, in seconds.
    """

    def __init__(
        self,
        table: Callable[[str], MutableMapping[str, Any]],
        lock: AbstractContextManager[object],
        clock: Callable[[], float],
    ) -> None:
        super().__init__(clock, table)
        self.lock = lock
        self._taken = threading.local()

    def taking(self) -> list[bytes]:
        """Return a list for what this thread publishes from now on."""
        taken: list[bytes] = []
        self._taken.messages = taken
        return taken

    def publish(self, message: bytes | None) -> None:
        """Take a message, for later."""
        if message is not None:
            self._taken.messages.append(message)

    def forget(self) -> None:
        """Begin anew in the child of a fork; for the driver to override."""


def table_store(server: TableServer, outbox: Outbox) -> L2Store:
    """Return the store for threads, whose messages follow each change."""
    return cast("L2Store", _TableStore(server, outbox))


class _TableStore:
    def __init__(self, server: TableServer, outbox: Outbox) -> None:
        self._server, self._outbox = server, outbox
        self._store = MemoryStore(server)

    def __getattr__(self, name: str) -> Any:
        """Return a method of the store; it is kept for the next time."""
        method = getattr(self._store, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            taken = self._server.taking()
            try:
                # It never suspends: all of it is in this thread.
                result = await method(*args, **kwargs)
            except BaseException:
                for message in taken:
                    self._outbox.doubt(message)
                raise
            for message in taken:
                await self._outbox.send(message)
            return result

        if not name.startswith("_"):
            setattr(self, name, call)
        return call

    def close(self) -> None:
        """Close what the server keeps open."""
        self._store.close()

    def forget(self) -> None:
        """Begin anew in the child of a fork."""
        self._store.forget()
