"""Fills and writes of keys that never enter L1: the same shape, with few rules.

Their writes publish nothing, because no process holds a copy that could be stale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from cachebridge.waiting.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cachebridge.core.coherence import Coherence
    from cachebridge.core.dropping.tags import Tagging


class Direct:
    """Stands in for both ``Fill`` and ``Write``."""

    sent_at = 0.0
    tagging: Tagging | None = None

    def __init__(self, rules: Coherence, keys: Iterable[str]) -> None:
        self._rules = rules
        self.keys = list(keys)

    def __enter__(self) -> Self:
        return self

    def _do_nothing(self, *_args: object) -> None:
        """Do nothing: there is no entry to store, keep, offer or drop."""

    store = keep_for_outage = refuse = tag = offer = _do_nothing
    unstage = discard_on_outage = _do_nothing

    def take_shared(self, _key: str) -> None:
        """Return None: nothing is shared of these keys, either."""

    def __exit__(self, _kind: object, error: BaseException | None, _tb: object) -> None:
        """Do nothing, as above."""


class DirectWrite(Guard, Direct):
    """A write of such keys: a load of one has to know of it (``core/watch.py``)."""

    def __init__(self, rules: Coherence, keys: Iterable[str]) -> None:
        Guard.__init__(self)
        Direct.__init__(self, rules, keys)

    def _take(self) -> None:
        self._disturb()

    def _give_back(self, _error: BaseException | None) -> None:
        self._disturb()

    def _disturb(self) -> None:
        with self._rules.lock:
            self._rules.bump_all(self.keys)
