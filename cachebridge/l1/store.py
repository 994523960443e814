"""A bounded dictionary of entries: its accounts, and what every policy has in common.

Hits take no lock: they look an entry up in one atomic step and leave a note of the key.
Every method except ``look`` and ``note`` must be called under the engine's lock.  Which
entries leave first is the policy's choice (``eviction.py``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from cachebridge.core.entry import ABSENT, BLOCK_BYTES, BLOCKS, EXPIRES, KIND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cachebridge.core.entry import Entry
    from cachebridge.stats import Counters

EVICTION_SHARE: Final = 64
"""An eviction takes 1/64 of the entries, because the walk to the first live slot of a
dictionary passes all slots emptied before it."""

NEGATIVE_SHARE: Final = 16
"""Negative entries take at most 1/16 of the entries: a scan of keys that do not exist
must not push out real ones."""


class L1Store(ABC):
    """Entries by full key, bounded in number and estimated bytes.

    Negative entries have a bound of their own; the oldest of them leaves first.

    A policy keeps every key of an entry in one of its queues.  An exception may strike
    between two steps, so a queue may also have a key without an entry, never the other
    way round.  Entries and the count of their blocks change together: no call stands
    between the two, and so no place where an exception may strike.
    """

    note: Callable[[str], object]
    """Note that a key was hit; needs no lock."""

    def __init__(self, *, max_entries: int, max_bytes: int, counters: Counters) -> None:
        self._entries: dict[str, Entry] = {}
        self.table: Mapping[str, Entry] = self._entries
        """What ``look`` reads, for ``local_get`` alone: a call costs a hit 8 % more."""
        self.max_entries = max_entries
        self._max_blocks = max_bytes // BLOCK_BYTES
        self._blocks = 0
        self.look = self._entries.get
        """Return the entry of a key, expired or not; None if there is none."""
        self._counters = counters
        self._negative: dict[str, None] = {}
        self._max_negative = max(1, max_entries // NEGATIVE_SHARE)

    @property
    def bytes(self) -> int:
        """Estimated memory of all entries."""
        return self._blocks * BLOCK_BYTES

    def __len__(self) -> int:
        return len(self._entries)

    def all_keys(self) -> list[str]:
        """Return all keys."""
        return list(self._entries)

    def youngest(self, limit: int) -> list[str]:
        """Return up to ``limit`` keys, the best to keep first; some have no entry.

        The last queue comes first, since its entries were hit, each from its young end.
        """
        queues = map(reversed, reversed([*self._queues()]))
        return list(islice(chain.from_iterable(queues), limit))

    # -- what a policy decides ---------------------------------------------------------

    @abstractmethod
    def put(self, key: str, entry: Entry) -> list[str]:
        """Store the entry; return the keys evicted for it."""

    @abstractmethod
    def _evict(self) -> list[str]:
        """Remove entries until both bounds hold, and count them; return their keys."""

    @abstractmethod
    def _unplace(self, key: str) -> None:
        """Take a key whose entry has just been removed out of its queue."""

    @abstractmethod
    def _queues(self) -> Iterable[dict[str, Entry] | dict[str, None]]:
        """Return the queues, each with its oldest key first."""

    @abstractmethod
    def _forget_all(self) -> None:
        """Forget all that was noted of keys: there is no entry left."""

    @abstractmethod
    def hit_lately(self) -> list[str] | None:
        """Return the keys that were hit since this was asked last, each once.

        Some have no entry any more.  ``lru`` remembers the last few hits since the last
        write.  None from ``fifo``, which notes no hits.
        """

    # -- what all policies share -------------------------------------------------------

    def _take(self, key: str, entry: Entry) -> list[str]:
        """Store an entry whose key is in a queue, and restore the bounds."""
        entries = self._entries
        entries[key] = entry
        self._blocks += entry[BLOCKS]
        if self._negative or entry[KIND] is ABSENT:
            crowded_out = self._bound_negative(key, entry)
            if crowded_out:
                return crowded_out
        if len(entries) > self.max_entries or self._blocks > self._max_blocks:
            evicted = self._evict()
            if self._negative:
                for each in evicted:
                    self._negative.pop(each, None)
            return evicted
        return []

    def pop(self, key: str) -> None:
        """Remove the entry if there is one."""
        entries = self._entries
        if key in entries:
            self._blocks -= entries[key][BLOCKS]
            del entries[key]
            self._unplace(key)
            if self._negative:
                self._negative.pop(key, None)

    def discard_some(self, limit: int) -> bool:
        """Remove up to ``limit`` entries; return True while some remain."""
        entries = self._entries
        for queue in self._queues():
            for key in list(islice(reversed(queue), limit)):
                if key in entries:
                    self._blocks -= entries[key][BLOCKS]
                    del entries[key]
                    limit -= 1
                queue.pop(key, None)
        if not entries:
            self._forget_all()
            self._negative.clear()
            self._blocks = 0
        return bool(entries)

    def sweep(self, now: float, limit: int, start: int = 0) -> list[str]:
        """Remove the expired among ``limit`` entries of each queue; return their keys.

        It looks at the old ends, past the ``start`` oldest.  The lifetime in L1 is
        bounded, so what stands there expires soon, if it has not yet.
        """
        look = self.look
        expired = [
            key
            for queue in self._queues()
            for key in islice(queue, start, start + limit)
            if (entry := look(key)) is not None and now >= entry[EXPIRES]
        ]
        for key in expired:
            self.pop(key)
        self._counters.expirations += len(expired)
        return expired

    def _bound_negative(self, key: str, entry: Entry) -> list[str]:
        """Count negative entries, and remove the oldest if there are too many."""
        negative = self._negative
        negative.pop(key, None)
        if entry[KIND] is not ABSENT:
            return []
        negative[key] = None
        if len(negative) <= self._max_negative:
            return []
        share = max(1, self._max_negative // EVICTION_SHARE)
        oldest = list(islice(negative, share))
        for each in oldest:
            self.pop(each)
        self._counters.evictions += len(oldest)
        return oldest
