"""What every adapter offers besides reading and writing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cachebridge.engine.report import health_of, stats_of

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from cachebridge.engine.binding import Binding
    from cachebridge.stats import Health, Stats


class Operated:
    """Base of the adapters: the engine's state, and its switches."""

    _binding: Binding

    def bypass_l1(self) -> AbstractContextManager[None]:
        """Let reads of this thread or task go to L2 while the context is open."""
        return self._binding.engine.bypass_l1()

    def l1_off(self) -> None:
        """Switch L1 off in every process on this server, now and after restarts."""
        self._binding.engine.switch_l1(on=False)

    def l1_on(self) -> None:
        """Undo ``l1_off``."""
        self._binding.engine.switch_l1(on=True)

    def stats(self) -> Stats:
        """Return a snapshot of the engine's counters in this process."""
        return stats_of(self._binding.engine)

    def health(self) -> Health:
        """Ask the shared store now and report the state of both levels."""
        return health_of(self._binding.engine)
