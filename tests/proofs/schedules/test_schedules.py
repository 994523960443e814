"""No schedule of any scenario breaks an invariant; and the explorer can be trusted.

``make test`` explores the scenarios of ``QUICK`` alone, ``make proof`` the others.  The
``large`` ones take minutes; ``python -m tests.proofs.schedules`` explores them as well.
"""

from __future__ import annotations

from functools import partial

import pytest

from tests.proofs.schedules.actors import Actor
from tests.proofs.schedules.cases import cases
from tests.proofs.schedules.explorer import TooManyStatesError, explore, narrate
from tests.proofs.schedules.invariants import ALL, Witness
from tests.proofs.schedules.mutants import CAUGHT
from tests.proofs.schedules.scenarios import DEFAULT, SCENARIOS, Scenario
from tests.proofs.schedules.world import World

STEPS_OF_FAULT = {
    "timeout": {"lose", "ghost", "late", "never"},
    "cancel": {"lose", "ghost", "late", "never"},
    "resend": {"resend", "late", "never"},
    "break": {"break", "notice", "subscribe", "ack"},
}

QUICK = {
    *("add", "cancel", "count2", "crash", "delete", "disc3", "evict"),
    *("fine-write", "ghost", "has", "incr", "local", "lock", "many"),
}
"""Each takes about a second at most."""
SMALL = [
    Scenario("small", ((0, "W"), (1, "R"))),
    Scenario("small-timeout", ((0, "W"), (0, "R")), {"timeout": 1}, processes=1),
    Scenario("small-break", ((1, "W"),), {"break": 1}, warm=True),
]


@pytest.mark.parametrize("name", cases(DEFAULT, QUICK))
def test_no_schedule_breaks_an_invariant(name: str) -> None:
    """All schedules hold, L1 hits in some of them, and each fault has struck."""
    report = explore(SCENARIOS[name])
    print(report)
    assert report.violation is None, f"\n{report.violation}"
    assert report.hits
    assert report.ends
    for fault in report.scenario.faults:
        assert report.kinds.keys() >= STEPS_OF_FAULT.get(fault, {fault})


def all_ends(scenario: Scenario) -> set[object]:
    """Return the states at rest, by brute force: every schedule, nothing left out."""
    ends: set[object] = set()
    todo: list[tuple[tuple[str, int], ...]] = [()]
    while todo:
        path = todo.pop()
        world = World(scenario, partial(Witness, watch=ALL))
        for step in path:
            world.perform(step)
        if world.is_at_rest():
            ends.add(world.key())
        todo += [(*path, step) for step in world.enabled()]
    return ends


@pytest.mark.parametrize("scenario", SMALL, ids=lambda scenario: scenario.name)
def test_no_end_is_lost(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """The explorer reaches every state at rest that brute force reaches."""
    found = explore(scenario).ends
    monkeypatch.setattr(World, "_only_listens", lambda _self, _process: False)
    assert found == all_ends(scenario)


@pytest.mark.proof
@pytest.mark.parametrize("name", ["local", "crash", "delete", "disc3", "fine-write"])
def test_no_state_is_lost_by_the_short_cuts(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sleep sets lead to the same states, and what is put first to the same ends."""
    quick = explore(SCENARIOS[name])
    monkeypatch.setattr(World, "_only_listens", lambda _self, _process: False)
    with_sleep_sets = explore(SCENARIOS[name])
    thorough = explore(SCENARIOS[name], reduce=False)
    assert with_sleep_sets.states == thorough.states
    assert with_sleep_sets.steps < thorough.steps
    assert quick.ends == with_sleep_sets.ends == thorough.ends


def test_violation_is_told_step_by_step_and_can_be_repeated() -> None:
    """A schedule that was found ends the same way again; breadth first is shorter."""
    mutant = next(m for m in CAUGHT if m.name == "no fill token")
    scenario = SCENARIOS["fill"]
    with mutant.applied():
        found = explore(scenario).violation
        shortest = explore(scenario, shortest=True).violation
        assert found is not None
        assert shortest is not None
        assert len(shortest.path) <= len(found.path)
        for violation in (found, shortest):
            lines = narrate(scenario, violation.path)
            assert len(lines) == len(violation.path)
            assert lines[-1].endswith(f"<-- {violation.text}")
            assert all("<--" not in line for line in lines[:-1])
    assert all("<--" not in line for line in narrate(scenario, shortest.path[:-1]))


def test_scenario_that_is_too_large_is_an_error() -> None:
    """An exploration that was cut short proves nothing and does not pass."""
    with pytest.raises(TooManyStatesError):
        explore(SCENARIOS["fill"], max_states=100)


def test_lock_held_over_a_wait_is_noticed() -> None:
    """The stepped lock refuses a second owner, which no schedule may bring about."""
    world = World(SCENARIOS["fine-fill"], partial(Witness, watch=ALL))
    lock = world.processes[0].engine.rules.lock

    def take() -> None:
        with lock:
            actor.pause("inside")

    actor = Actor(world, take, "greedy")
    actor.resume()
    actor.resume()
    with pytest.raises(AssertionError, match="held over a wait"), lock:
        pass
