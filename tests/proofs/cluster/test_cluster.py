"""The process test over a cluster as a test: clean runs, and a mutant that is not."""

from __future__ import annotations

import pytest

from tests.proofs.cluster.judge import CLUSTER, CLUSTER_SOAK, amend, unserved
from tests.proofs.cluster.phases import DOWN, PHASES, Phase
from tests.proofs.processes.history import ABSENT, KeyHistory, Op, Read, Write
from tests.proofs.processes.run import run
from tests.proofs.processes.test_processes import caught, shown
from tests.proofs.processes.values import TAGGED, stamp_of

SEEDS = (1, 2, 3)
LOSSES = ("kill_master", "cut_bus_until_failover", "fail_over", DOWN)
ALL_ONCE_S = 1.0
"""Each phase comes at least once, whatever time there is."""


@pytest.mark.proof
@pytest.mark.usefixtures("shared_server")
@pytest.mark.parametrize("seed", SEEDS)
def test_processes_stay_coherent_over_a_cluster(seed):
    """Slots move, masters fail and lose each other: no read is wrong, all agree."""
    options = {"only": PHASES, "task_slots": (1,), "setup": CLUSTER}
    outcome = run(seed=seed, seconds=ALL_ONCE_S, **options)
    assert outcome.is_good, shown(outcome)
    shown(outcome)


@pytest.mark.proof
@pytest.mark.usefixtures("shared_server")
def test_outages_of_masters_are_answered():
    """With ``ON_ERROR="degrade"`` no call raises, and no answer is too old."""
    outcome = run(seed=1, seconds=ALL_ONCE_S, only=LOSSES, setup=CLUSTER_SOAK)
    assert outcome.is_good, shown(outcome)
    assert outcome.degraded
    shown(outcome)


@pytest.mark.proof
@pytest.mark.usefixtures("shared_server")
def test_a_mutant_is_caught():
    """With a session at one master alone, what the others publish can be lost."""
    rules = {"too-old", "went-back", "disagreement"}
    options = {"only": ("cut_bus",), "setup": CLUSTER, "seconds": ALL_ONCE_S}
    outcome = caught("one-session", rules, **options)
    assert outcome.rules_broken & rules, shown(outcome)


def phase(name, **more):
    """A phase from 10 to 20 that concerns the key ``a``."""
    return Phase(name, "server", 10.0, 20.0, True, keys=frozenset("a"), **more)


def test_what_a_lost_master_does_to_the_history():
    """Its keys are not judged before the next one is known; all others are."""

    def history():
        reads = [Read(1, at, at + 1, True, 1, None) for at in (5, 15, 25)]
        writes = [Write(1, at, at + 1, True, 1, "set") for at in (5, 15, 25)]
        return KeyHistory(writes, reads)

    histories = {"a": history(), "b": history()}
    amend([phase("kill_master", promoted=18.0)], histories)
    assert [read.begin for read in histories["a"].reads] == [5, 25]
    assert [write.is_sure for write in histories["a"].writes] == [True, False, True]
    assert histories["b"] == history()
    amend([phase(DOWN, died=12.0)], histories)
    assert histories["a"].writes[-1].value is ABSENT
    assert histories["b"] == history()


def test_what_a_lost_stamp_does_to_the_history():
    """Its values are judged as those of the master that had it."""
    key = TAGGED[0]
    writes = [Write(1, at, at + 1, True, 1, "set") for at in (5, 15)]
    histories = {key: KeyHistory(writes), "a": KeyHistory(writes)}
    lost = {"keys": frozenset((stamp_of(key),)), "promoted": 18.0, "died": 12.0}
    amend([Phase("lost", "server", 10.0, 20.0, True, **lost)], histories)
    assert [write.value for write in histories[key].writes] == [1, 1, ABSENT]
    assert [write.is_sure for write in histories[key].writes] == [True, False, True]
    assert histories["a"].writes == writes


def test_a_clear_may_miss_keys_that_move():
    """It counts as possible then, and as always at other times."""
    for kind in ("clear", "delete_pattern"):
        ops = [Op(1, 0, kind, at, at, at + 1, [("a", ABSENT)]) for at in (5, 15)]
        writes = [Write(ABSENT, op.begin, op.end, True, 1, op) for op in ops]
        histories = {"a": KeyHistory(writes)}
        amend([phase("move_slots")], histories)
        assert [write.is_sure for write in histories["a"].writes] == [True, False]


def test_what_has_to_be_served():
    """While one master is down, writes of the others' keys do not fail.

    A pattern asks every master, and a tagged value needs that of its stamp.
    """

    def failed(key, begin, why="refused", kind="set"):
        return Op(1, 0, kind, begin, begin, begin + 0.1, [(key, 1)], None, why, True)

    calls = [failed("a", 12.0), failed("b", 12.0), failed("b", 5.0)]
    calls.append(failed("b", 12.0, "L2UnavailableError from TimeoutError: timed out"))
    calls.append(failed("b", 12.0, kind="delete_pattern"))
    (found,) = unserved([phase(DOWN, died=10.0)], calls)
    assert found.proof == (calls[1],)
    down = Phase(DOWN, "s", 10.0, 20.0, True, keys=frozenset((stamp_of(TAGGED[0]),)))
    assert not unserved([down], [failed(TAGGED[0], 12.0)])
    assert unserved([down], [failed(TAGGED[1], 12.0)])
