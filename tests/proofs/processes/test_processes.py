"""The process test as a test: one run that must be clean, and mutants that must not."""

from __future__ import annotations

import importlib.util
import time

import pytest

from tests.proofs.processes import faults
from tests.proofs.processes.beside import LONG_LIVED, OVER_MEMCACHED, OVER_REDIS
from tests.proofs.processes.failover import FAILOVERS
from tests.proofs.processes.history import UNKNOWN, KeyHistory, Read, Write
from tests.proofs.processes.moved import MOVE, MOVES, doubt
from tests.proofs.processes.run import Outcome, Setup, run
from tests.proofs.processes.timeline import Timeline

pytestmark = pytest.mark.usefixtures("shared_server", "shared_memcached")

SEED = 20
SECONDS = 20.0
SHORT_SECONDS = 4.0
MUTANT_SECONDS = 7.0
TRIES = 4
"""How often a mutant is run, with other seeds, until it is caught."""
SHORT = ("cut", "delay", "kill_subscriptions", "kill_worker")
BREAKS = ("cut_and_refuse", "kill_subscriptions")


def shown(outcome):
    """All that a run has to tell, for a failure and for ``pytest -s``."""
    text = "\n".join(outcome.lines())
    print(text)
    return text


def caught(mutant, rules, *, seed=SEED, seconds=MUTANT_SECONDS, **options):
    """Run a mutant until one of the rules is broken; return the last outcome."""
    for number in range(TRIES):
        outcome = run(seed=seed + number, seconds=seconds, mutant=mutant, **options)
        if outcome.rules_broken & rules:
            break
    return outcome


def test_a_short_run():
    """The processes and the judge work, and what every change could break holds."""
    outcome = run(seed=SEED, seconds=SHORT_SECONDS, only=SHORT, processes=3)
    assert outcome.is_good, shown(outcome)


@pytest.mark.proof
def test_processes_stay_coherent_under_faults():
    """No read is wrong, all agree at rest, and every fault has fired."""
    outcome = run(seed=SEED, seconds=SECONDS)
    assert outcome.is_good, shown(outcome)
    shown(outcome)


@pytest.mark.proof
@pytest.mark.parametrize(
    ("mutant", "only", "rules"),
    [
        ("no-flush-on-subscribe", BREAKS, {"disagreement", "too-old"}),
        ("no-message", ("delay",), {"disagreement", "too-old"}),
        ("no-fill-token", ("delay",), {"went-back", "too-old", "disagreement"}),
        ("stamps-unwatched", ("delay",), {"too-old", "went-back", "disagreement"}),
        ("strikes-leave-keys-open", (faults.STRIKE,), {"not-idle"}),
    ],
)
def test_a_mutant_is_caught(mutant, only, rules):
    """With one rule of the protocol switched off the run fails, and says of what."""
    outcome = caught(mutant, rules, only=only)
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


@pytest.mark.proof
@pytest.mark.skipif(
    importlib.util.find_spec("gevent") is None,
    reason="runs a process under gevent, which is not installed",
)
def test_a_gevent_process_beside_plain_ones():
    """A process that gevent has patched keeps to the same rules as the others."""
    outcome = run(seed=SEED, seconds=8.0, only=BREAKS, processes=3, gevent_slots=(1,))
    assert outcome.is_good, shown(outcome)


@pytest.mark.proof
def test_tasks_beside_threads():
    """A process that awaits its cache keeps to the same rules as the others."""
    outcome = run(seed=SEED, seconds=8.0, only=BREAKS, processes=3, task_slots=(1,))
    assert outcome.is_good, shown(outcome)


@pytest.mark.proof
def test_two_of_four_share_what_they_read():
    """One L1 per host: killed, stopped and cut off, they keep to the same rules."""
    outcome = run(seed=SEED, seconds=SECONDS, setup=Setup(shares=True))
    assert outcome.is_good, shown(outcome)
    assert sum(report["shared"] for report in outcome.reports.values())
    shown(outcome)


@pytest.mark.proof
def test_a_mutant_that_shares_is_caught():
    """Without messages and writes in the shared store old values come from there."""
    outcome = caught(
        "shared-store-hears-nothing",
        {"disagreement", "too-old", "went-back", "own-write"},
        only=("delay",),
        setup=Setup(shares=True),
    )
    assert outcome.rules_broken, shown(outcome)


@pytest.mark.proof
@pytest.mark.parametrize(
    ("setup", "seconds"),
    [(OVER_MEMCACHED, SECONDS), (OVER_REDIS, SECONDS / 2)],
    ids=["memcached", "redis"],
)
def test_messages_beside_the_store(setup, seconds):
    """The same rules where messages go by another server, with L1_TTL as the bound."""
    outcome = run(seed=SEED, seconds=seconds, setup=setup)
    assert outcome.is_good, shown(outcome)
    shown(outcome)


@pytest.mark.proof
@pytest.mark.parametrize(
    ("mutant", "only", "rules"),
    [
        ("no-flush-on-subscribe", BREAKS, {"disagreement", "went-back", "too-old"}),
        ("no-message", ("delay",), {"disagreement", "too-old"}),
    ],
)
def test_a_mutant_over_memcached_is_caught(mutant, only, rules):
    """With one rule switched off the run fails there, too."""
    outcome = caught(mutant, rules, only=only, setup=LONG_LIVED)
    assert outcome.rules_broken & rules, shown(outcome)


@pytest.mark.proof
def test_failovers():
    """The old primary stays up and lags: no read of it is older than BUS_TRUST."""
    options = {"only": ("fail_over",), "processes": 3, "task_slots": (1,)}
    outcome = run(seed=SEED, seconds=8.0, setup=FAILOVERS, **options)
    assert outcome.is_good, shown(outcome)
    shown(outcome)


@pytest.mark.proof
def test_a_mutant_in_failovers_is_caught():
    """A replica that is taken for the right server is found out."""
    outcome = caught(
        "replica-vouches", {"refused"}, only=("fail_over",), setup=FAILOVERS
    )
    assert "refused" in outcome.rules_broken, shown(outcome)


@pytest.mark.proof
def test_an_address_that_moves():
    """The old server goes on as before: all follow, and nothing of it stays in L1."""
    options = {"only": (MOVE,), "processes": 3, "task_slots": (1,)}
    outcome = run(seed=SEED, seconds=SHORT_SECONDS, setup=MOVES, **options)
    assert outcome.is_good, shown(outcome)
    shown(outcome)


@pytest.mark.proof
def test_a_mutant_in_moves_is_caught():
    """A process that never asks the address again stays behind, and is found out."""
    outcome = caught("moves-unnoticed", {"stayed-behind"}, only=(MOVE,), setup=MOVES)
    assert "stayed-behind" in outcome.rules_broken, shown(outcome)


def test_what_is_judged_of_a_move():
    """Of its time no read, and no write for sure; all else as always."""
    reads = [Read(1, at, at + 1, True, 1, None) for at in (0, 10, 20)]
    writes = [Write(1, at, at + 1, True, 1, "set") for at in (0, 10, 20)]
    histories = {"k": KeyHistory(writes, reads)}
    doubt([(10.5, 15)], histories)
    assert [read.begin for read in histories["k"].reads] == [0, 20]
    assert [write.is_sure for write in histories["k"].writes] == [True, False, True]
    assert UNKNOWN not in {write.value for write in histories["k"].writes}
