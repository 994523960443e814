"""``hot``, ``history``, ``top``: what a fleet does now, and did in the last minutes."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from cachebridge.commands.asking import (
    engine_of,
    report_of_stats,
    shown_for,
)
from cachebridge.commands.report import Report, Table
from cachebridge.commands.telling import (
    few,
    name_of,
    number_of,
    part_of,
    percent,
    report_on,
)
from cachebridge.engine.fleet.asking import ask_fleet
from cachebridge.stats import READS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cachebridge.commands.telling import Answer
    from cachebridge.engine.admin import AdminMethods

HOT_IN_TOP: Final = 10


def hot(cache: AdminMethods, most: int, timeout_s: float) -> Report:
    """Return the keys that L1 answers most often now, over all processes."""
    asked = ask_fleet(engine_of(cache), "hot", timeout_s, most=most)
    return report_on(asked, [_table_of_hot(cache, asked.answers, most)])


def _table_of_hot(cache: AdminMethods, answers: Iterable[Answer], most: int) -> Table:
    """Add up what the processes have estimated."""
    found: Counter[str] = Counter()
    where: dict[str, list[str]] = {}
    total = 0.0
    for each in answers:
        known = part_of(each, "hot")
        total += number_of(known.get("hits_per_s"))
        keys = known.get("keys")
        for one in keys if isinstance(keys, list) else ():
            if not isinstance(one, dict):
                continue
            key = str(one.get("key"))
            found[key] += number_of(one.get("hits_per_s"))  # type: ignore[assignment]
            where.setdefault(key, []).append(name_of(each))
    rows = [
        (
            shown_for(cache, key),
            f"{per_s:.0f}",
            percent(per_s / total if total else 0.0),
            few(where[key]),
        )
        for key, per_s in found.most_common(most)
    ]
    return Table(("hot key", "hits/s", "of all", "processes"), rows)


def top(cache: AdminMethods, timeout_s: float) -> Report:
    """Return ``stats``, the process with most reads first, and the hottest keys."""
    engine = engine_of(cache)
    asked = ask_fleet(engine, "stats", timeout_s)
    busiest = sorted(asked.answers, key=_reads, reverse=True)
    report = report_of_stats(asked._replace(answers=busiest))
    answers = ask_fleet(engine, "hot", timeout_s, most=HOT_IN_TOP).answers
    table = _table_of_hot(cache, answers, HOT_IN_TOP)
    hottest = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    return report._replace(
        data={**report.data, "hot": hottest},
        tables=[*report.tables, table] if table.rows else report.tables,
    )


def _reads(answer: Answer) -> float:
    known = part_of(answer, "stats")
    return sum(number_of(known.get(name)) for name in READS)


HISTORY: Final = (
    *READS, "loads", "evictions", "flushes", "degraded",
)  # fmt: skip


def history(cache: AdminMethods, timeout_s: float) -> Report:
    """Return the last ten minutes of all processes, ten seconds a line."""
    asked = ask_fleet(engine_of(cache), "history", timeout_s)
    lines: dict[int, Counter[str]] = {}
    for each in asked.answers:
        for at, point in points_of(part_of(each, "history")):
            line = lines.setdefault(int(at // 10), Counter())
            line.update({**point, "processes": 1})
    rows = [_line(slot, lines[slot]) for slot in sorted(lines)]
    header = ("until", "processes", "trusted", "L1 ratio", *HISTORY)
    return report_on(asked, [Table(header, rows, newest_last=True)])


def points_of(columns: Answer) -> list[tuple[float, dict[str, int]]]:
    """Return the points of a process's history: its end, and its numbers by name."""
    lists = {
        name: [int(number_of(one)) for one in each]
        for name, each in columns.items()
        if isinstance(each, list)
    }
    count = min((len(each) for each in lists.values()), default=0)
    return [
        (lists["at"][n], {name: each[n] for name, each in lists.items()})
        for n in range(count)
        if "at" in lists
    ]


def _line(slot: int, line: Counter[str]) -> tuple[str, ...]:
    reads = sum(line[name] for name in READS)
    return (
        time.strftime("%H:%M:%S", time.localtime(10 * slot + 10)),
        str(line["processes"]),
        str(line["trusted"]),
        percent(line["l1_hits"] / reads) if reads else "",
        *[str(line[name]) for name in HISTORY],
    )
