"""Timing of contenders side by side.

The machine is taken to be noisy. Contenders run in short batches, one after the other
(A B C, B C A, C A B, ...), so that a slow moment meets all of them; what counts is the
ratio of two batches of the same round. The garbage collector rests inside a batch. A
batch of single calls is the best of three repeats, each short enough to fit into one
slice of the scheduler, at the start of which a short sleep before the batch puts it.
"""

from __future__ import annotations

import gc
import time
import timeit
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

__all__ = ["Batch", "Ratio", "gc_paused", "interleave", "paired", "timed_batch"]

_BREATH_S = 0.001
_REPEATS = 3
_LEAST_ROUNDS = 5

# Runs one batch and returns its figure: seconds per call, or calls per second.
Batch = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Ratio:
    """The paired ratios of two contenders: their median and range."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{_short(self.median)}x ({_short(self.low)}..{_short(self.high)})"


def paired(numerators: list[float], denominators: list[float]) -> Ratio:
    """Return the ratio of two contenders, round by round."""
    ratios = [a / b for a, b in zip(numerators, denominators, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))


def timed_batch(
    statement: str,
    names: Mapping[str, object],
    *,
    calls: int = 1,
    repeat_s: float = 0.0015,
) -> Batch:
    """Return a batch of `statement`, best of three repeats: seconds per call.

    `calls` says how many calls one run of the statement makes.
    """
    timer = timeit.Timer(statement, globals=dict(names))
    timer.timeit(1)
    once_s = min(timer.repeat(_REPEATS, 1))
    number = max(1, int(repeat_s / once_s))

    def batch() -> float:
        return min(timer.repeat(_REPEATS, number)) / (number * calls)

    return batch


def interleave(
    batches: Mapping[str, Batch], rounds: int, *, within_s: float = 6.0
) -> dict[str, list[float]]:
    """Run every batch once per round and return the figures of each contender.

    The order turns by one each round, so that no contender always runs after the same
    other one. On a slow machine the rounds end after `within_s`, but not before five.
    """
    figures: dict[str, list[float]] = {label: [] for label in batches}
    order = list(batches)
    until = time.monotonic() + within_s
    for turn in range(rounds):
        if turn >= _LEAST_ROUNDS and time.monotonic() > until:
            break
        start = turn % len(order)
        for label in order[start:] + order[:start]:
            time.sleep(_BREATH_S)
            figures[label].append(batches[label]())
    return figures


@contextmanager
def gc_paused() -> Iterator[None]:
    """Keep the garbage collector out of a timed block."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
