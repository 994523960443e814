"""An outage of L2 as the engine sees it: when it begins and ends, counted and logged.

What callers get meanwhile stands in ``engine/outage/fallbacks.py``.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from cachebridge.core.dropping.tags import stamps_among
from cachebridge.core.notice import Notice
from cachebridge.engine.outage.pending_deletes import (
    DOUBT_S,
    PendingDeletes,
    one_server,
)
from cachebridge.errors import L2UnavailableError
from cachebridge.events import event

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from cachebridge.core.coherence import Coherence
    from cachebridge.core.keys import KeyPattern
    from cachebridge.engine.outage.pending_deletes import Escalate, Split
    from cachebridge.errors import L2Error
    from cachebridge.stats import Counters

RECENT_S: Final = 60.0
"""For so many seconds a refusal counts as the state of things."""

_log = logging.getLogger("cachebridge.engine")


class Outage:
    """Watches the breaker of one engine, and keeps its pending deletes."""

    def __init__(
        self,
        rules: Coherence,
        counters: Counters,
        *,
        clock: Callable[[], float],
        label: str,
        split: Split = one_server,
        escalate: Escalate = lambda _keys, _pattern: False,
        patience_s: float = DOUBT_S,
    ) -> None:
        self._rules = rules
        self._counters = counters
        self._clock = clock
        self._label = label
        self._make_pending = partial(
            PendingDeletes, split=split, escalate=escalate, patience_s=patience_s
        )
        self.pending_deletes = rules.outage.pending_deletes = self._make_pending()
        self.began_at: float | None = None
        """When the first call failed; None while the breaker is closed."""
        self.refusals: dict[str, tuple[str, float]] = {}
        """What L2 refuses although it is there, by kind, and when it last did so."""
        self._refused = Notice()
        self._told: set[str] = set()
        """The kinds of which the log says that they are refused."""

    def reset(self) -> None:
        """Begin anew in the child of a fork: the parent replays its own deletes."""
        self.pending_deletes = self._rules.outage.pending_deletes = self._make_pending()
        self.began_at = None
        self.refusals = {}

    # -- what the breaker reports ------------------------------------------------------

    def on_open(self, reason: str, since: float) -> Callable[[], None]:
        """L2 is away."""
        self.began_at = since
        self._counters.outages += 1
        self._rules.outage.begin()
        text = "the shared store is away, answers are degraded: %s"
        told = event("outage.begins", location=self._label)
        return partial(_log.warning, text, reason, extra=told)

    def on_close(self) -> Callable[[], None]:
        """L2 is back: before its answer is used, what it does not know must go."""
        self._rules.outage.end()
        now = self._clock()
        lasted_s = 0.0 if self.began_at is None else now - self.began_at
        self.began_at = None
        text = "the shared store is back after %.1f s: %s (%d deletes to catch up on)"
        owed = len(self.pending_deletes)
        told = event(
            "outage.ends", location=self._label, lasted_s=lasted_s, deletes_owed=owed
        )
        return partial(_log.warning, text, lasted_s, self._label, owed, extra=told)

    # -- what operations report ----------------------------------------------------

    def delete_later(
        self, keys: Iterable[str], pattern: KeyPattern | None, began_at: float
    ) -> None:
        """Delete the keys once L2 is back; no caller takes their old values for new.

        ``pattern`` matches all keys of their cache; ``began_at`` is when the change
        began that has failed, by the engine's clock.
        """
        self.pending_deletes.add(keys, pattern, began_at)
        self._rules.outage.distrust(keys)
        if stamps := stamps_among(keys):
            # Until the line before, a read may have found the old stamp in L2.
            self._rules.on_stamps(stamps)

    def lose(
        self, keys: Collection[str], pattern: KeyPattern | None, began_at: float
    ) -> None:
        """Count values that were queued as lost, and delete the old ones later."""
        if keys:
            self._counters.writes_lost += len(keys)
            self.delete_later(keys, pattern, began_at)

    def note(self, exc: L2Error, kind: str) -> None:
        """Count one degraded answer; log a refusal once until it is over."""
        self._counters.degraded += 1
        self._rules.outage.prolong()
        if isinstance(exc, L2UnavailableError):
            return  # the breaker tells of it
        reason = str(exc.__cause__ or exc)
        known, _ = self.refusals.get(kind, ("", 0.0))
        self.refusals[kind] = (reason, self._clock())
        begins = self._refused.begins(self._clock(), f"{kind}: {reason:.80}")
        if known != reason and begins:
            self._told.add(kind)
            told = event("store.refuses", location=self._label, kind=kind)
            _log.warning("the shared store refuses to %s: %s", kind, exc, extra=told)

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
        self.refusals.pop(kind, None)
        if kind in self._told:
            self._told.discard(kind)
            told = event("store.accepts", location=self._label, kind=kind)
            _log.warning("the shared store accepts to %s again", kind, extra=told)
