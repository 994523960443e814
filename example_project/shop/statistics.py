"""What the cache of this worker reports about itself, with any backend.

A backend that offers ``stats()`` and ``health()`` as dataclasses, as cachebridge does,
is shown in full; any other one answers None everywhere here.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any, Self

from django.core.cache import caches

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Lookups", "Share", "lookups", "report", "rows", "shares"]


@dataclass(frozen=True, slots=True)
class Lookups:
    """How many look-ups each level answered; ``computed`` means none of them did."""

    l1: int
    l2: int
    computed: int

    def __sub__(self, earlier: Self) -> Lookups:
        return Lookups(
            self.l1 - earlier.l1,
            self.l2 - earlier.l2,
            self.computed - earlier.computed,
        )

    def __str__(self) -> str:
        return f"L1 {self.l1}, L2 {self.l2}, computed {self.computed}"

    @property
    def level(self) -> str:
        """The slowest level that had to be asked."""
        if self.computed:
            return "computed"
        if self.l2:
            return "L2"
        return "L1" if self.l1 else "none"


def lookups() -> Lookups | None:
    """Return the counts of this worker up to now."""
    stats = getattr(caches["default"], "stats", None)
    if stats is None:
        return None
    now = stats()
    return Lookups(now.l1_hits, now.l2_hits, now.misses)


@dataclass(frozen=True, slots=True)
class Share:
    """The part of all look-ups that one level answered."""

    name: str
    count: int
    percent: float


def shares() -> list[Share]:
    """Return each level's share of answers; empty if nothing is known."""
    counts = lookups()
    total = counts and counts.l1 + counts.l2 + counts.computed
    if not counts or not total:
        return []
    named = (("L1", counts.l1), ("L2", counts.l2), ("computed", counts.computed))
    return [Share(name, count, 100 * count / total) for name, count in named]


def rows(answer: dict[str, Any] | None) -> Iterator[tuple[str, object]]:
    """List the fields for a table, those of nested dataclasses as ``outer.inner``."""
    for name, value in (answer or {}).items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", held) for inner, held in rows(value))
        elif isinstance(value, tuple):
            yield name, ", ".join(map(str, value))
        elif isinstance(value, float):
            yield name, f"{value:.6g}"
        else:
            yield name, value


def report() -> dict[str, Any]:
    """Return all about this worker and its cache, ready for JSON."""
    backend = type(caches["default"])
    return {
        "pid": os.getpid(),
        "backend": f"{backend.__module__}.{backend.__qualname__}",
        "cpu_s": time.process_time(),
        "stats": _ask("stats"),
        "health": _ask("health"),
    }


def _ask(name: str) -> dict[str, Any] | None:
    method = getattr(caches["default"], name, None)
    answer = method() if callable(method) else None
    return asdict(answer) if is_dataclass(answer) else None
