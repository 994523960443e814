"""A store over tables, which are in this process's own memory if no driver has them.

``memory://name`` names one ``MemoryServer`` per process.  It shares nothing with other
processes: for tests, for single-process tools, and as the double that the coherence
tests drive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cachebridge.core.dropping.tags import TAG_MARK
from cachebridge.core.entry import INT64
from cachebridge.core.keys import matcher_of
from cachebridge.core.lease import PLAIN_MARK, LoadReply
from cachebridge.l2.store import (
    COUNTABLE,
    NOT_AN_INTEGER,
    SCAN_COUNT,
    TAGGED,
    Counted,
    Read,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cachebridge.core.lease import LeaseGet, LeaseTerms, LoadedRaw
    from cachebridge.l2.memory.server import MemoryServer
    from cachebridge.l2.store import Bounds, Ttl


class MemoryStore:
    """See ``L2Store``.  For threads and for tasks: it never suspends.

    Each method holds the server's lock, and so is atomic.
    """

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    async def get(self, key: str) -> Read:
        """Read one key."""
        with self._server.lock:
            return self._server.read(key)

    async def get_many(self, keys: Sequence[str]) -> list[Read]:
        """Read several keys."""
        with self._server.lock:
            return [self._server.read(key) for key in keys]

    async def exists(self, key: str) -> bool | str:
        """Return whether the key exists."""
        with self._server.lock:
            item = self._server.peek(key)
            return False if item is None else _standing(item[0])

    async def store(
        self,
        items: Sequence[tuple[str, bytes]],
        ttl_ms: Ttl,
        message: bytes | None,
    ) -> Sequence[str]:
        """Set all items."""
        with self._server.lock:
            self._server.write(items, ttl_ms, message)
        return ()

    async def add(
        self, key: str, raw: bytes, ttl_ms: int | None, message: bytes | None
    ) -> bool | str:
        """Set the key if it does not exist."""
        with self._server.lock:
            if (item := self._server.peek(key)) is not None:
                return TAGGED if _standing(item[0]) == TAGGED else False
            self._server.write([(key, raw)], ttl_ms, message)
            return True

    async def touch(
        self, key: str, ttl_ms: int | None, message: bytes | None
    ) -> bool | str:
        """Give an existing key a new TTL."""
        server = self._server
        with server.lock:
            item = server.peek(key)
            if item is None:
                return False
            deadline = server.deadline(ttl_ms)
            server.loads.follow(key, item[0], deadline)
            server.put(key, item[0], deadline)
            server.publish(message)
            return _standing(item[0])

    async def ttl(self, key: str) -> int:
        """Return what is left of the TTL."""
        with self._server.lock:
            return self._server.read(key)[1]

    async def overwrite(
        self, key: str, raw: bytes, ttl_ms: int | None, message: bytes | None
    ) -> bool | str:
        """Set the key if it exists."""
        with self._server.lock:
            if (item := self._server.peek(key)) is None:
                return False
            if _standing(item[0]) == TAGGED:
                return TAGGED
            self._server.write([(key, raw)], ttl_ms, message)
            return True

    async def keep(self, key: str, expected: bytes, ttl_ms: int) -> bool:
        """Give the key a new TTL if it still is ``expected``."""
        server = self._server
        with server.lock:
            item = server.peek(key)
            if item is None or item[0] != expected:
                return False
            server.put(key, expected, server.deadline(ttl_ms))
            return True

    async def delete(self, keys: Sequence[str], message: bytes | None) -> int:
        """Delete the keys; always publish."""
        with self._server.lock:
            return self._server.delete(keys, message)

    async def delete_older(
        self,
        keys: Sequence[str],
        ages_s: Callable[[], Sequence[float]],
        origin: bytes,
        message: bytes | None,
    ) -> int:
        """Delete the keys that no other process has written since."""
        server = self._server
        with server.lock:
            now = server.clock()  # first: an instant must not be too late
            since = [now - age_s for age_s in ages_s()]
            old = [
                key
                for key, at in zip(keys, since, strict=True)
                if not server.is_newer(key, at, origin)
            ]
            deleted = server.delete(old, None)
            server.publish(message)
            return deleted

    async def incr(
        self, key: str, delta: int, message: bytes | None
    ) -> int | str | None:
        """Add to an integer."""
        server = self._server
        with server.lock:
            item = server.peek(key)
            if item is None:
                return None
            value = _integer(item[0])
            if value is None or value + delta not in INT64:
                return NOT_AN_INTEGER
            value += delta
            server.change(key, b"%d" % value, item[1], message)
            server.publish(message)
            return value

    async def count(
        self,
        key: str,
        delta: int,
        bounds: Bounds,
        ttl_ms: int | None,
        message: bytes | None,
    ) -> Counted | None:
        """Add to a counter if the bounds allow it."""
        server = self._server
        with server.lock:
            raw, left_ms = server.read(key)
            value = 0 if raw is None else _integer(raw)
            if value is None or value not in COUNTABLE:
                return None
            if not bounds.allow(value, delta):
                return Counted(False, value, left_ms)
            item = server.peek(key)
            deadline = server.deadline(ttl_ms) if item is None else item[1]
            server.change(key, b"%d" % (value + delta), deadline, message)
            server.publish(message)
            return Counted(True, value + delta, left_ms)

    async def replace(
        self, key: str, expected: bytes, raw: bytes | None, message: bytes | None
    ) -> bool:
        """Compare and set, or compare and delete."""
        server = self._server
        with server.lock:
            item = server.peek(key)
            if item is None or item[0] != expected:
                return False
            if raw is None:
                server.delete([key], message)
                return True
            server.change(key, raw, item[1], message)
            server.publish(message)
            return True

    # -- loading -----------------------------------------------------------------

    async def get_or_lease(self, key: str, token: bytes, terms: LeaseTerms) -> LeaseGet:
        """Read the key, or take the right to load it."""
        server = self._server
        with server.lock:
            return server.loads.get_or_lease(key, *server.read(key), token, terms)

    async def store_loaded(
        self, key: str, loaded: LoadedRaw, lease: LeaseGet, message: bytes | None
    ) -> LoadReply:
        """Set a loaded value under its generation."""
        server = self._server
        with server.lock:
            if server.refuses(key, lease):
                return LoadReply(False, *server.read(key))
            server.write([(key, loaded.raw)], loaded.ttl_ms, message)
            server.loads.remember(key, loaded, server.deadline(loaded.ttl_ms))
            return LoadReply(stored=True)

    async def store_absent(
        self,
        key: str,
        ttl_ms: int,
        lease: LeaseGet,
        message: bytes | None,
        mark: bytes = PLAIN_MARK,
    ) -> LoadReply:
        """Note that there is no such thing."""
        server = self._server
        with server.lock:
            if server.refuses(key, lease):
                return LoadReply(False, *server.read(key))
            server.delete([key], message)
            server.loads.remember_absence(key, ttl_ms, mark)
            return LoadReply(stored=True)

    async def release(
        self, key: str, lease: LeaseGet, keep_ms: int, message: bytes | None
    ) -> bytes | None:
        """End the lease without a value."""
        server = self._server
        with server.lock:
            if not server.loads.is_owner(key, lease.token):
                return None
            copy = server.loads.release(key, server.read(key)[0], keep_ms)
            if copy is None and server.peek(key) is None:
                server.publish(message)
            return copy

    async def release_unshared(
        self, key: str, lease: LeaseGet, lease_ms: int, message: bytes | None
    ) -> None:
        """End the lease, and let every caller load for a while."""
        server = self._server
        with server.lock:
            if server.loads.is_owner(key, lease.token):
                server.loads.release_unshared(key, lease_ms)
                server.publish(message)

    # -- everything ---------------------------------------------------------------

    async def clear(self, _prefix: str, _message: Callable[[], bytes]) -> None:
        """Return None: keys are found with ``scan``."""

    async def scan(
        self,
        pattern: str,
        cursor: int,
        _count: int = SCAN_COUNT,
        *,
        records: bool = True,
    ) -> tuple[int, list[str]]:
        """Return every matching key in one step; the cursor is 0 before and after."""
        matches = matcher_of(pattern)
        with self._server.lock:
            keys = self._server.alive_keys()
            if records:
                keys += self._server.loads.keys()
            return cursor * 0, [key for key in dict.fromkeys(keys) if matches(key)]

    async def flush_db(self, message: bytes) -> bool:
        """Delete everything."""
        with self._server.lock:
            self._server.clear()
            self._server.publish(message)
            return True

    async def switch(self, _name: str, _word: bytes, message: bytes) -> None:
        """Publish: no process comes later."""
        await self.publish(message)

    async def keep_list(self, name: str, raw: bytes, ttl_ms: int) -> None:
        """Keep a list beside the keys."""
        server = self._server
        with server.lock:
            server.lists[name] = raw, server.clock() + ttl_ms / 1000

    async def kept_list(self, name: str) -> bytes | None:
        """Return a list until its TTL is over."""
        server = self._server
        with server.lock:
            raw, deadline = server.lists.get(name, (None, 0.0))
        return raw if server.clock() < deadline else None

    async def publish(self, message: bytes) -> None:
        """Publish alone."""
        with self._server.lock:
            self._server.publish(message)

    async def ping(self) -> None:
        """Return at once."""

    def close(self) -> None:
        """Close what the server keeps open."""
        self._server.close()

    def forget(self) -> None:
        """Begin anew in the child of a fork."""
        self._server.forget()


def _standing(raw: bytes) -> bool | str:
    return TAGGED if raw.startswith(TAG_MARK) else True


def _integer(raw: bytes) -> int | None:
    """Return the number if Redis would take it for one: shortest digits, 64 bits."""
    try:
        value = int(raw)
    except ValueError:
        return None
    return value if raw == b"%d" % value and value in INT64 else None
