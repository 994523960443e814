"""A store in this process's own memory, with the interface of the shared ones.

``memory://name`` names one ``MemoryServer`` per process.  It shares nothing with other
processes: for tests, for single-process tools, and as the double that the coherence
tests drive.
"""

from __future__ import annotations

import sys
import threading
import time
from fnmatch import translate
from itertools import islice
from re import compile as compile_pattern
from typing import TYPE_CHECKING, Final

from cachebridge.core.lease import LoadReply
from cachebridge.l2.base import NOT_AN_INTEGER, Read
from cachebridge.l2.load_records import LoadRecords

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cachebridge.core.lease import LoadedRaw, Look, LookTerms
    from cachebridge.l2.base import Ttl

INT64: Final = range(-(2**63), 2**63)
SWEEP: Final = 4


class MemoryServer:
    """The data and the subscribers that a Redis server would hold.  Thread safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self._data: dict[str, tuple[bytes, float | None]] = {}
        self.loads = LoadRecords(clock)
        self.max_entries = sys.maxsize
        self.subscribers: list[Callable[[bytes], object]] = []

    def publish(self, message: bytes | None) -> None:
        """Hand the message to every subscriber, in the caller's thread."""
        if message is not None:
            for subscriber in list(self.subscribers):
                subscriber(message)

    def peek(self, key: str) -> tuple[bytes, float | None] | None:
        """Return raw value and deadline of a key that is alive."""
        item = self._data.get(key)
        if item is not None and item[1] is not None and item[1] <= self.clock():
            del self._data[key]
            return None
        return item

    def put(self, key: str, raw: bytes, deadline: float | None) -> None:
        """Set a key, and let a few of the oldest expired ones go."""
        self._data.pop(key, None)
        self._data[key] = (raw, deadline)
        for old in list(islice(self._data, SWEEP)):
            self.peek(old)
        while len(self._data) > self.max_entries:
            del self._data[next(iter(self._data))]

    def pop(self, key: str) -> bool:
        """Delete a key; tell whether it was alive."""
        alive = self.peek(key) is not None
        self._data.pop(key, None)
        return alive

    def alive_keys(self) -> list[str]:
        """Return every key that is alive."""
        return [key for key in list(self._data) if self.peek(key) is not None]

    def clear(self) -> None:
        """Delete everything."""
        self._data.clear()
        self.loads.clear()

    def deadline(self, ttl_ms: int | None) -> float | None:
        """Return the clock's reading at which a TTL from now is over."""
        return None if ttl_ms is None else self.clock() + ttl_ms / 1000


