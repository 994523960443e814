"""``make soak SECONDS=300 SEED=7``: tells what happened, fails if anything is wrong."""

from __future__ import annotations

import argparse
import random
import sys
from typing import Final

from tests.proofs.cluster.judge import CLUSTER_SOAK
from tests.proofs.failover.run import run as run_failovers
from tests.proofs.processes import mutants
from tests.proofs.processes.beside import OVER_MEMCACHED
from tests.proofs.processes.run import run
from tests.proofs.soak.judge import SOAK

SETUPS: Final = {"redis": SOAK, "memcached": OVER_MEMCACHED, "cluster": CLUSTER_SOAK}


def main() -> int:
    """Run once; 0 if nothing was found and every fault fired."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.soak")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--mutant", choices=["", *sorted(mutants.MUTANTS)], default="")
    parser.add_argument("--only", nargs="*", default=(), help="leave other faults out")
    parser.add_argument(
        "--store",
        choices=[*SETUPS, "sentinel"],
        default="redis",
        help="memcached: the process test's faults; sentinel: failovers, and no others",
    )
    chosen = parser.parse_args()
    if chosen.store == "sentinel":
        found = run_failovers(seed=chosen.seed, seconds=chosen.seconds)
        print("\n".join(found.lines()))
        return 0 if found.is_good else 1
    outcome = run(
        seed=chosen.seed,
        seconds=chosen.seconds,
        mutant=chosen.mutant,
        only=chosen.only,
        setup=SETUPS[chosen.store],
    )
    print("\n".join(outcome.lines()))
    return 0 if outcome.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
