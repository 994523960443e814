"""What a Redis server would hold, in tables: those of this process, or of a driver."""

from __future__ import annotations

import sys
import threading
import time
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from cachebridge.l2.memory.load_records import LoadRecords
from cachebridge.l2.store import GONE, Read

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping, Sequence
    from contextlib import AbstractContextManager

    from cachebridge.core.lease import LeaseGet
    from cachebridge.l2.store import Ttl

SWEEP: Final = 4
ORIGIN: Final = slice(4, 12)
"""Where a message says which process has sent it."""


class MemoryServer:
    """The data and the subscribers that a Redis server would hold.  Thread safe."""

    lock: AbstractContextManager[object]
    """Held by every call; makes it atomic."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        table: Callable[[str], MutableMapping[str, Any]] = lambda _name: {},
    ) -> None:
        """``table`` makes a mapping that keeps the order of insertion, by its name."""
        self.clock = clock
        self.lock = threading.RLock()
        self._data: MutableMapping[str, tuple[bytes, float | None]] = table("items")
        self._written: MutableMapping[str, tuple[float, bytes]] = table("writes")
        """When each key of ``_data`` was written, and by whom."""
        self.loads = LoadRecords(clock, table("loads"))
        self.lists: MutableMapping[str, tuple[bytes, float]] = table("lists")
        """Lists of keys for warm-ups, each with its deadline."""
        self.max_entries = sys.maxsize
        """How many keys it holds: the latest."""
        self.subscribers: list[Callable[[bytes], object]] = []

    def publish(self, message: bytes | None) -> None:
        """Pass the message to every subscriber, in the caller's thread."""
        if message is not None:
            for subscriber in list(self.subscribers):
                subscriber(message)

    def read(self, key: str) -> Read:
        """Return raw value and PTTL of a key."""
        item = self.peek(key)
        if item is None:
            return GONE
        raw, deadline = item
        if deadline is None:
            return raw, -1
        return raw, max(1, int((deadline - self.clock()) * 1000))

    def peek(self, key: str) -> tuple[bytes, float | None] | None:
        """Return raw value and deadline of a key that is alive."""
        item = self._data.get(key)
        if item is not None and item[1] is not None and item[1] <= self.clock():
            del self._data[key]
            return None
        return item

    def put(self, key: str, raw: bytes, deadline: float | None) -> None:
        """Set a key, and delete a few of the oldest keys if they have expired."""
        self._data.pop(key, None)
        self._data[key] = (raw, deadline)
        for old in list(islice(self._data, SWEEP)):
            self.peek(old)
        while self.max_entries < sys.maxsize and len(self._data) > self.max_entries:
            del self._data[next(iter(self._data))]

    def write(
        self, items: Sequence[tuple[str, bytes]], ttl_ms: Ttl, message: bytes | None
    ) -> None:
        """Set all items, end the loads of their keys, and publish."""
        ttls = ttl_ms if isinstance(ttl_ms, list) else [ttl_ms] * len(items)
        for (key, raw), ttl in zip(items, ttls, strict=True):
            self.change(key, raw, self.deadline(ttl), message)
        self.publish(message)

    def change(
        self, key: str, raw: bytes, deadline: float | None, message: bytes | None
    ) -> None:
        """Set a key, end its loads, and note the write that the message is of."""
        self.loads.forget(key)
        self.put(key, raw, deadline)
        self.note(key, message)

    def note(self, key: str, message: bytes | None) -> None:
        """Note that a key was written, by the process that the message is of."""
        for old in list(islice(self._written, SWEEP)):
            if old not in self._data:
                del self._written[old]
        self._written[key] = self.clock(), (message or b"")[ORIGIN]

    def is_newer(self, key: str, since: float, origin: bytes) -> bool:
        """Return whether another process than ``origin`` has written the key since."""
        written_at, by = self._written.get(key, (float("-inf"), b""))
        return written_at >= since and by != origin

    def delete(self, keys: Sequence[str], message: bytes | None) -> int:
        """Delete keys, end their loads, and publish; return how many were alive."""
        for key in keys:
            self.loads.forget(key)
        deleted = sum([self.pop(key) for key in keys])
        self.publish(message)
        return deleted

    def refuses(self, key: str, lease: LeaseGet) -> bool:
        """Return whether what was loaded under the lease comes too late."""
        item = self.peek(key)
        if lease.raw is None and item is not None:
            return True
        return not self.loads.holds(key, item and item[0], lease.generation)

    def pop(self, key: str) -> bool:
        """Delete a key; return whether it was alive."""
        alive = self.peek(key) is not None
        self._data.pop(key, None)
        return alive

    def alive_keys(self) -> list[str]:
        """Return every key that is alive."""
        return [key for key in list(self._data) if self.peek(key) is not None]

    def clear(self) -> None:
        """Delete everything."""
        self.lists.clear()
        self._data.clear()
        self.loads.clear()

    def close(self) -> None:
        """Do nothing: there are no connections."""

    def forget(self) -> None:
        """Keep the copy of the parent's data, but not its lock and subscribers."""
        self.lock = threading.RLock()
        self.subscribers.clear()

    def deadline(self, ttl_ms: int | None) -> float | None:
        """Return the clock's reading at which a TTL from now is over."""
        return None if ttl_ms is None else self.clock() + ttl_ms / 1000
