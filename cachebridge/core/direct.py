"""Fills and writes of keys that never enter L1: the same shape, hardly a rule to keep.

Their writes publish nothing, because no process holds a copy that could be stale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from cachebridge.core.fill import differs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cachebridge.core.coherence import Coherence
    from cachebridge.core.entry import Entry


class Direct:
    """Stands in for both ``Fill`` and ``Write``."""

    sent_at = 0.0

    def __init__(self, rules: Coherence, keys: Iterable[str]) -> None:
        self._rules = rules
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

    def withdraw(self, _keys: Iterable[str] | None = None) -> None:
        """Nothing was offered."""

    def forgo_outage(self) -> None:
        """Nothing would be left anyway."""

    def refuse(self, key: str) -> None:
        """Note nothing."""

    def __exit__(self, *_exc: object) -> None:
        pass


class DirectWrite(Direct):
    """A write of such keys: whoever is loading one has to know (``core/watch.py``)."""

    def __enter__(self) -> Self:
        self._disturb()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._disturb()

    def _disturb(self) -> None:
        with self._rules.lock:
            self._rules.bump_all(self.keys)
