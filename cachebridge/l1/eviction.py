"""The policies: which entries leave L1 first when its bound is reached.

``docs/eviction.md`` compares them, ``docs/decisions/0015-eviction.md`` says why.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

from cachebridge.config import POLICY_NAMES
from cachebridge.core.entry import ABSENT, BLOCKS, KIND
from cachebridge.l1.store import EVICTION_SHARE, L1Store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cachebridge.core.entry import Entry
    from cachebridge.stats import Counters

NOTES: Final = 1024
"""Hits that ``lru`` remembers between two writes; more would not help measurably."""
FEW: Final = 500
"""Entries below which the small queue gets a larger share."""
SMALL_SHARE: Final = 10
"""The small queue has 1/10 of the entries, of few entries 1/4."""
SMALL_SHARE_OF_FEW: Final = 4
GHOST_SHARE: Final = 2
"""Each of the two generations of ghosts is at most 1/2 of the entries."""


class S3Fifo(L1Store):
    """Two queues in order of arrival: a new entry stays only if it was hit meanwhile.

    New entries enter ``small``.  Its oldest go on to ``main`` if they were hit, else
    they leave, and a ghost, the hash of the key, remains: a key that comes back while
    its ghost is known enters ``main`` at once.  The oldest of ``main`` begin anew there
    if they were hit since, else they leave.  A hit only marks the key.
    """

    def __init__(self, *, max_entries: int, max_bytes: int, counters: Counters) -> None:
        super().__init__(
            max_entries=max_entries, max_bytes=max_bytes, counters=counters
        )
        self._small: dict[str, None] = {}
        self._main: dict[str, None] = {}
        self._marks: set[str] = set()
        self.note = self._marks.add
        self._older_marks: set[str] = set()
        """Marks that ``hit_lately`` has taken: they count as the others do."""
        self._ghosts: set[int] = set()
        self._older_ghosts: set[int] = set()

    def put(self, key: str, entry: Entry) -> list[str]:
        """Store the entry; return the keys evicted for it."""
        entries = self._entries
        if key in entries:
            self.pop(key)
        ghost = hash(key)
        if ghost in self._ghosts or ghost in self._older_ghosts:
            self._ghosts.discard(ghost)
            self._older_ghosts.discard(ghost)
            self._main[key] = None
        else:
            self._small[key] = None
        if self._negative or entry[KIND] is ABSENT:
            return self._take(key, entry)
        # What ``_take`` does, written out: a call costs 8 % of an access.
        entries[key] = entry
        self._blocks += entry[BLOCKS]
        if len(entries) > self.max_entries or self._blocks > self._max_blocks:
            return self._evict()
        return []

    def _evict(self) -> list[str]:
        entries, small, main = self._entries, self._small, self._main
        count = len(entries)
        share = count // (SMALL_SHARE if count >= FEW else SMALL_SHARE_OF_FEW)
        batch = count // EVICTION_SHARE + 1
        evicted: list[str] = []
        while len(entries) > self.max_entries or self._blocks > self._max_blocks:
            if len(small) > share or not main:
                self._evict_small(batch, evicted)
            else:
                self._evict_main(batch, evicted)
        self._counters.evictions += len(evicted)
        if len(self._ghosts) > count // GHOST_SHARE:
            self._bound_ghosts()
        return evicted

    def _evict_small(self, batch: int, evicted: list[str]) -> None:
        entries, small, marks = self._entries, self._small, self._marks
        older = self._older_marks
        for key in list(islice(small, batch)):
            if key in marks or key in older:
                self._main[key] = None
                marks.discard(key)
                older.discard(key)
            elif key in entries:
                self._blocks -= entries[key][BLOCKS]
                del entries[key]
                evicted.append(key)
                self._ghosts.add(hash(key))
            del small[key]

    def _evict_main(self, batch: int, evicted: list[str]) -> None:
        entries, main, marks = self._entries, self._main, self._marks
        older = self._older_marks
        hit = 0
        for key in list(islice(main, batch)):
            del main[key]
            if key in marks or key in older:
                main[key] = None
                marks.discard(key)
                older.discard(key)
            elif key in entries:
                self._blocks -= entries[key][BLOCKS]
                del entries[key]
                evicted.append(key)
                hit += 1
        self._counters.evicted_hit += hit

    def _bound_ghosts(self) -> None:
        """Forget the older half of the ghosts, and marks of keys that are gone."""
        self._older_ghosts, self._ghosts = self._ghosts, set()
        entries, marks, older = self._entries, self._marks, self._older_marks
        if len(marks) + len(older) > 2 * len(entries):  # a hit may cross a removal
            marks.intersection_update(entries)
            older.intersection_update(entries)

    def _unplace(self, key: str) -> None:
        """Take the key out; if it was hit, let it come back to the main queue."""
        marks, older = self._marks, self._older_marks
        if self._small.pop(key, self) is self:
            self._main.pop(key, None)
        elif key not in marks and key not in older:
            return
        marks.discard(key)
        older.discard(key)
        self._ghosts.add(hash(key))
        if len(self._ghosts) > len(self._entries) // GHOST_SHARE + 1:
            self._bound_ghosts()

    def _queues(self) -> Iterable[dict[str, None]]:
        return self._small, self._main

    def hit_lately(self) -> list[str]:
        """Return the keys that were marked since this was asked last."""
        found = list(self._marks)
        self._older_marks.update(found)  # first: no mark may be lost
        self._marks.difference_update(found)
        return found

    def _forget_all(self) -> None:
        for noted in (
            self._marks,
            self._older_marks,
            self._ghosts,
            self._older_ghosts,
        ):
            noted.clear()


class Fifo(L1Store):
    """The oldest leave first, whether they were hit or not."""

    def __init__(self, *, max_entries: int, max_bytes: int, counters: Counters) -> None:
        super().__init__(
            max_entries=max_entries, max_bytes=max_bytes, counters=counters
        )
        self._noted: deque[str] = deque(maxlen=0)
        self.note = self._noted.append

    def put(self, key: str, entry: Entry) -> list[str]:
        """Store the entry as the youngest; return the keys evicted for it."""
        if key in self._entries:
            self.pop(key)
        return self._take(key, entry)

    def _evict(self) -> list[str]:
        entries = self._entries
        evicted: list[str] = []
        while len(entries) > self.max_entries or self._blocks > self._max_blocks:
            oldest = list(islice(entries, max(1, len(entries) // EVICTION_SHARE)))
            for key in oldest:
                self._blocks -= entries[key][BLOCKS]
                del entries[key]
            evicted += oldest
        self._counters.evictions += len(evicted)
        return evicted

    def _unplace(self, key: str) -> None:
        pass  # the one queue is the dictionary of the entries

    def _queues(self) -> Iterable[dict[str, Entry]]:
        return (self._entries,)

    def hit_lately(self) -> list[str] | None:
        """Return None: hits are not noted."""
        return None

    def _forget_all(self) -> None:
        self._noted.clear()


class Lru(Fifo):
    """The least recently used leave first.

    A hit leaves a note; the next writer moves the noted keys to the young end.
    """

    def __init__(self, *, max_entries: int, max_bytes: int, counters: Counters) -> None:
        super().__init__(
            max_entries=max_entries, max_bytes=max_bytes, counters=counters
        )
        self._noted = deque(maxlen=NOTES)
        self.note = self._noted.append

    def put(self, key: str, entry: Entry) -> list[str]:
        """Store the entry as the most recently used; return the keys evicted for it."""
        if key in self._entries:
            self.pop(key)
        if self._noted:
            self._apply_notes()
        return self._take(key, entry)

    def _apply_notes(self) -> None:
        noted, entries = self._noted, self._entries
        for _ in range(len(noted)):
            key = noted.popleft()
            if key in entries:
                entry = entries[key]
                del entries[key]
                entries[key] = entry

    def _queues(self) -> Iterable[dict[str, Entry]]:
        self._apply_notes()
        return super()._queues()

    def hit_lately(self) -> list[str] | None:
        """Return the keys of the notes, and move them as a writer would."""
        found = list(dict.fromkeys(self._noted.copy()))
        self._apply_notes()
        return found


POLICIES: Final[dict[str, type[L1Store]]] = dict(
    zip(POLICY_NAMES, (S3Fifo, Lru, Fifo), strict=True)
)
"""By the value of L1_EVICTION."""
