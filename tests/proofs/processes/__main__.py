"""``python -m tests.proofs.processes --seed 7 --seconds 30``: prints what happened."""

from __future__ import annotations

import argparse
import random
import sys

from tests.proofs.processes import mutants
from tests.proofs.processes.run import run


def main() -> int:
    """Run once or several times; 0 if nothing was found and every fault fired."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.processes")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--seconds", type=float, default=25.0)
    parser.add_argument("--runs", type=int, default=1, help="with the seeds following")
    parser.add_argument("--mutant", choices=sorted(mutants.MUTANTS), default="")
    parser.add_argument("--only", nargs="*", default=(), help="leave other faults out")
    chosen = parser.parse_args()
    good = True
    for seed in range(chosen.seed, chosen.seed + chosen.runs):
        outcome = run(
            seed=seed, seconds=chosen.seconds, mutant=chosen.mutant, only=chosen.only
        )
        print("\n".join(outcome.lines()), flush=True)
        good = good and outcome.is_good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
