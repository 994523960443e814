"""Every order of a few actors' steps: all of them, or each state once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager


class BrokenInvariantError(Exception):
    """An invariant does not hold."""


def orders(steps: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield each order of callers: the n-th takes ``steps[n]`` steps."""
    if not any(steps):
        yield ()
    for caller, left in enumerate(steps):
        if left:
            after = [*steps]
            after[caller] -= 1
            for rest in orders(after):
                yield (caller, *rest)


class Steppable(Protocol):
    """A world in which one step is taken at a time."""

    hits: bool

    def enabled(self) -> list[Any]:
        """Return the steps that can be taken now."""

    def perform(self, step: Any) -> None:
        """Take one; raises BrokenInvariantError."""

    def key(self) -> object:
        """Return all that the future depends on."""


class Judged(Protocol):
    """A world whose end is judged; its invariants are assertions."""

    def enabled(self) -> list[str]:
        """Return the names of the steps that can be taken now."""

    def step(self, name: str) -> None:
        """Take one."""

    def judge_end(self) -> None:
        """Check what must hold when no step is left."""

    def close(self) -> None:
        """End its actors."""


def judge_schedules(begin: Callable[[], Judged], most_steps: int) -> int:
    """Take every order of steps and judge each end; return how many there are."""
    ends = 0
    todo: list[tuple[str, ...]] = [()]
    while todo:
        path = todo.pop()
        assert len(path) < most_steps, path
        world = begin()
        try:
            for name in path:
                world.step(name)
            # Go on along the first branch; the others are for later.
            while able := world.enabled():
                todo += [(*path, name) for name in able[1:]]
                path = (*path, able[0])
                world.step(able[0])
            world.judge_end()
        except AssertionError as exc:
            raise AssertionError(f"{exc}: {' '.join(path)}") from exc
        finally:
            world.close()
        ends += 1
    return ends


@dataclass
class Report:
    """What an exploration went through."""

    states: int = 0
    hits: int = 0
    ends: int = 0
    violation: str = ""


def explore_states(begin: Callable[[], AbstractContextManager[Steppable]]) -> Report:
    """Take every order of steps, each state once; stop at a violation."""
    report, seen = Report(), set()
    todo: list[tuple[Any, ...]] = [()]
    while todo and not report.violation:
        path = todo.pop()
        try:
            with begin() as world:
                for step in path:
                    world.perform(step)
                while (key := world.key()) not in seen:
                    seen.add(key)
                    report.hits += world.hits
                    steps = world.enabled()
                    if not steps:
                        report.ends += 1
                        break
                    todo += [(*path, step) for step in steps[1:]]
                    path = (*path, steps[0])
                    world.perform(steps[0])
        except BrokenInvariantError as broken:
            report.violation = f"{broken}, after {path}"
    report.states = len(seen)
    return report
