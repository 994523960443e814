"""A clock for caches in memory that a test moves."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from cachebridge.engine import registry
from cachebridge.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterator


ENGINE: Final = "Engine"
"""What the registry makes engines with."""


class CacheClock(FakeClock):
    """Stands still; ``advance`` moves the TTLs of caches made on ``memory://``."""

    def __init__(self) -> None:
        super().__init__()
        self.users = 0
        """How many stores in memory follow this clock."""

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass.

        Raises ValueError for a negative number, RuntimeError if no cache follows.
        """
        if seconds < 0:
            raise ValueError(f"time goes forward: not by {seconds!r} seconds")
        if not self.users:
            raise RuntimeError(
                "no cache follows this clock: it moves those on memory:// that are "
                "made after the fixture. Isolate by memory, or use "
                "cachebridge_location or cachebridge_fleet."
            )
        super().advance(seconds)


@contextmanager
def moved_by_hand() -> Iterator[CacheClock]:
    """Let engines over ``memory://`` that are made meanwhile follow a new clock."""
    clock, make = CacheClock(), getattr(registry, ENGINE)

    def engine(location: Any, options: Any, **more: Any) -> Any:
        if location.scheme != "memory":
            return make(location, options, **more)
        clock.users += 1
        return make(location, options, clock=clock, **more)

    with patch.object(registry, ENGINE, engine):
        yield clock
