"""A bounded dictionary in order of use: least recently used first.

Hits take no lock: they read the dictionary with one atomic ``get`` and leave a note of
the key.  Whoever writes next, under the lock, moves the noted keys to the end.  Every
method except ``note`` and ``entries.get`` must be called under the engine's lock.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

from cachebridge.core.entry import ABSENT, BLOCK_BYTES, BLOCKS, KIND, is_expired

if TYPE_CHECKING:
    from cachebridge.core.entry import Entry
    from cachebridge.stats import Counters

NOTES: Final = 1024
"""Hits remembered between two writes; more would sharpen nothing measurable."""
EVICTION_SHARE: Final = 64
"""An eviction takes 1/64 of the entries, because the walk to the first live slot of a
dictionary passes all slots emptied before it."""


NEGATIVE_SHARE: Final = 16
"""Negative entries take at most 1/16 of the entries: a scan of keys that do not exist
must not push out real ones."""


class LruStore:
    """Entries by full key, bounded in number and estimated bytes.

    Negative entries have a bound of their own; the oldest of them leaves first.
    """

    def __init__(self, *, max_entries: int, max_bytes: int, counters: Counters) -> None:
        self.entries: dict[str, Entry] = {}
        self.max_entries = max_entries
        self._max_blocks = max_bytes // BLOCK_BYTES
        self._blocks = 0
        self.peek = self.entries.get
        """Return the entry of a key, expired or not; None if there is none."""
        self._noted: deque[str] = deque(maxlen=NOTES)
        self.note = self._noted.append
        """Note that a key was hit; needs no lock."""
        self._counters = counters
        self._negative: dict[str, None] = {}
        self._max_negative = max(1, max_entries // NEGATIVE_SHARE)

    @property
    def bytes(self) -> int:
        """Estimated memory of all entries."""
        return self._blocks * BLOCK_BYTES

    def __len__(self) -> int:
        return len(self.entries)

    def all_keys(self) -> list[str]:
        """Return all keys, least recently used first."""
        return list(self.entries)

    def put(self, key: str, entry: Entry) -> list[str]:
        """Store the entry as the most recently used; return the keys evicted for it."""
        entries = self.entries
        replaced = entries.pop(key, None)
        if replaced is not None:
            self._blocks -= replaced[BLOCKS]
        if self._noted:
            self._apply_notes()
        entries[key] = entry
        self._blocks += entry[BLOCKS]
        if self._negative or entry[KIND] is ABSENT:
            crowded_out = self._bound_negative(key, entry)
            if crowded_out:
                return crowded_out
        if len(entries) > self.max_entries or self._blocks > self._max_blocks:
            return self._evict()
        return []

    def pop(self, key: str) -> None:
        """Remove the entry if there is one."""
        entry = self.entries.pop(key, None)
        if entry is not None:
            self._blocks -= entry[BLOCKS]
            if self._negative:
                self._negative.pop(key, None)

    def discard_some(self, limit: int) -> bool:
        """Remove up to ``limit`` entries; return True while some remain."""
        entries = self.entries
        for _ in range(min(limit, len(entries))):
            self._blocks -= entries.popitem()[1][BLOCKS]
        if not entries:
            self._noted.clear()
            self._negative.clear()
            self._blocks = 0
        return bool(entries)

    def sweep(self, now: float, limit: int) -> list[str]:
        """Remove expired entries from the least recently used end, ``limit`` at most.

        The lifetime in L1 is bounded, so an expired entry that nobody reads drifts to
        this end and finds only entries before it that expire soon themselves.
        """
        self._apply_notes()
        expired = []
        for key, entry in islice(self.entries.items(), limit):
            if not is_expired(entry, now):
                break
            expired.append(key)
        for key in expired:
            self.pop(key)
        self._counters.expirations += len(expired)
        return expired

    def _apply_notes(self) -> None:
        """Move what was hit since the last write to the most recently used end."""
        noted, entries = self._noted, self.entries
        for _ in range(len(noted)):
            key = noted.popleft()
            entry = entries.pop(key, None)
            if entry is not None:
                entries[key] = entry

    def _bound_negative(self, key: str, entry: Entry) -> list[str]:
        """Keep count of negative entries; let the oldest go if there are too many."""
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

    def _evict(self) -> list[str]:
        entries = self.entries
        evicted: list[str] = []
        while len(entries) > self.max_entries or self._blocks > self._max_blocks:
            share = max(1, len(entries) // EVICTION_SHARE)
            for key in list(islice(entries, share)):
                self.pop(key)
                evicted.append(key)
        self._counters.evictions += len(evicted)
        return evicted
