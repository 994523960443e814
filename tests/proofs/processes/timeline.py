"""When which fault was at work: bounds unanswered writes, explains slow calls."""

from __future__ import annotations

import math
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from tests.proofs.processes.history import (
    ABSENT,
    NEVER_ANSWERED,
    KeyHistory,
    Op,
    Write,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTLED_S: Final = 1.0
"""What was sent has arrived once nothing has held it back for so long."""
SERVER: Final = "server"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; ``target`` is the server or a worker's number."""

    name: str
    target: str | int
    begin: float
    end: float
    holds_back: bool

    def __str__(self) -> str:
        return f"{self.begin:.4f}..{self.end:.4f} FAULT {self.name} on {self.target}"


@dataclass(slots=True)
class Timeline:
    """All faults of a run.  Appended to by several threads."""

    faults: list[Fault] = field(default_factory=list)
    deaths: list[float] = field(default_factory=list)
    """When the server was surely dead with all its data, and the next not there yet."""
    lives: dict[int, tuple[int, float]] = field(default_factory=dict)
    """Slot and time of death of each writer."""
    fired: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def fault(
        self, name: str, target: str | int, *, holds_back: bool = False
    ) -> Iterator[None]:
        """Note a fault that lasts as long as the context.  Counting is the caller's."""
        begin = time.monotonic()
        try:
            yield
        finally:
            end = time.monotonic()
            self.faults.append(Fault(name, target, begin, end, holds_back))

    def settle(self, histories: dict[str, KeyHistory]) -> None:
        """Give writes without an answer the latest end that the faults allow."""
        for history in histories.values():
            history.writes = [self._settled(write) for write in history.writes]

    def add_losses(
        self, histories: dict[str, KeyHistory], keys: tuple[str, ...], start: float
    ) -> None:
        """Every key is absent at the start and whenever the server lost its data."""
        for key in keys:
            writes = histories[key].writes
            writes.append(Write(ABSENT, start, start, True, -1, "the beginning"))
            for death in self.deaths:
                text = f"{death:.4f} the server is dead and its data lost"
                writes.append(Write(ABSENT, death, death, True, -1, text))

    def _settled(self, write: Write) -> Write:
        op = write.op
        if write.end != NEVER_ANSWERED or not isinstance(op, Op):
            return write
        slot, died = self.lives[op.worker]
        ended = min(op.end, died)
        return replace(write, end=max(ended, self._settled_after(slot, ended)))

    def _settled_after(self, slot: int, instant: float) -> float:
        """Return when nothing sent by ``instant`` can be under way any more."""
        quiet_since = instant
        windows = sorted(
            (fault.begin, fault.end)
            for fault in self.faults
            if fault.holds_back and fault.target in {SERVER, slot}
        )
        for begin, end in windows:
            if begin > quiet_since + SETTLED_S:
                break
            quiet_since = max(quiet_since, end)
        settled = quiet_since + SETTLED_S
        # Connections to a dead server die with all they carry.
        deaths = [math.nextafter(d, 0.0) for d in self.deaths if d > instant]
        return min([settled, *deaths])

    def during(self, begin: float, end: float) -> list[Fault]:
        """Return the faults that touch an interval, in order."""
        touching = [f for f in self.faults if f.begin <= end and f.end >= begin]
        return sorted(touching, key=lambda fault: fault.begin)

    def was_stopped(self, slot: int, begin: float, end: float) -> bool:
        """Return whether the worker itself was stopped in the interval."""
        return any(
            fault.name == "pause_worker" and fault.target == slot
            for fault in self.during(begin, end)
        )
