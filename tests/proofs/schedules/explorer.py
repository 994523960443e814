"""The explorer: runs every schedule of a scenario on the real code, each state once.

A schedule is a list of steps.  The explorer goes depth first; to go back it starts a
new world and replays.  Two things keep it quick and lose no state: a state that was
seen is not continued again, and of two steps that do not touch the same part of the
world only one order is tried.  For that each state comes with a *sleep set* (Godefroid
1996): steps tried before, from a state that differs by something they do not touch.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.proofs.schedules.actors import IDLE
from tests.proofs.schedules.invariants import ALL, Witness
from tests.proofs.schedules.orders import BrokenInvariantError
from tests.proofs.schedules.world import World
from tests.rig import entries_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.proofs.schedules.scenarios import Scenario
    from tests.proofs.schedules.world import Step

MAX_STATES = 150_000

Path = tuple["Step", ...]
Key = tuple[Any, ...]
SideWay = tuple[Path, frozenset["Step"]]
"""A path, and the steps that need not be tried at its end: see above."""


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
            f"again: narrate(SCENARIOS[{self.scenario.name!r}], {self.path!r})",
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
    ends: set[Key] = field(default_factory=set)
    """States at rest."""
    violation: Violation | None = None

    def __str__(self) -> str:
        return (
            f"{self.scenario.name}: {self.states} states, {self.steps} steps, "
            f"{self.schedules} schedules, {self.hits} with a hit"
        )


class Search:
    """Goes through every schedule of a scenario, up to the first that breaks something.

    Without ``reduce`` every order of independent steps is tried, for comparison;
    ``shortest`` goes breadth first, which is slower and finds the shortest schedule.
    """

    def __init__(
        self,
        scenario: Scenario,
        watch: frozenset[str] = ALL,
        *,
        reduce: bool = True,
        shortest: bool = False,
        max_states: int = MAX_STATES,
    ) -> None:
        self.report = Report(scenario)
        self._scenario = scenario
        self._watch = watch
        self._reduce = reduce
        self._shortest = shortest
        self._max_states = max_states
        self._seen: dict[Key, frozenset[Step]] = {}
        self._todo: deque[SideWay] = deque([((), frozenset())])

    def run(self) -> Report:
        """Explore; the report says whether anything was found."""
        report, todo = self.report, self._todo
        while todo and report.violation is None:
            path, sleep = todo.popleft() if self._shortest else todo.pop()
            report.schedules += 1
            world = _world_after(self._scenario, path[:-1], self._watch)
            path = self._follow(world, path, sleep)
            if report.violation is None:
                self._try(world.close, path)
            report.states = len(self._seen)
            if report.states > self._max_states:
                raise TooManyStatesError(str(report))
        return report

    def _follow(self, world: World, path: Path, sleep: frozenset[Step]) -> Path:
        """Go on from the end of the path while all is new; put off the side ways."""
        while self._take_last(world, path):
            children = self._children(world, path, sleep)
            if self._shortest:
                self._todo.extend(children)
                break
            if not children:
                break
            self._todo.extend(children[:0:-1])
            path, sleep = children[0]
        return path

    def _take_last(self, world: World, path: Path) -> bool:
        """Carry the last step of the path out, for the first time."""
        if not path:
            return True
        self.report.steps += 1
        self.report.kinds[path[-1][0]] += 1
        self._try(lambda: world.perform(path[-1]), path)
        return self.report.violation is None

    def _try(self, act: Callable[[], None], path: Path) -> None:
        try:
            act()
        except BrokenInvariantError as broken:
            text = str(broken)
        except Exception as exc:
            text = f"an operation raised {exc!r}"
        else:
            return
        self.report.violation = Violation(self._scenario, self._watch, path, text)

    def _children(
        self, world: World, path: Path, sleep: frozenset[Step]
    ) -> list[SideWay]:
        """Return the ways on that are not known to lead to what is seen elsewhere."""
        key = world.key()
        before = self._seen.get(key)
        if before is None:
            self.report.hits += world.witness.hits
            if world.is_at_rest():
                self.report.ends.add(key)
            steps = [step for step in world.enabled() if step not in sleep]
        else:
            steps = sorted(before - sleep)
            sleep &= before
        self._seen[key] = sleep
        touches = {step: world.touches(step) for step in (*steps, *sleep)}
        children = []
        for step in steps:
            apart = {other for other in sleep if not touches[other] & touches[step]}
            children.append(((*path, step), frozenset(apart)))
            if self._reduce:
                sleep |= {step}
        return children


def explore(scenario: Scenario, watch: frozenset[str] = ALL, **options: Any) -> Report:
    """Explore a scenario; see ``Search``."""
    return Search(scenario, watch, **options).run()


def _world_after(
    scenario: Scenario, path: Sequence[Step], watch: frozenset[str]
) -> World:
    """Make a world and replay steps that have been checked before."""
    world = (scenario.make_world or World)(scenario, partial(Witness, watch=watch))
    for step in path:
        world.replay(step)
    return world


AT_THREAD = {
    "go": "goes on",
    "exec": "executes",
    "lose": "executes, its reply is lost",
    "ghost": "times out, its command is on its way",
    "resend": "is sent once more",
}
AT_PROCESS = {
    "listen": "goes on listening",
    "notice": "notices the break",
    "subscribe": "has its SUBSCRIBE executed",
    "ack": "handles the acknowledgement, sends a heartbeat",
    "break": "loses its subscription, unnoticed",
    "beat": "sends a heartbeat",
    "crash": "dies",
    "evict": "reads another key and evicts this one",
}


def narrate(
    scenario: Scenario, path: Sequence[Step], watch: frozenset[str] = ALL
) -> list[str]:
    """Run one schedule; return what happens in it, a line per step."""
    world = (scenario.make_world or World)(scenario, partial(Witness, watch=watch))
    lines = []
    for number, step in enumerate(path, 1):
        text = _describe(world, step)
        outcome = ""
        try:
            world.perform(step)
        except Exception as exc:
            outcome = f"  <-- {exc}"
        lines.append(f"{number:3}. {text:58} {_show(world)}{outcome}")
    return lines


def _describe(world: World, step: Step) -> str:
    kind, index = step
    if kind == "go" and world.threads[index].stage == IDLE:
        thread = world.threads[index]
        text = f"{thread.title} begins {thread.program[thread.next_operation]}"
    elif kind in AT_THREAD:
        thread = world.threads[index]
        text = f"{thread.operation} of {thread.title} {AT_THREAD[kind]}"
    elif kind in ("late", "never"):
        text = f"{world.ghosts[index].operation}, given up, executes {kind}"
    elif kind == "deliver":
        text = f"P{index} handles {world.processes[index].queue[0]}"
    elif kind == "tick":
        text = f"{world.scenario.ticks[index]} s pass"
    else:
        text = f"P{index} {AT_PROCESS[kind]}"
    return text


def _show(world: World) -> str:
    """Return the state of all levels in short."""
    parts = []
    for process in world.processes:
        held = ",".join(
            f"{process.copies.value_of(entry)}"
            for key, entry in entries_of(process.engine).items()
            if key in world.scenario.watched
        )
        trusted = process.engine.rules.is_on(world.now)
        parts.append(f"P{process.index}={held or '-'}{'' if trusted else ' (off)'}")
    newest = ",".join(str(world.history[k][-1].value) for k in world.scenario.watched)
    return f"| {' '.join(parts)} L2={newest}"
