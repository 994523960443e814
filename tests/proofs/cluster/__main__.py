"""``python -m tests.proofs.cluster --seed 7``: prints what happened."""

from __future__ import annotations

import argparse
import random
import sys

from tests.proofs.cluster.judge import CLUSTER
from tests.proofs.cluster.phases import PHASES
from tests.proofs.processes import mutants
from tests.proofs.processes.run import run


def main() -> int:
    """Run all phases, or ``--only`` some; 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.cluster")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--mutant", choices=["", *sorted(mutants.MUTANTS)], default="")
    parser.add_argument("--only", nargs="*", choices=PHASES, default=PHASES)
    chosen = parser.parse_args()
    outcome = run(
        seed=chosen.seed,
        seconds=chosen.seconds,
        mutant=chosen.mutant,
        only=chosen.only,
        task_slots=(1,),
        setup=CLUSTER,
    )
    print("\n".join(outcome.lines()))
    return 0 if outcome.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
