"""Notices that L1 is smaller than what its process works with."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from cachebridge.events import event

if TYPE_CHECKING:
    from cachebridge.l1.store import L1Store
    from cachebridge.stats import Counters

_log = logging.getLogger("cachebridge.l1")

WINDOW_S: Final = 60.0
"""Seconds in which evictions are counted."""
SHARE: Final = 4
"""L1 is too small if a fourth of its entries leave in this time although hit."""
LEAST: Final = 100


class Pressure:
    """Warns once.  For one thread at a time."""

    def __init__(self, l1: L1Store, counters: Counters, label: str) -> None:
        self._l1 = l1
        self._counters = counters
        self._label = label
        self._began_at: float | None = None
        self._before = 0
        self._is_warned = False

    def observe(self, now: float) -> None:
        """Compare the counters with those at the beginning of the last window."""
        if self._began_at is not None and now - self._began_at < WINDOW_S:
            return
        evicted = self._counters.evicted_hit - self._before
        is_first = self._began_at is None
        self._began_at, self._before = now, self._counters.evicted_hit
        if self._is_warned or is_first or evicted < LEAST:
            return
        if evicted * SHARE >= len(self._l1):
            self._is_warned = True
            _log.warning(
                "L1 of %s is smaller than what this process works with: in a minute "
                "%d entries were evicted that had been hit, and it holds %d "
                "(%d bytes). Raise L1_MAX_ENTRIES or L1_MAX_BYTES.",
                self._label,
                evicted,
                len(self._l1),
                self._l1.bytes,
                extra=event("l1.too_small", location=self._label),
            )
