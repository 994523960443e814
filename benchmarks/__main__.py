"""The command line: `python -m benchmarks [ROW ...]`.

Prints each row as soon as it is measured. The status is 0 when all rows ran, whatever
they showed; with --strict it is 1 if a target was missed, or could not be judged.

No verdict is given on a row before or after which other programs use more than half of
the machine's cores: the ratios are printed, with their range, and are worth nothing.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from benchmarks import machine, report
from benchmarks.report import Row
from benchmarks.rows import (
    cluster,
    codecs,
    django_ops,
    engine_hit,
    flask_memoize,
    flask_web,
    groups,
    invalidation,
    local_counts,
    memcached,
    memory,
    outage,
    stampede,
    tags,
    tasks,
    threads,
    web,
    write_behind,
)
from cachebridge.testing import redis_server

# What measures a row, given the URL of a Redis server; one may give several.
Measure = Callable[[str], Iterable[Row]]

_DJANGO_OPS: dict[str, Measure] = {
    operation.name: partial(django_ops.measure, operation)
    for operation in django_ops.OPERATIONS
}
ROWS: dict[str, Measure] = {
    **{name: _DJANGO_OPS[name] for name in ("T1", "T1b", "T2", "T3")},
    "T4": engine_hit.measure,
    "T5": threads.measure,
    **{name: _DJANGO_OPS[name] for name in ("T6", "T7", "T8", "T9")},
    "T10": tasks.measure,
    "T11": web.measure,
    "F": flask_memoize.measure,
    "T12": flask_web.measure,
    "T13": stampede.measure,
    "T14": invalidation.measure,
    "T15": memory.measure,
    "L": outage.measure,
    "M": memcached.measure,
    "I": local_counts.measure,
    "G": groups.measure,
    "Q": write_behind.measure,
    "K": cluster.measure,
    "Y": tags.measure,
    "Z": codecs.measure,
}


def main() -> int:
    """Measure the chosen rows and print them."""
    arguments = _parse()
    started = time.monotonic()
    rows: list[Row] = []
    with redis_server() as server:
        measured_on = report.environment(server.url)
        if not arguments.markdown:
            print(", ".join(f"{name} {value}" for name, value in measured_on.items()))
        for name in arguments.rows or ROWS:
            was_busy = machine.is_busy()
            measured = list(ROWS[name](server.url))
            if was_busy or machine.is_busy():
                measured = [row.unjudged() for row in measured]
            rows += measured
            if not arguments.markdown:
                print("\n".join(map(report.text, measured)), flush=True)
        # The listeners are about to lose their server, which is nothing to report.
        logging.getLogger("cachebridge").setLevel(logging.CRITICAL)

    if arguments.markdown:
        print(report.markdown(rows, measured_on))
    if arguments.json:
        report.write_json(rows, measured_on, arguments.json)
    missed = [row.name for row in rows if row.missed]
    refused = [row.name for row in rows if row.is_refused]
    if not arguments.markdown:
        print(f"\n{time.monotonic() - started:.0f} s; missed: {missed or 'none'}")
    if refused:
        share = f"{machine.MOST_BUSY:.0%} of the cores"
        print(
            f"No verdict on {', '.join(refused)}: other programs used more than "
            f"{share}. Run it again when the machine has nothing else to do.",
            file=sys.stderr,
        )
    return 1 if arguments.strict and (missed or refused) else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure cachebridge beside Django's and Flask's caches.",
    )
    parser.add_argument(
        "rows", nargs="*", metavar="ROW", help=f"rows to run: {' '.join(ROWS)}"
    )
    parser.add_argument("--strict", action="store_true", help="1 on a missed target")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--markdown", action="store_true", help="print one table")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.rows if name not in ROWS]
    if unknown:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
