"""One L1 per host: no schedule breaks an invariant, and every rule is needed.

A scenario in which processes share a store has many more states, so those here are
small, and ``make test`` explores a few alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.proofs.schedules.cases import cases
from tests.proofs.schedules.explorer import explore
from tests.proofs.schedules.host import SCENARIOS
from tests.proofs.schedules.host_mutants import HOST_MUTANTS

if TYPE_CHECKING:
    from tests.proofs.schedules.mutants import Mutant

QUICK = {"host-fill"}
QUICK_MUTANTS = {
    "own L1 before the shared store",
    "fills store without comparing",
    "one process applies for all",
}


@pytest.mark.parametrize("name", cases(SCENARIOS, QUICK))
def test_no_schedule_breaks_an_invariant(name: str) -> None:
    """All schedules hold, and some process would have been answered."""
    report = explore(SCENARIOS[name])
    print(report)
    assert report.violation is None, f"\n{report.violation}"
    assert report.hits
    assert report.ends


@pytest.mark.parametrize(
    ("mutant", "scenario"),
    [
        pytest.param(
            mutant,
            scenario,
            id=f"{mutant.name}: {scenario}",
            marks=() if mutant.name in QUICK_MUTANTS else pytest.mark.proof,
        )
        for mutant in HOST_MUTANTS
        for scenario in mutant.scenarios
    ],
)
def test_mutant_is_caught(mutant: Mutant, scenario: str) -> None:
    """A schedule of the scenario breaks an invariant, and no operation crashes."""
    with mutant.applied():
        violation = explore(SCENARIOS[scenario], mutant.watch).violation
    assert violation is not None
    assert re.match(r"I\d+: ", violation.text), violation
