"""Every rule is needed: with it switched off, some schedule goes wrong.

The unchanged code passes all of these scenarios: ``test_schedules`` runs each.
"""

from __future__ import annotations

import re

import pytest

from tests.proofs.schedules.explorer import Violation, explore
from tests.proofs.schedules.mutants import CAUGHT, END_BUMP, NOTHING_TO_SEE, Mutant
from tests.proofs.schedules.scenarios import DEFAULT, SCENARIOS


def find(mutant: Mutant, scenario: str) -> Violation | None:
    assert scenario in DEFAULT, "no test shows that the unchanged code passes it"
    with mutant.applied():
        return explore(SCENARIOS[scenario], mutant.watch).violation


def cases(mutants: tuple[Mutant, ...]) -> list[object]:
    return [
        pytest.param(mutant, scenario, id=f"{mutant.name}: {scenario}")
        for mutant in mutants
        for scenario in mutant.scenarios
    ]


@pytest.mark.parametrize(("mutant", "scenario"), cases(CAUGHT))
def test_mutant_is_caught(mutant: Mutant, scenario: str) -> None:
    """A schedule of the scenario breaks an invariant, and no operation crashes."""
    violation = find(mutant, scenario)
    assert violation is not None
    assert re.match(r"I\d+: ", violation.text), violation


@pytest.mark.proof
@pytest.mark.parametrize(("mutant", "scenario"), cases(NOTHING_TO_SEE))
def test_rule_is_backed_up_by_another(mutant: Mutant, scenario: str) -> None:
    """Alone the rule can go.  A change here is news: another rule has got weaker."""
    violation = find(mutant, scenario)
    assert violation is None, f"\n{violation}"


@pytest.mark.proof
@pytest.mark.parametrize(("mutant", "scenario"), cases((END_BUMP,)))
def test_end_bump_is_needed_where_fills_may_begin_during_own_writes(
    mutant: Mutant, scenario: str
) -> None:
    """The end of a write closes open fills, though today none could store.

    A fill that begins during an own write of its key gets no token, so the bump at the
    end alone changes nothing (``NOTHING_TO_SEE``).  Without that rule, with fills
    allowed, L1 still equals L2 at rest, thanks to the bump; without both it does not.
    """
    violation = find(mutant, scenario)
    assert violation is not None
    assert violation.text.startswith("I1: ")
