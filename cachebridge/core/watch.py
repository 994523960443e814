"""Whether anything happens to a key while its value is being loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cachebridge.waiting.guard import Guard

if TYPE_CHECKING:
    from cachebridge.core.coherence import Coherence
    from cachebridge.core.fence import KeyActivity


class Watch(Guard):
    """Tells whether a key was written or invalidated here since the watch began.

    Where L2 answers, it voids such loads itself (``core/lease.py``); this is for the
    time when it does not.  A guard: ``with watch, watch``; begin inside, at most once.
    """

    __slots__ = ("_activity", "_epoch", "_generation", "_key", "_rules")

    def __init__(self, rules: Coherence, key: str) -> None:
        super().__init__()
        self._rules = rules
        self._key = key
        self._activity: KeyActivity | None = None
        self._generation = self._epoch = 0

    def begin(self) -> None:
        """Watch from now on."""
        rules = self._rules
        with rules.lock:
            activity = self._activity = rules.join((self._key,), self)[0]
            self._generation = activity.generation
            self._epoch = rules.epoch

    def is_undisturbed(
        self, *, own_writes: int = 0, unless_begun: bool = False
    ) -> bool:
        """Return whether only ``own_writes`` writes of the caller touched the key.

        ``unless_begun`` is the answer where nothing was watched.
        """
        rules, activity = self._rules, self._activity
        if activity is None:
            return unless_begun
        with rules.lock:
            return (
                activity.generation == self._generation + own_writes
                and len(activity.writes) <= own_writes
                and rules.epoch == self._epoch
            )

    def _give_back(self, _error: BaseException | None) -> None:
        self._activity = None
        with self._rules.lock:
            self._rules.leave((self._key,), self)
