"""The explorer: runs every schedule of a scenario on the real code, each state once.

A schedule is a list of steps.  The explorer goes depth first; to go back it starts a
new world and replays.  Two things keep it quick and lose no state: a state that was
seen is not continued again, and of two steps that do not touch the same part of the
world only one order is tried ("sleep sets", Godefroid 1996).
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.schedules.actors import IDLE
from tests.schedules.invariants import ALL, Broken, Witness
from tests.schedules.world import World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.schedules.scenarios import Scenario
    from tests.schedules.world import Step

MAX_STATES = 150_000


class TooManyStatesError(Exception):
    """A scenario is too large to be explored whole: nothing is proven."""


@dataclass(frozen=True)
class Violation:
    """A schedule that breaks an invariant."""

    scenario: Scenario
    watch: frozenset[str]
    path: tuple[Step, ...]
    text: str

    def __str__(self) -> str:
        lines = [
            f"{self.scenario.name}: {self.text}",
            *narrate(self.scenario, self.path, self.watch),
            "again: narrate(SCENARIOS[%r], %r)" % (self.scenario.name, self.path),
        ]
        return "\n".join(lines)


@dataclass
class Report:
    """What an exploration went through."""

    scenario: Scenario
    states: int = 0
    steps: int = 0
    schedules: int = 0
    """Worlds that were run: each follows one schedule as far as it is new."""
    hits: int = 0
    """States in which L1 would have answered: without any nothing is shown."""
    kinds: Counter[str] = field(default_factory=Counter)
    """How often each kind of step was taken."""
    violation: Violation | None = None

    def __str__(self) -> str:
        return (
            f"{self.scenario.name}: {self.states} states, {self.steps} steps, "
            f"{self.schedules} schedules, {self.hits} with a hit"
        )


@dataclass
class _Found(Exception):
    path: tuple[Step, ...]
    text: str


def explore(
    scenario: Scenario,
    watch: frozenset[str] = ALL,
    *,
    reduce: bool = True,
    shortest: bool = False,
    max_states: int = MAX_STATES,
) -> Report:
    """Go through every schedule, up to the first that breaks something.

    Without ``reduce`` every order of steps is tried, for comparison; ``shortest`` goes
    breadth first, which is slower and finds the shortest schedule.
    """
    report = Report(scenario)
    seen: dict[Any, frozenset[Step]] = {}
    todo: deque[tuple[tuple[Step, ...], frozenset[Step]]] = deque([((), frozenset())])
    try:
        while todo:
            path, sleep = todo.popleft() if shortest else todo.pop()
            world = _replay(scenario, path, watch)
            report.schedules += 1
            _follow(world, path, sleep, report, seen, todo, reduce, shortest)
            if len(seen) > max_states:
                raise TooManyStatesError(str(report))
    except _Found as found:
        report.violation = Violation(scenario, watch, found.path, found.text)
    report.states = len(seen)
    return report


def _replay(scenario: Scenario, path: Sequence[Step], watch: frozenset[str]) -> World:
    """Make a world and bring it to the end of a path; the last step is a new one."""
    world = World(scenario, partial(Witness, watch=watch))
    for step in path[:-1]:
        world.replay(step)
    return world


def _perform(world: World, path: tuple[Step, ...], report: Report) -> None:
    """Carry the last step of the path out, for the first time."""
    report.steps += 1
    report.kinds[path[-1][0]] += 1
    try:
        world.perform(path[-1])
    except Broken as broken:
        raise _Found(path, str(broken)) from None
    except Exception as exc:
        raise _Found(path, f"an operation raised {exc!r}") from exc


def _follow(
    world: World,
    path: tuple[Step, ...],
    sleep: frozenset[Step],
    report: Report,
    seen: dict[Any, frozenset[Step]],
    todo: deque[tuple[tuple[Step, ...], frozenset[Step]]],
    reduce: bool,
    shortest: bool,
) -> None:
    """Go on from the end of the path until nothing is new; put off the side ways."""
    if path:
        _perform(world, path, report)
    while True:
        key = world.key()
        before = seen.get(key)
        if before is None:
            report.hits += world.witness.hits
            steps = [step for step in world.enabled() if step not in sleep]
        else:
            steps = sorted(before - sleep)
            sleep &= before
        seen[key] = sleep
        if not steps:
            break
        children = []
        touches = {step: world.touches(step) for step in (*steps, *sleep)}
        for step in steps:
            mine = touches[step]
            children.append(
                ((*path, step), frozenset(s for s in sleep if not touches[s] & mine))
            )
            if reduce:
                sleep |= {step}
        if shortest:
            todo.extend(children)
            break
        todo.extend(children[:0:-1])
        path, sleep = children[0]
        _perform(world, path, report)
    try:
        world.close()
    except Broken as broken:
        raise _Found(path, str(broken)) from None


def narrate(
    scenario: Scenario, path: Sequence[Step], watch: frozenset[str] = ALL
) -> list[str]:
    """Run one schedule; return what happens in it, a line per step."""
    world = World(scenario, partial(Witness, watch=watch))
    lines = []
    for number, step in enumerate(path, 1):
        text = _describe(world, step)
        outcome = ""
        try:
            world.perform(step)
        except (Broken, Exception) as exc:
            outcome = f"  <-- {exc}"
        lines.append(f"{number:3}. {text:58} {_show(world)}{outcome}")
    return lines


def _describe(world: World, step: Step) -> str:
    kind, index = step
    if kind in ("late", "never"):
        ghost = world.ghosts[index]
        return f"{ghost.operation}, given up, reaches the server {kind}"
    if kind in ("go", "exec", "lose", "ghost", "resend"):
        thread = world.threads[index]
        if kind == "go":
            if thread.stage == IDLE:
                return f"{thread.title} begins {thread.program[thread.next_operation]}"
            return f"{thread.title} goes on with {thread.operation}"
        how = {
            "exec": "executes",
            "lose": "executes (and its reply is lost)",
            "ghost": "does not execute in time",
            "resend": "may also execute a copy of",
        }[kind]
        return f"the server {how} {thread.operation} of {thread.title}"
    if kind == "deliver":
        return f"P{index} handles {world.processes[index].queue[0]}"
    if kind == "tick":
        return f"{world.scenario.ticks[index]} s pass"
    return {
        "listen": f"P{index}'s listener goes on",
        "notice": f"P{index} notices the break",
        "subscribe": f"the server executes P{index}'s SUBSCRIBE",
        "ack": f"P{index} handles the acknowledgement, sends a heartbeat",
        "break": f"P{index}'s subscription breaks, unnoticed",
        "beat": f"P{index} sends a heartbeat",
        "crash": f"P{index} dies",
        "evict": f"P{index} reads another key and evicts this one",
    }[kind]


def _show(world: World) -> str:
    """Return the state of all levels in short."""
    parts = []
    for process in world.processes:
        held = ",".join(
            f"{process.copies.value_of(entry)}"
            for key, entry in process.engine.l1.entries.items()
            if key in world.scenario.watched
        )
        trusted = process.engine.rules.is_on(world.now)
        parts.append(f"P{process.index}={held or '-'}{'' if trusted else ' (off)'}")
    newest = ",".join(str(world.history[k][-1].value) for k in world.scenario.watched)
    return f"| {' '.join(parts)} L2={newest}"
