"""Fills and writes of keys that never enter L1: the same shape, no rule to keep.

Their writes publish nothing, because no process holds a copy that could be stale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cachebridge.core.fill import differs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cachebridge.core.entry import Entry


class Direct:
    """Stands in for both ``Fill`` and ``Write``."""

    published = False
    id = 0
    origin = b""
    sent_at = 0.0

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = keys

    def __enter__(self) -> Direct:
        return self

    def store(
        self, key: str, entry: Entry, same: Callable[[Entry], bool] = differs
    ) -> None:
        """Store nothing."""

    def refuse(self, key: str) -> None:
        """Note nothing."""

    def __exit__(self, *_exc: object) -> None:
        pass
