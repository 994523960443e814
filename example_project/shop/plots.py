"""What ``/stats/`` draws: the figures of this worker, and a bar for each worker.

A worker leaves a line about itself in the cache whenever it shows the page, so that
each can show those of all that were met lately.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.cache import cache, caches

from example_project.shop.statistics import lookups

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Bar", "Tile", "delays", "tiles", "workers"]

_WORKERS = "stats:workers"
_REMEMBERED_S = 300
_MOST_WORKERS = 16
_KIB = 1024
_MIB = 1024 * _KIB


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure that one sees first, and a few words below it."""

    name: str
    value: str
    words: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a plot: ``percent`` of the longest."""

    name: str
    value: str
    percent: float
    is_mine: bool = False


def tiles() -> list[Tile]:
    """Return the figures of this worker, as many as its backend tells."""
    counts, found = lookups(), []
    stats = getattr(caches["default"], "stats", None)
    if counts and stats:
        now = stats()
        total = counts.l1 + counts.l2 + counts.computed
        share = f"{counts.l1 / total:.1%}" if total else "-"
        found += [
            Tile("answered by L1", share, f"of {total:,} look-ups"),
            Tile("entries of L1", f"{now.l1_entries:,}", f"{now.evictions:,} evicted"),
            Tile("memory of L1", _size(now.l1_bytes), "estimated"),
        ]
        delay = now.invalidation_delay
        if delay.count:
            mean_ms = 1000 * delay.sum_s / delay.count
            words = f"mean of {delay.count:,} messages"
            found.append(Tile("a change arrives after", f"{mean_ms:.2f} ms", words))
    return [*found, Tile("memory of the process", _size(_resident()), "resident")]


def delays() -> list[Bar]:
    """Return how many messages arrived within which time; empty without any."""
    stats = getattr(caches["default"], "stats", None)
    histogram = stats().invalidation_delay if stats else None
    if histogram is None or not histogram.count:
        return []
    names = [f"<= {1000 * bound:g} ms" for bound in histogram.bounds_s] + ["later"]
    counted = list(zip(names, histogram.counts, strict=True))
    while not counted[-1][1]:
        counted.pop()
    return _bars([(name, count, f"{count:,}") for name, count in counted])


def workers() -> list[Bar]:
    """Return the memory of each worker that has shown the page lately."""
    pid = os.getpid()
    cache.set(f"stats:{pid}", {"pid": pid, "resident": _resident()}, _REMEMBERED_S)
    known = cache.get(_WORKERS, ())
    if pid not in known:
        known = (*known, pid)[-_MOST_WORKERS:]
        cache.set(_WORKERS, known, _REMEMBERED_S)
    lines: dict[str, Any] = cache.get_many([f"stats:{each}" for each in known])
    found = sorted(lines.values(), key=lambda line: line["pid"])
    rows = [(f"worker {x['pid']}", x["resident"], _size(x["resident"])) for x in found]
    return _bars(rows, mine=f"worker {pid}")


def _bars(rows: Sequence[tuple[str, int, str]], mine: str = "") -> list[Bar]:
    most = max((number for _, number, _ in rows), default=0) or 1
    return [
        Bar(name, value, 100 * number / most, is_mine=name == mine)
        for name, number, value in rows
    ]


def _resident() -> int:
    """Return the bytes of memory that this process holds; 0 where nothing tells."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _size(size: int) -> str:
    if size < _MIB:
        return f"{size / _KIB:.0f} KiB" if size else "-"
    return f"{size / _MIB:.1f} MiB"
