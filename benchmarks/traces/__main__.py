"""The command line: `python -m benchmarks.traces [WORKLOAD ...]`.

Prints the hit ratios of every policy as a Markdown table, and what an access costs;
--png draws them as well. Cells are computed in as many processes as there are cores.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.traces.plot import draw
from benchmarks.traces.policies import CONTENDERS
from benchmarks.traces.workloads import WORKLOADS, keys_of

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES = (0.5, 1, 2, 5, 10, 20)
"""Entries, in percent of the distinct keys."""

Cell = tuple[str, float, int, dict[str, float], dict[str, float]]
"""Workload, size, entries; hit ratios and nanoseconds per access by contender."""

_keys = cache(keys_of)


def measure(cell: tuple[str, float]) -> Cell:
    """Run every contender once over a workload, with one number of entries."""
    workload, size = cell
    keys = _keys(workload)
    entries = max(1, int(len(set(keys)) * size / 100))
    ratios, costs = {}, {}
    for name, contender in CONTENDERS.items():
        began = time.process_time_ns()
        ratios[name] = contender(keys, entries) / len(keys)
        costs[name] = (time.process_time_ns() - began) / len(keys)
    return workload, size, entries, ratios, costs


def main() -> None:
    """Measure, print, and draw."""
    arguments = _parse()
    cells = [(name, size) for name in arguments.workloads for size in SIZES]
    with ProcessPoolExecutor(arguments.processes) as pool:
        measured = list(pool.map(measure, cells))
    print("\n".join(_table(measured)))
    ahead = sum(ratios["s3fifo"] > ratios["lru"] for *_, ratios, _ in measured)
    print(f"\ns3fifo hits more often than lru in {ahead} of {len(measured)} cells.")
    print("\nNanoseconds of CPU per access, with the loop and the fill of a miss:\n")
    print("\n".join(_cost_table(measured)))
    if arguments.png:
        ratios = {
            name: {
                contender: {
                    size: found[contender]
                    for workload, size, _, found, _ in measured
                    if workload == name
                }
                for contender in CONTENDERS
            }
            for name in arguments.workloads
        }
        draw(ratios, arguments.png)


def _table(measured: list[Cell]) -> Iterator[str]:
    yield f"| workload, entries | {' | '.join(CONTENDERS)} |"
    yield "|---" + "|--:" * len(CONTENDERS) + "|"
    for workload, size, entries, ratios, _ in measured:
        figures = " | ".join(f"{ratios[name]:.3f}" for name in CONTENDERS)
        yield f"| {workload}, {size:g} % ({entries:,}) | {figures} |"


def _cost_table(measured: list[Cell]) -> Iterator[str]:
    names = [name for name in CONTENDERS if name != "Belady"]
    yield f"| workload, entries | {' | '.join(names)} |"
    yield "|---" + "|--:" * len(names) + "|"
    for workload, size, entries, _, costs in measured:
        if size in {1, 5}:
            figures = " | ".join(f"{costs[name]:.0f}" for name in names)
            yield f"| {workload}, {size:g} % ({entries:,}) | {figures} |"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.traces",
        description="Compare hit ratios of L1's policies with those of other caches.",
    )
    parser.add_argument(
        "workloads", nargs="*", metavar="WORKLOAD", default=list(WORKLOADS)
    )
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw a plot")
    parser.add_argument("--processes", type=int, help="default: one for each core")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.workloads if name not in WORKLOADS]
    if unknown:
        parser.error(f"no {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    return arguments


if __name__ == "__main__":
    main()
