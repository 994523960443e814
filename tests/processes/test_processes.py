"""The process test as a test: one run that must be clean, and mutants that must not."""

from __future__ import annotations

import importlib.util
import time

import pytest

from tests.processes import faults
from tests.processes.memcached import LONG_LIVED, OVER_MEMCACHED
from tests.processes.run import Outcome, run
from tests.processes.timeline import Timeline

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("shared_server", "shared_memcached"),
]

SEED = 20
SECONDS = 20.0
MUTANT_SECONDS = 7.0
BREAKS = ("cut_and_refuse", "kill_subscriptions")


def shown(outcome):
    """All that a run has to tell, for a failure and for ``pytest -s``."""
    text = "\n".join(outcome.lines())
    print(text)
    return text


def test_processes_stay_coherent_under_faults():
    """No read is wrong, all agree at rest, and every fault has fired."""
    outcome = run(seed=SEED, seconds=SECONDS)
    assert outcome.is_good, shown(outcome)
    shown(outcome)


@pytest.mark.parametrize(
    ("mutant", "only", "rules"),
    [
        ("no-flush-on-subscribe", BREAKS, {"disagreement", "too-old"}),
        ("no-message", ("delay",), {"disagreement", "too-old"}),
        ("no-fill-token", ("delay",), {"went-back", "too-old", "disagreement"}),
    ],
)
def test_a_mutant_is_caught(mutant, only, rules):
    """With one rule of the protocol switched off the run fails, and says of what."""
    outcome = run(seed=SEED, seconds=MUTANT_SECONDS, mutant=mutant, only=only)
    assert outcome.rules_broken & rules, shown(outcome)


def test_a_fault_that_never_fires_fails_the_run(monkeypatch):
    """It is tried again for a while; then the run is not good, and names it."""
    monkeypatch.setattr(faults, "TARDY_S", 0.7)
    lane = faults.Lane(Timeline(), "seed")
    tries = []
    lane.faults = {"never": lambda: bool(tries.append(1)), "always": lambda: True}
    lane.run(time.monotonic() + 0.3)
    assert len(tries) > 1
    assert lane.missing() == ["never"]
    outcome = Outcome(SEED, faults_missing=lane.missing())
    assert not outcome.is_good
    assert "NEVER FIRED: never" in list(outcome.lines())


@pytest.mark.skipif(
    importlib.util.find_spec("gevent") is None, reason="gevent is not installed"
)
def test_a_gevent_process_beside_plain_ones():
    """A process that gevent has patched keeps to the same rules as the others."""
    outcome = run(seed=SEED, seconds=8.0, only=BREAKS, processes=3, gevent_slots=(1,))
    assert outcome.is_good, shown(outcome)


def test_tasks_beside_threads():
    """A process that awaits its cache keeps to the same rules as the others."""
    outcome = run(seed=SEED, seconds=8.0, only=BREAKS, processes=3, task_slots=(1,))
    assert outcome.is_good, shown(outcome)


def test_over_memcached():
    """The same rules over Memcached, with L1_TTL as the bound."""
    outcome = run(seed=SEED, seconds=SECONDS, setup=OVER_MEMCACHED)
    assert outcome.is_good, shown(outcome)
    shown(outcome)


@pytest.mark.parametrize(
    ("mutant", "only", "rules"),
    [
        ("no-flush-on-subscribe", BREAKS, {"disagreement", "went-back", "too-old"}),
        ("no-message", ("delay",), {"disagreement", "too-old"}),
    ],
)
def test_a_mutant_over_memcached_is_caught(mutant, only, rules):
    """With one rule switched off the run fails there, too."""
    outcome = run(
        seed=SEED, seconds=MUTANT_SECONDS, mutant=mutant, only=only, setup=LONG_LIVED
    )
    assert outcome.rules_broken & rules, shown(outcome)
