"""Whether anything happens to a key while its value is being loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cachebridge.core.coherence import Coherence, Flight


class Watch:
    """Tells whether a key was written or invalidated here since the watch began.

    Where L2 answers, it voids such loads itself (``core/lease.py``); this is for the
    time when it does not.  Begin it at most once, and end it in any case.
    """

    __slots__ = ("_epoch", "_flight", "_generation", "_key", "_rules")

    def __init__(self, rules: Coherence, key: str) -> None:
        self._rules = rules
        self._key = key
        self._flight: Flight | None = None
        self._generation = self._epoch = 0

    def begin(self) -> None:
        """Watch from now on."""
        rules = self._rules
        with rules.lock:
            flight = self._flight = rules.join(self._key)
            self._generation = flight.generation
            self._epoch = rules.epoch

    def is_undisturbed(self, *, own_writes: int = 0) -> bool:
        """Tell whether nothing has happened but so many writes of the asker."""
        rules, flight = self._rules, self._flight
        with rules.lock:
            return (
                flight is not None
                and flight.generation == self._generation + own_writes
                and len(flight.writes) <= own_writes
                and rules.epoch == self._epoch
            )

    def end(self) -> None:
        """Watch no more."""
        rules, flight = self._rules, self._flight
        if flight is not None:
            self._flight = None
            with rules.lock:
                rules.leave(self._key, flight)
