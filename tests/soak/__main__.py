"""``make soak SECONDS=300 SEED=7``: tells what happened, fails if anything is wrong."""

from __future__ import annotations

import argparse
import random
import sys

from tests.processes import mutants
from tests.processes.run import run
from tests.soak.judge import SOAK


def main() -> int:
    """Run once; 0 if nothing was found and every fault fired."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--mutant", choices=["", *sorted(mutants.MUTANTS)], default="")
    parser.add_argument("--only", nargs="*", default=(), help="leave other faults out")
    chosen = parser.parse_args()
    outcome = run(
        seed=chosen.seed,
        seconds=chosen.seconds,
        mutant=chosen.mutant,
        only=chosen.only,
        setup=SOAK,
    )
    print("\n".join(outcome.lines()))
    return 0 if outcome.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