class MemoryStore:
    """See ``L2Store``."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def get(self, key: str) -> Read:
        """Read one key."""
        with self._server.lock:
            item = self._server.peek(key)
            if item is None:
                return None, -2
            raw, deadline = item
            if deadline is None:
                return raw, -1
            return raw, max(1, int((deadline - self._server.clock()) * 1000))

    def get_many(self, keys: Sequence[str]) -> list[Read]:
        """Read several keys."""
        with self._server.lock:
            return [self.get(key) for key in keys]

    def exists(self, key: str) -> bool:
        """Tell whether the key exists."""
        return self.get(key)[0] is not None

    def store(
        self,
        items: Sequence[tuple[str, bytes]],
        ttl_ms: Ttl,
        message: bytes | None,
    ) -> Sequence[str]:
        """Set all items."""
        server = self._server
        ttls = ttl_ms if isinstance(ttl_ms, list) else [ttl_ms] * len(items)
        with server.lock:
            for (key, raw), ttl in zip(items, ttls, strict=True):
                server.loads.forget(key)
                server.put(key, raw, server.deadline(ttl))
            server.publish(message)
        return ()

    def add(
        self, key: str, raw: bytes, ttl_ms: int | None, message: bytes | None
    ) -> bool:
        """Set the key if it does not exist."""
        with self._server.lock:
            if self.exists(key):
                return False
            self.store([(key, raw)], ttl_ms, message)
            return True

    def touch(self, key: str, ttl_ms: int | None, message: bytes | None) -> bool:
        """Give an existing key a new TTL."""
        with self._server.lock:
            raw, _ = self.get(key)
            if raw is None:
                return False
            self._server.put(key, raw, self._server.deadline(ttl_ms))
            self._server.publish(message)
            return True

    def delete(self, keys: Sequence[str], message: bytes | None) -> int:
        """Delete the keys; publish in any case."""
        with self._server.lock:
            for key in keys:
                self._server.loads.forget(key)
            deleted = sum([self._server.pop(key) for key in keys])
            self._server.publish(message)
            return deleted

    def incr(self, key: str, delta: int, message: bytes | None) -> int | str | None:
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
            server.loads.forget(key)
            server.put(key, b"%d" % value, item[1])
            server.publish(message)
            return value

    def replace(
        self, key: str, expected: bytes, raw: bytes | None, message: bytes | None
    ) -> bool:
        """Compare and set, or compare and delete."""
        server = self._server
        with server.lock:
            item = server.peek(key)
            if item is None or item[0] != expected:
                return False
            server.loads.forget(key)
            if raw is None:
                server.pop(key)
            else:
                server.put(key, raw, item[1])
            server.publish(message)
            return True

    # -- loading -----------------------------------------------------------------

    def look(self, key: str, token: bytes, terms: LookTerms) -> Look:
        """Read the key, or take the right to load it."""
        with self._server.lock:
            return self._server.loads.look(key, *self.get(key), token, terms)

    def store_loaded(
        self, key: str, loaded: LoadedRaw, look: Look, message: bytes | None
    ) -> LoadReply:
        """Set a loaded value under its generation."""
        server = self._server
        with server.lock:
            if self._is_refused(key, look):
                return LoadReply(False, *self.get(key))
            self.store([(key, loaded.raw)], loaded.ttl_ms, message)
            server.loads.remember(key, loaded)
            return LoadReply(stored=True)

    def store_absent(
        self, key: str, ttl_ms: int, look: Look, message: bytes | None
    ) -> LoadReply:
        """Note that there is no such thing."""
        with self._server.lock:
            if self._is_refused(key, look):
                return LoadReply(False, *self.get(key))
            self.delete([key], message)
            self._server.loads.remember_absence(key, ttl_ms)
            return LoadReply(stored=True)

    def _is_refused(self, key: str, look: Look) -> bool:
        appeared = look.raw is None and self.exists(key)
        return appeared or not self._server.loads.holds(key, look.generation)

    def release(
        self, key: str, look: Look, keep_ms: int, message: bytes | None
    ) -> bytes | None:
        """End the lease without a value."""
        with self._server.lock:
            loads = self._server.loads
            if not loads.is_owner(key, look.token):
                return None
            copy = loads.release(key, keep_ms)
            if copy is None and not self.exists(key):
                self._server.publish(message)
            return copy

    def release_unshared(
        self, key: str, look: Look, lease_ms: int, message: bytes | None
    ) -> None:
        """End the lease, and let everybody load for a while."""
        with self._server.lock:
            loads = self._server.loads
            if loads.is_owner(key, look.token):
                loads.release_unshared(key, lease_ms)
                self._server.publish(message)

    # -- everything ---------------------------------------------------------------

    def clear(self, _prefix: str, _message: Callable[[], bytes]) -> None:
        """None: keys are found with ``scan``."""

    def scan(self, pattern: str, cursor: int) -> tuple[int, list[str]]:
        """Return every matching key in one step; the cursor is 0 before and after."""
        matches = compile_pattern(translate(_to_fnmatch(pattern))).match
        with self._server.lock:
            names = self._server.alive_keys() + self._server.loads.names()
            return cursor * 0, [name for name in names if matches(name)]

    def flush_db(self, message: bytes) -> bool:
        """Delete everything."""
        with self._server.lock:
            self._server.clear()
            self._server.publish(message)
            return True

    def publish(self, message: bytes) -> None:
        """Publish alone."""
        with self._server.lock:
            self._server.publish(message)

    def ping(self) -> None:
        """Return at once."""

    def close(self) -> None:
        """Do nothing: there are no connections."""

    def forget(self) -> None:
        """Keep the copy of the parent's data, but not its lock and subscribers."""
        self._server.lock = threading.RLock()
        self._server.subscribers.clear()


def _integer(raw: bytes) -> int | None:
    """Read what Redis would take for an integer: its shortest digits, in 64 bits."""
    try:
        value = int(raw)
    except ValueError:
        return None
    return value if raw == b"%d" % value and value in INT64 else None


def _to_fnmatch(pattern: str) -> str:
    """Rewrite Redis's backslash escapes as the one-character classes of fnmatch."""
    parts, characters = [], iter(pattern)
    for character in characters:
        if character == "\\":
            parts.append(f"[{next(characters, '')}]")
        else:
            parts.append(character)
    return "".join(parts)
