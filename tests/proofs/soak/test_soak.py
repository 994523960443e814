"""The soak test as a test: a clean short run, and mutants that are caught."""

from __future__ import annotations

import pytest

from tests.proofs.processes.run import run
from tests.proofs.processes.test_processes import caught
from tests.proofs.soak.judge import SOAK

pytestmark = [pytest.mark.proof, pytest.mark.usefixtures("shared_server")]

SEED = 5
SECONDS = 12.0
MUTANT_SECONDS = 8.0


def shown(outcome):
    """All that a run has to tell, for a failure and for ``pytest -s``."""
    text = "\n".join(outcome.lines())
    print(text)
    return text


def test_nothing_wrong_with_answers_for_outages():
    """No read is wrong, nothing of an outage remains, and every fault has fired."""
    outcome = run(seed=SEED, seconds=SECONDS, setup=SOAK)
    assert outcome.is_good, shown(outcome)
    assert outcome.degraded
    assert outcome.outage_ages
    shown(outcome)


@pytest.mark.parametrize(
    ("mutant", "only", "rules"),
    [
        (
            "outage-entries-stay",
            ("pause_server_within_trust",),
            {"made-up", "disagreement"},
        ),
        (
            "deletes-not-replayed-first",
            ("silence", "client_pause", "cut_and_refuse"),
            {"went-back", "disagreement"},
        ),
        (
            "invalidations-not-owed",
            ("silence", "client_pause", "cut_and_refuse"),
            {"went-back", "too-old", "strict"},
        ),
        ("no-generation-check", ("script_flush",), {"went-back", "strict", "too-old"}),
    ],
)
def test_a_mutant_is_caught(mutant, only, rules):
    """With one rule of outages or loads switched off the run fails, and says why."""
    outcome = caught(
        mutant, rules, only=only, setup=SOAK, seed=SEED, seconds=MUTANT_SECONDS
    )
    assert outcome.rules_broken & rules, shown(outcome)
