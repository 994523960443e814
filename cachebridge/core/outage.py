"""The rules of an outage: what L1 may serve, take and keep while L2 is away.

The part of ``core/coherence.py`` that has nothing to do while L2 answers; the reasons
stand in ``docs/decisions/0008-outage.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from cachebridge.core.entry import WRITE_ID

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from cachebridge.core.l1 import L1

SLICE: Final = 4096
NEVER: Final = 0.0
FOREVER: Final = float("inf")
OUTAGE_KEYS: Final = 65_536
"""As many keys are remembered of an outage; if there are more, its end is a flush."""


class Doubts(Protocol):
    """Which keys L2 has old values of, that nobody may take for new."""

    def __bool__(self) -> bool:
        """Tell whether there is any such key."""

    def concern(self, keys: Iterable[str]) -> bool:
        """Tell whether one of the keys is one of them."""


class NoDoubts:
    """L2 is right about everything."""

    def __bool__(self) -> bool:
        return False

    def concern(self, _keys: Iterable[str]) -> bool:
        """Tell that no key is concerned."""
        return False


class OutageRules:
    """Base of ``Coherence``, whose state and single rules it works with."""

    l1: L1
    lock: threading.Lock
    clock: Callable[[], float]
    enabled: bool
    outage_ttl_s: float
    doubts: Doubts
    in_outage: bool
    _outage_keys: set[str]
    _outage_until: float
    _vouched_until: float
    _resting: int

    if TYPE_CHECKING:

        def flush(self, cause: str) -> None:
            """See ``Coherence``."""

        def drop(self, key: str) -> None:
            """See ``Coherence``."""

        def bump(self, key: str) -> None:
            """See ``Coherence``."""

        def _at_rest(self) -> AbstractContextManager[None]: ...

        def _update_gate(self) -> None: ...

    def begin_outage(self) -> None:
        """L2 is away: what L1 was vouched for may serve for ``outage_ttl_s`` more."""
        with self.lock:
            self.in_outage = self.outage_ttl_s > 0
            self._outage_until = self._past_trust_until()
            self._update_gate()
        self.prolong_outage()

    def end_outage(self) -> None:
        """L2 is about to answer: nothing may remain that it does not vouch for.

        What the bus vouches for may: entries of before the outage are trusted, or rest.
        """
        if not self.in_outage:
            return
        with self._at_rest():
            with self.lock:
                self.in_outage = False
                self._outage_until = NEVER
                keys = list(self._outage_keys)
                self._outage_keys.clear()
            if len(keys) >= OUTAGE_KEYS:
                self.flush("outage")
            for start in range(0, len(keys), SLICE):
                with self.lock:
                    for key in keys[start : start + SLICE]:
                        self.drop(key)

    def prolong_outage(self) -> None:
        """When the entries of before are too old, go on with those made since."""
        if not self.in_outage or self.clock() < self._outage_until:
            return
        with self._at_rest():
            with self.lock:
                over, self._outage_until = self._outage_until, FOREVER
            if over != FOREVER:  # nobody else was quicker
                self.flush("outage")

    def distrust(self, keys: Iterable[str]) -> None:
        """L2 has old values of these keys: nothing read from it may stay or come in.

        What this process wrote itself during the outage may.
        """
        with self.lock:
            for key in keys:
                entry = self.l1.peek(key)
                if entry is not None and not entry[WRITE_ID]:
                    self.l1.pop(key)
                self.bump(key)

    def may_serve_past_trust(self, now: float) -> bool:
        """Tell whether L1 may answer a read that L2 has just failed to answer."""
        if not self.enabled or self._resting:
            return False
        until = self._outage_until if self.in_outage else self._past_trust_until()
        return now < until

    def takes_outage_entry(self) -> bool:
        """Tell whether L1 takes what only this process knows; under the lock."""
        return self.in_outage and self.enabled and not self._resting

    def _past_trust_until(self) -> float:
        if self.outage_ttl_s <= 0:
            return NEVER
        return min(self._vouched_until, self.clock()) + self.outage_ttl_s
