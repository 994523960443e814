"""The counters of the last ten minutes: a page that is opened now has a curve.

No thread of its own: the listener and the janitor come by, and a look at the clock is
all that they do between two points.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

from cachebridge.stats import READS

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.core.coherence import Coherence
    from cachebridge.l1.store import L1Store
    from cachebridge.stats import Counters

EVERY_S: Final = 10.0
KEPT: Final = 60
"""Points that are remembered: ten minutes."""
COUNTED: Final = (
    *READS,
    "loads",
    "load_errors",
    "lease_waits",
    "evictions",
    "flushes",
    "fills_refused",
    "messages_received",
    "degraded",
)
"""Counters whose growth a point has; of those by cause the sum."""
COLUMNS: Final = ("at", "seconds", *COUNTED, "l1_entries", "trusted")


class HistoryHost(Protocol):
    """What this needs of the engine."""

    clock: Callable[[], float]
    counters: Counters
    l1: L1Store
    rules: Coherence


class History:
    """The points of one engine.  Thread safe."""

    def __init__(self, host: HistoryHost) -> None:
        self._host = host
        self.reset()

    def reset(self) -> None:
        """Begin anew, as in the child of a fork."""
        self._lock = threading.Lock()
        self._points: deque[tuple[float, ...]] = deque(maxlen=KEPT)
        self._began_at = self._host.clock()
        self._before = self._sums()

    def _sums(self) -> list[int]:
        total = self._host.counters.total()
        found = [getattr(total, name) for name in COUNTED]
        return [
            sum(each.values()) if isinstance(each, dict) else each for each in found
        ]

    def beat(self) -> None:
        """Add a point if ten seconds have passed.  Called by any thread, often."""
        host = self._host
        now = host.clock()
        if now - self._began_at < EVERY_S or not self._lock.acquire(blocking=False):
            return
        try:
            lasted_s, self._began_at = now - self._began_at, now
            if lasted_s < EVERY_S:
                return  # another thread was here
            sums = self._sums()
            grown = [max(0, a - b) for a, b in zip(sums, self._before, strict=True)]
            self._before = sums
            state = len(host.l1), int(host.rules.is_on(now))
            at = round(time.time(), 1)
            self._points.append((at, round(lasted_s, 1), *grown, *state))
        finally:
            self._lock.release()

    def columns(self) -> dict[str, Any]:
        """Return each of ``COLUMNS`` as a list with a number for each point.

        ``at`` is the end of a point as Unix time, ``seconds`` its length: ten or a
        little more, and much more if the process stood still.  Counters are what they
        have grown by; ``l1_entries`` and ``trusted`` (1 or 0) what was at the end.
        """
        self.beat()
        points = [*self._points]
        return {
            "every_s": EVERY_S,
            **{name: [each[n] for each in points] for n, name in enumerate(COLUMNS)},
        }
