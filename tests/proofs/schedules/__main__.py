"""Explore scenarios by name: ``python -m tests.proofs.schedules fill ghost``.

Without a name it explores all of them.

With ``--mutant NAME`` under a mutant; ``--shortest`` looks for the shortest schedule.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import nullcontext

from tests.proofs.schedules.explorer import explore
from tests.proofs.schedules.invariants import ALL
from tests.proofs.schedules.mutants import CAUGHT, END_BUMP, NOTHING_TO_SEE
from tests.proofs.schedules.scenarios import SCENARIOS

MUTANTS = {mutant.name: mutant for mutant in (*CAUGHT, *NOTHING_TO_SEE, END_BUMP)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.schedules")
    parser.add_argument(
        "names", nargs="*", metavar="scenario", help=", ".join(SCENARIOS)
    )
    parser.add_argument("--mutant", choices=MUTANTS, metavar="NAME")
    parser.add_argument("--shortest", action="store_true")
    arguments = parser.parse_args()
    mutant = MUTANTS.get(arguments.mutant)
    found = 0
    with mutant.applied() if mutant else nullcontext():
        for name in arguments.names or SCENARIOS:
            started = time.perf_counter()
            report = explore(
                SCENARIOS[name],
                mutant.watch if mutant else ALL,
                shortest=arguments.shortest,
            )
            print(f"{report}, {time.perf_counter() - started:.1f} s", flush=True)
            if report.violation is not None:
                found += 1
                print(report.violation, flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
