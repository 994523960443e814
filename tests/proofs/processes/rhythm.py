"""When all processes rest from writing cold keys, and for how long each reads the same.

All follow one clock, so that a process which missed a message of the busy time is left
alone with what it holds: later messages do not heal it, and it reads other keys first.
"""

from __future__ import annotations

import time
from typing import Final

SLICE_S: Final = 0.8
"""For so long a process reads the same few keys."""
SLICES: Final = 4
BUSY_SLICES: Final = 2


class Rhythm:
    """The phases of a run that began at ``started``."""

    def __init__(self, started: float) -> None:
        self._started = started

    def slice(self) -> int:
        """Return the number of the present slice."""
        return int((time.monotonic() - self._started) / SLICE_S)

    def is_resting(self) -> bool:
        """Return whether cold keys are left alone now."""
        return self.slice() % SLICES >= BUSY_SLICES

    def until_rest_s(self) -> float:
        """Return the seconds until the next rest begins."""
        into_period_s = (time.monotonic() - self._started) % (SLICES * SLICE_S)
        return (BUSY_SLICES * SLICE_S - into_period_s) % (SLICES * SLICE_S)
