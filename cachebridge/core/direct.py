"""Fills and writes of keys that never enter L1: the same shape, no rule to keep.

Their writes publish nothing, because no process holds a copy that could be stale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from cachebridge.core.fill import differs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cachebridge.core.entry import Entry


class Direct:
    """Stands in for both ``Fill`` and ``Write``."""

    sent_at = 0.0

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys = list(keys)

    def __enter__(self) -> Self:
        return self

    def store(
        self, key: str, entry: Entry, same: Callable[[Entry], bool] = differs
    ) -> None:
        """Store nothing."""

    def keep_for_outage(
        self, key: str, entry: Entry, same: Callable[[Entry], bool] = differs
    ) -> None:
        """Keep nothing."""

    def withdraw(self) -> None:
        """Nothing was offered."""

    def generation_of(self, _key: str) -> int:
        """Nothing is known to happen to a key."""
        return 0

    def refuse(self, key: str) -> None:
        """Note nothing."""

    def __exit__(self, *_exc: object) -> None:
        pass
