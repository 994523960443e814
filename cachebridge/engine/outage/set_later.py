"""Sets whose callers need not wait: queued, or else carried out at once."""

from __future__ import annotations

from os import getpid
from typing import TYPE_CHECKING, Any

from cachebridge.core.keys import NO_TAGS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from cachebridge.core.breaker import Breaker
    from cachebridge.core.keys import KeyPattern
    from cachebridge.engine.later.write_behind import SendsQueued, WriteBehind
    from cachebridge.engine.operations import Operations
    from cachebridge.engine.outage.replay import OutageHost


class SetsLater:
    """The part of ``ResilientOperations`` that sets, or queues to be set."""

    _operations: Operations
    _engine: OutageHost
    _breaker: Breaker
    _clock: Callable[[], float]
    _queue: WriteBehind
    _degrades: bool
    _for_threads: SendsQueued
    _pattern: Callable[[], KeyPattern | None]
    set: Callable[..., Coroutine[Any, Any, bool]]

    def set_as(
        self,
        key: str,
        value: Any,
        ttl_ms: int | None,
        wait: bool,
        tags: tuple[str, ...] = NO_TAGS,
    ) -> Coroutine[Any, Any, bool]:
        """Set the value; without ``wait`` it may be sent later.

        Raises TypeError for a ``wait`` that is no bool, ValueError for one that is
        False with tags, and what the serializer raises.
        """
        if wait is True:
            if tags:
                return self.set(key, value, ttl_ms, tags=tags)
            return self.set(key, value, ttl_ms)
        if wait is not False:
            raise TypeError(f"wait must be True or False, not {wait!r}")
        if tags:
            raise ValueError(
                "a value with tags cannot be sent later: set it with wait=True"
            )
        return self._set_later(key, value, ttl_ms)

    async def _set_later(self, key: str, value: Any, ttl_ms: int | None) -> bool:
        """Queue the value and return True; where it cannot be queued, ``set`` it."""
        if self._engine.pid != getpid():
            self._engine.notice_fork()
        if ttl_ms == 0 or self._breaker.is_open or not self._queue.is_possible():
            return await self.set(key, value, ttl_ms)
        operations, ends, entry = self._operations, None, None
        raw = await operations.encode(key, value)
        left_ms = operations.jittered(ttl_ms)
        if left_ms is not None:
            ends = self._clock() + left_ms / 1000
        if operations.reads_l1:
            entry = operations.values.queued_entry(key, value, raw, left_ms)
        lane = (
            *(operations.reads_l1, operations.publishes, ends is None),
            *(self._degrades, self._pattern()),
            self._engine.stores.server_of(key),
        )
        sends = self._for_threads
        if self._queue.put(lane, sends, key, raw, ends=ends, entry=entry):
            return True
        return await self.set(key, value, ttl_ms)
