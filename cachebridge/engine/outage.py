"""An outage of L2 as the engine sees it: when it begins and ends, counted and logged.

What callers get meanwhile stands in ``engine/guarded.py``.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from cachebridge.engine.debts import Debts, alone
from cachebridge.errors import L2UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.core.coherence import Coherence
    from cachebridge.engine.debts import Spill, Split
    from cachebridge.errors import L2Error
    from cachebridge.stats import Counters

RECENT_S: Final = 60.0
"""For so many seconds a refusal counts as the state of things."""

_log = logging.getLogger("cachebridge.engine")


class Outage:
    """Watches the breaker of one engine, and keeps what is owed to L2."""

    def __init__(
        self,
        rules: Coherence,
        counters: Counters,
        *,
        clock: Callable[[], float],
        label: str,
        split: Split = alone,
        spill: Spill = lambda _keys, _pattern: False,
    ) -> None:
        self._rules = rules
        self._counters = counters
        self._clock = clock
        self._label = label
        self._make_debts = partial(Debts, split=split, spill=spill)
        self.debts = rules.doubts = self._make_debts()
        self.began_at: float | None = None
        """When the breaker opened; None while it is closed."""
        self.refusals: dict[str, tuple[str, float]] = {}
        """What L2 refuses although it is there, by kind, and when it last did so."""

    def reset(self) -> None:
        """Begin anew in the child of a fork: the parent pays its own debts."""
        self.debts = self._rules.doubts = self._make_debts()
        self.began_at = None
        self.refusals = {}

    # -- what the breaker reports ------------------------------------------------------

    def on_open(self, reason: str) -> Callable[[], None]:
        """L2 is away."""
        self.began_at = self._clock()
        self._counters.outages += 1
        self._rules.begin_outage()
        text = "the shared store is away, answers are degraded: %s"
        return partial(_log.warning, text, reason)

    def on_close(self) -> Callable[[], None]:
        """L2 is back: before its answer is used, what it does not know must go."""
        self._rules.end_outage()
        lasted_s = self._clock() - (self.began_at or self._clock())
        self.began_at = None
        text = "the shared store is back after %.1f s: %s (%d deletes to catch up on)"
        return partial(_log.warning, text, lasted_s, self._label, len(self.debts))

    # -- what operations report ----------------------------------------------------

    def note(self, exc: L2Error, kind: str) -> None:
        """Count one degraded answer; log a refusal once until it is over."""
        self._counters.degraded += 1
        self._rules.prolong_outage()
        if isinstance(exc, L2UnavailableError):
            return  # the breaker tells of it
        reason = str(exc.__cause__ or exc)
        known, _ = self.refusals.get(kind, ("", 0.0))
        self.refusals[kind] = (reason, self._clock())
        if known != reason:
            _log.warning("the shared store refuses to %s: %s", kind, exc)

    def recent_refusals(self) -> tuple[str, ...]:
        """Return the kinds of operations that were refused of late, and why."""
        since = self._clock() - RECENT_S
        return tuple(
            f"{kind}: {reason}"
            for kind, (reason, at) in self.refusals.copy().items()
            if at >= since
        )

    def accepted(self, kind: str) -> None:
        """An operation of this kind has succeeded."""
        if self.refusals.pop(kind, None) is not None:
            _log.warning("the shared store accepts to %s again", kind)
