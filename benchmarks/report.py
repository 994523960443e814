"""Rows of figures with their targets, and the three ways to print them."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass, field, replace
from importlib import metadata
from statistics import median
from typing import TYPE_CHECKING, Literal

import redis

from benchmarks import machine
from benchmarks.contenders import BUILTIN, DJANGO_REDIS, LOCMEM, OURS
from benchmarks.harness import Ratio, paired

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cachebridge.stats import Stats

__all__ = [
    "Limit",
    "Row",
    "Verdict",
    "environment",
    "judge_hits",
    "markdown",
    "text",
    "write_json",
]

Unit = Literal["s", "per s", "B"]

_OUTCOMES = {True: "ok", False: "MISSED", None: "n/a"}
BUSY = "no verdict: the machine was busy with other work"
_COLUMNS = (LOCMEM, BUILTIN, DJANGO_REDIS, OURS)
_PACKAGES = (
    "Django",
    "asgiref",
    "redis",
    "hiredis",
    "pymemcache",
    "django-redis",
    "cachetools",
    "cachebox",
    "Flask-Caching",
    "dogpile.cache",
    "gunicorn",
    "Flask",
    "Flask-Caching",
    "cachelib",
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was promised, what was reached. `ok` is None where nothing was promised."""

    promise: str
    reached: str
    ok: bool | None
    ratio: Ratio | None = None

    is_refused: bool = False
    """Whether nothing was judged, since the machine had other work to do."""

    @property
    def outcome(self) -> str:
        """Whether the target was reached, in a word."""
        return BUSY if self.is_refused else _OUTCOMES[self.ok]

    def __str__(self) -> str:
        return f"target {self.promise}, reached {self.reached}: {self.outcome}"


@dataclass(frozen=True, slots=True)
class Limit:
    """A target: how a paired ratio of two contenders must stand to a bound."""

    of: str
    to: str
    bound: float
    kind: Literal["at least", "at most"]
    words: str

    def judge(self, figures: dict[str, list[float]]) -> Verdict:
        """Return the verdict on `figures`; n/a where a contender is missing."""
        missing = [label for label in (self.of, self.to) if not figures.get(label)]
        if missing:
            return Verdict(self.words, f"nothing ({', '.join(missing)} absent)", None)
        ratio = paired(figures[self.of], figures[self.to])
        good = (
            ratio.median >= self.bound
            if self.kind == "at least"
            else ratio.median <= self.bound
        )
        return Verdict(self.words, str(ratio), good, ratio)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: a figure per contender and round, and the verdicts."""

    name: str
    title: str
    unit: Unit
    figures: dict[str, list[float]]
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def unjudged(self) -> Row:
        """Return the row without verdicts: the machine had other work to do."""
        verdicts = [replace(each, ok=None, is_refused=True) for each in self.verdicts]
        return replace(self, verdicts=verdicts)

    @property
    def missed(self) -> bool:
        """Whether any target of the row was missed."""
        return any(verdict.ok is False for verdict in self.verdicts)

    @property
    def is_refused(self) -> bool:
        """Whether targets of the row could not be judged."""
        return any(verdict.is_refused for verdict in self.verdicts)


def judge_hits(before: Stats, after: Stats) -> Verdict:
    """Return whether the reads between two snapshots were hits in L1."""
    hits = after.l1_hits - before.l1_hits
    others = after.l2_hits - before.l2_hits + after.misses - before.misses
    share = hits / (hits + others) if hits + others else 0.0
    return Verdict("all hits in L1", f"{share:.3%} of {hits + others:,}", share > 0.999)


def text(row: Row) -> str:
    """Return the row for a terminal."""
    lines = [f"{row.name:<4} {row.title}"]
    lines += [
        f"       {label:<22} {_figure(samples, row.unit):>12}"
        for label, samples in row.figures.items()
    ]
    lines += [f"     {verdict}" for verdict in row.verdicts]
    lines += [f"     {note}" for note in row.notes]
    return "\n".join(lines)


def markdown(rows: Iterable[Row], measured_on: dict[str, str]) -> str:
    """Return the rows as one Markdown table, and below it what it was measured on."""
    lines = [
        f"| row | what | {' | '.join(_COLUMNS)} | others | target | reached |",
        "|---|---|" + "---|" * len(_COLUMNS) + "---|---|---|",
    ]
    for row in rows:
        figures = {
            label: _figure(samples, row.unit) for label, samples in row.figures.items()
        }
        cells = [
            row.name,
            row.title,
            *(figures.get(label, "") for label in _COLUMNS),
            "<br>".join(
                f"{label}: {figure}"
                for label, figure in figures.items()
                if label not in _COLUMNS
            ),
            "<br>".join(verdict.promise for verdict in row.verdicts),
            "<br>".join(
                f"{verdict.reached} **{verdict.outcome}**" for verdict in row.verdicts
            ),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    versions = ", ".join(f"{name} {value}" for name, value in measured_on.items())
    return "\n".join([*lines, "", f"Measured on: {versions}."])


def write_json(rows: Iterable[Row], measured_on: dict[str, str], path: Path) -> None:
    """Write all figures and verdicts to `path`."""
    content = {
        "measured_on": measured_on,
        "rows": [
            {
                "name": row.name,
                "title": row.title,
                "unit": row.unit,
                "figures": row.figures,
                "targets": [
                    {
                        "promise": verdict.promise,
                        "reached": verdict.reached,
                        "ok": verdict.ok,
                        "refused": verdict.is_refused,
                        "median": verdict.ratio and verdict.ratio.median,
                        "low": verdict.ratio and verdict.ratio.low,
                        "high": verdict.ratio and verdict.ratio.high,
                    }
                    for verdict in row.verdicts
                ],
                "notes": row.notes,
            }
            for row in rows
        ],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def environment(redis_url: str) -> dict[str, str]:
    """Return what the figures depend on: cores, interpreter, server, versions."""
    with redis.Redis.from_url(redis_url) as client:
        server_version = client.info("server")["redis_version"]
    found = {
        **machine.described(),
        platform.python_implementation(): platform.python_version(),
        "redis-server": server_version,
    }
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def _figure(samples: list[float], unit: Unit) -> str:
    if not samples:
        return "n/a"
    value = median(samples)
    if unit == "s":
        return _seconds(value)
    if unit == "per s":
        return f"{value / 1000:,.1f} k/s" if value >= 10_000 else f"{value:,.0f}/s"
    return f"{value:,.0f} B"


def _seconds(value: float) -> str:
    for factor, name in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {name}"
    return f"{value * 1e9:.0f} ns"
