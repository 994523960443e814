"""How many entries leave L1 at once: in slices, so that no thread waits for long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cachebridge.core.dropping.trail import TOGETHER
from cachebridge.core.outage import SLICE
from cachebridge.waiting.guard import Guard

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Collection, Iterable, Sequence

    from cachebridge.core.dropping.tags import TagIndex
    from cachebridge.core.dropping.trail import Trail
    from cachebridge.core.entry import L1
    from cachebridge.core.host.sharing import Sharing
    from cachebridge.stats import Counters


class Rest(Guard):
    """See ``Emptying.at_rest``."""

    __slots__ = ("_rules",)

    def __init__(self, rules: Emptying) -> None:
        super().__init__()
        self._rules = rules

    def _take(self) -> None:
        rules = self._rules
        with rules.lock:
            rules.epoch += 1
            rules.resting.add(self)
            rules.update_gate()

    def _give_back(self, _error: BaseException | None) -> None:
        rules = self._rules
        with rules.lock:
            rules.resting.discard(self)
            rules.update_gate()


class Emptying:
    """The part of ``Coherence`` that drops many entries."""

    l1: L1
    lock: threading.Lock
    epoch: int
    clock: Callable[[], float]
    counters: Counters
    resting: set[object]
    tags: TagIndex
    trail: Trail
    sharing: Sharing | None
    drop: Callable[[str], None]
    bump_all: Callable[[Iterable[str]], None]
    update_gate: Callable[[], None]

    def at_rest(self) -> Rest:
        """Void all open fills, and allow no hit and no store while the guard is held.

        So the caller may release the lock between slices, and stalls no other thread.
        """
        return Rest(self)

    def on_prefix(self, prefix: str) -> None:
        """Drop every key that begins with ``prefix``; open fills may not store."""
        if self.sharing is not None:
            self.sharing.flush("prefix")
        with (rest := self.at_rest()), rest:
            with self.lock:
                keys = [key for key in self.l1.all_keys() if key.startswith(prefix)]
                keys += self.tags.take(self.tags.stamps_like(prefix))
            self._drop_each(keys)

    def on_stamps(self, stamps: Collection[str]) -> None:
        """Stamps have changed: drop what hangs on them; it may not be filled either."""
        with self.lock:
            if self.tags.count(stamps) <= SLICE:
                tagged = self.tags.take(stamps)
                self.trail.note_all(tagged, TOGETHER)
                for key in tagged:
                    self.drop(key)
                return
        # First of all: to collect so many keys takes longer than a message does.
        with (rest := self.at_rest()), rest:
            with self.lock:
                tagged = self.tags.take(stamps)
            self._drop_each(tagged)

    def _drop_each(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), SLICE):
            with self.lock:
                slice_of = keys[start : start + SLICE]
                self.trail.note_all(slice_of, TOGETHER)
                for key in slice_of:
                    self.drop(key)

    def flush(self, cause: str) -> None:
        """Empty L1 and void all open fills."""
        if self.sharing is not None:
            self.sharing.flush(cause)
        with (rest := self.at_rest()), rest:
            more = True
            while more:
                with self.lock:
                    more = self.l1.discard_some(SLICE)
                    if not more:
                        self.tags.clear()
        self.trail.flushed(cause)
        self.counters.flushed(cause)

    def sweep(self, limit: int, start: int = 0) -> int:
        """Let expired entries go without having been read; return how many.

        It looks at ``limit`` of the oldest, past the first ``start`` (``L1.sweep``).
        """
        with self.lock:
            gone = self.l1.sweep(self.clock(), limit, start)
            self.bump_all(gone)
        return len(gone)
