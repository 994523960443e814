"""Counters within bounds: compare and set, until no other client was faster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cachebridge.core.ttl import GONE_MS
from cachebridge.l2.memcached.items import State, is_int64
from cachebridge.l2.memcached.operations import Operations
from cachebridge.l2.memcached.requests import contention_error
from cachebridge.l2.store import COUNTABLE, Counted

if TYPE_CHECKING:
    from cachebridge.l2.store import Bounds

MOST_TRIES: Final = 100_000
"""One client wins each round; a caller goes on for as long as it waits for anything."""


class CountOperations(Operations):
    """What counting does with the servers, made for one call."""

    __slots__ = ()

    async def count(
        self, key: str, delta: int, bounds: Bounds, ttl_ms: int | None
    ) -> Counted | None:
        """Add to a counter if the bounds allow it.  The TTL stays, to the second."""
        place = self.place(key)
        for _ in self._tries(MOST_TRIES):
            item = await self._read(place)
            is_there = item.state is State.VALUE
            raw = (item.raw or b"") if is_there else b"0"
            if not is_int64(raw) or int(raw) not in COUNTABLE:
                return None
            value, left_ms = int(raw), item.ttl_ms if is_there else GONE_MS
            if not bounds.allow(value, delta):
                return Counted(False, value, left_ms)
            total = b"%d" % (value + delta)
            if is_there:
                left = None if left_ms < 0 else left_ms
                packed = self._pack(place, total, left, await self._stamp(place.node))
                done = await self._swap(place, packed, item)
            else:
                done = await self.add(key, total, ttl_ms) is True
            if done:
                return Counted(True, value + delta, left_ms)
        raise contention_error(key)
