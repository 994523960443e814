"""What L1 may serve, take and keep while L2 is away.

The reasons stand in ``docs/decisions/0008-outage.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from cachebridge.core.entry import WRITE_ID

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from cachebridge.core.entry import L1

SLICE: Final = 4096
NEVER: Final = 0.0
FOREVER: Final = float("inf")
MAX_OUTAGE_KEYS: Final = 65_536
"""As many keys are remembered of an outage; if there are more, its end is a flush."""


class PendingKeys(Protocol):
    """Keys of which L2 has an old value that no caller may take for new."""

    may_be: bool
    """Whether there may be any such key."""

    def concern(self, keys: Iterable[str]) -> bool:
        """Return whether one of the keys is one of them."""


class OutageHost(Protocol):
    """The coherence rules that an outage works with."""

    l1: L1
    lock: threading.Lock
    clock: Callable[[], float]
    enabled: bool
    resting: set[object]
    vouched_until: float

    def flush(self, cause: str) -> None:
        """Empty L1 and void all open fills."""

    def drop(self, key: str) -> None:
        """Remove the entry and close the open fills of the key."""

    def bump(self, key: str) -> None:
        """Close the open fills of the key."""

    def at_rest(self) -> AbstractContextManager[object]:
        """Void all open fills, and keep L1 unused while the context is open."""

    def update_gate(self) -> None:
        """Recompute until when a look-up may hit."""


class OutageEntries:
    """What L1 holds beyond what the bus vouches for.  Thread safe.

    That is what was trusted when the outage began, for ``ttl_s`` more, and what this
    process has loaded or written since.  All of it goes before L2's first answer.
    """

    def __init__(self, rules: OutageHost, ttl_s: float) -> None:
        self._rules = rules
        self.ttl_s = ttl_s
        self.pending_deletes: PendingKeys | None = None
        self.reset()

    def reset(self) -> None:
        """Begin without an outage."""
        self.is_active = False
        self.until = NEVER
        """Until when entries from before the outage may serve."""
        self._keys: set[str] = set()
        """Keys of what L1 has taken during the outage."""

    def begin(self) -> None:
        """L2 is away: what L1 was vouched for may serve for ``ttl_s`` more."""
        rules = self._rules
        with rules.lock:
            self.is_active = self.ttl_s > 0
            self.until = self._past_trust_until()
            rules.update_gate()
        self.prolong()

    def end(self) -> None:
        """L2 is about to answer: drop what L1 has taken during the outage.

        Entries loaded before stay; normal trust decides whether they may be served.
        """
        if not self.is_active:
            return
        rules = self._rules
        with (rest := rules.at_rest()), rest:
            with rules.lock:
                keys = list(self._keys)
            if len(keys) >= MAX_OUTAGE_KEYS:
                rules.flush("outage")
            for start in range(0, len(keys), SLICE):
                with rules.lock:
                    for key in keys[start : start + SLICE]:
                        rules.drop(key)
            with rules.lock:  # last: an end that was broken off is begun again
                self._keys.clear()
                self.until = NEVER
                self.is_active = False

    def prolong(self) -> None:
        """Once entries from before reach ``ttl_s``, serve only those made since."""
        rules = self._rules
        if not self.is_active or rules.clock() < self.until:
            return
        with (rest := rules.at_rest()), rest:
            with rules.lock:
                over, self.until = self.until, FOREVER
            if over != FOREVER:  # else another thread was quicker
                rules.flush("outage")

    def distrust(self, keys: Iterable[str]) -> None:
        """Drop what was read from L2 of these keys, which are outdated there.

        Reads in progress are rejected.  What this process itself wrote during the
        outage stays.
        """
        rules = self._rules
        with rules.lock:
            for key in keys:
                entry = rules.l1.look(key)
                if entry is not None and not entry[WRITE_ID]:
                    rules.l1.pop(key)
                rules.bump(key)

    def may_serve(self, now: float) -> bool:
        """Return whether L1 may answer a read that L2 has just failed to answer."""
        if not self._rules.enabled or self._rules.resting:
            return False
        until = self.until if self.is_active else self._past_trust_until()
        return now < until

    def takes_entries(self) -> bool:
        """Return whether L1 takes what only this process knows; under the lock."""
        return self.is_active and self._rules.enabled and not self._rules.resting

    def note_stored(self, key: str) -> None:
        """Remember what L1 takes during the outage; under the lock."""
        if len(self._keys) < MAX_OUTAGE_KEYS:
            self._keys.add(key)

    def _past_trust_until(self) -> float:
        if self.ttl_s <= 0:
            return NEVER
        return min(self._rules.vouched_until, self._rules.clock()) + self.ttl_s
