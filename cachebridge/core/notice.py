"""Log lines for what may happen a thousand times a second: one line per change."""

from __future__ import annotations

from typing import Final

QUIET_S: Final = 60.0
"""What has not happened for so many seconds is over."""
MOST: Final = 8
"""So many things are told apart: texts that peers and servers choose have no end."""


class Notice:
    """Things that are worth a log line when they begin.  Thread safe.

    Each time one happens, ask ``begins``: of one that goes on the log tells once.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def begins(self, now: float, what: str = "") -> bool:
        """Return whether ``what`` has not happened for ``QUIET_S``; ``now`` in s."""
        known = self._until.get(what)
        if known is None and len(self._until) >= MOST:
            self._until = {
                each: until for each, until in self._until.items() if until > now
            }
            if len(self._until) >= MOST:
                return False
        self._until[what] = now + QUIET_S
        return known is None or now >= known
