"""Writes the tables of figures from the JSON of a benchmark run.

    python -m benchmarks --json docs/benchmarks.json
    python -m tools.bench_tables [docs/benchmarks.json]

In README.md and docs/benchmarks.md it replaces what stands between the marks
``<!-- bench:begin -->`` and ``<!-- bench:end -->``: in README.md some rows, in the
other all of them.  Nothing is written from a run that had rows without a verdict.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
CHOSEN = ("T1", "T2", "T8", "T7", "T6", "T9", "T10", "T11c", "T14", "F1", "Y1", "Z1")
COLUMNS = ("LocMem", "Django RedisCache", "django-redis", "cachebridge")
OUTCOMES = {True: "ok", False: "**missed**", None: ""}
PLACES = {Path("README.md"): CHOSEN, Path("docs/benchmarks.md"): None}


def main() -> int:
    """Write the tables; status 1 if the run is not fit for them."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench_tables")
    parser.add_argument(
        "json", nargs="?", type=Path, default=Path("docs/benchmarks.json")
    )
    run = json.loads(parser.parse_args().json.read_text())
    if refused := [row["name"] for row in run["rows"] if is_refused(row)]:
        print(f"no verdict on {', '.join(refused)}: measure again on an idle machine")
        return 1
    for path, chosen in PLACES.items():
        text = path.read_text()
        if BEGIN not in text:
            print(f"{path} has no {BEGIN}: left as it is")
            continue
        path.write_text(with_table(text, table(run, chosen)))
        print(f"{path}: written")
    return 0


def is_refused(row: dict[str, Any]) -> bool:
    """Return whether the machine was too busy for a verdict."""
    return any(target.get("refused") for target in row["targets"])


def with_table(text: str, lines: str) -> str:
    """Return the text with the lines between its marks; ValueError without them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there must be {BEGIN} and, after it, {END}")
    return f"{before}{BEGIN}\n{lines}\n{END}{after}"


def table(run: dict[str, Any], chosen: tuple[str, ...] | None = None) -> str:
    """Return rows as a table, in the order of ``chosen``, and what they ran on."""
    rows = {row["name"]: row for row in run["rows"]}
    names = [name for name in chosen or rows if name in rows]
    lines = [
        f"| row | | {' | '.join(COLUMNS)} | others | ratio (range), target |",
        f"|---|---|{'--:|' * len(COLUMNS)}---|---|",
    ]
    for name in names:
        row = rows[name]
        figures = {
            label: shown(samples, row["unit"])
            for label, samples in row["figures"].items()
        }
        others = [
            f"{label}: {figure}"
            for label, figure in figures.items()
            if label not in COLUMNS
        ]
        cells = [
            name,
            row["title"],
            *(figures.get(label, "") for label in COLUMNS),
            "<br>".join(others),
            "<br>".join(map(target_of, row["targets"])),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    on = ", ".join(f"{name} {value}" for name, value in run["measured_on"].items())
    return "\n".join([*lines, "", f"Measured on: {on}."])


def target_of(target: dict[str, Any]) -> str:
    """Return what was reached, what was promised, and whether it holds."""
    words = f"{target['reached']}, {target['promise']} {OUTCOMES[target['ok']]}"
    return words.strip()


def shown(samples: list[float], unit: str) -> str:
    """Return the median in a unit that one can read."""
    if not samples:
        return "n/a"
    value = median(samples)
    if unit != "s":
        return f"{value:,.0f} B" if unit == "B" else f"{value:,.0f}/s"
    for factor, name in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if abs(value) * factor >= 1:
            return f"{value * factor:.3g} {name}"
    return f"{value * 1e9:.0f} ns"


if __name__ == "__main__":
    sys.exit(main())
