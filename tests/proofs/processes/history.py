"""What the processes did, as one record per call, and what each call says of a key.

A process writes one line per event into a file per thread.  What a write intends is on
disk before the call, so that a killed process leaves no write unknown.  Times are
CLOCK_MONOTONIC, which all processes of a host share.
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.proofs.processes.values import TAGGED

if TYPE_CHECKING:
    from pathlib import Path

ABSENT: Final = None
PRESENT: Final = "present"
"""Seen by has_key, add and touch: some value, which is not known."""
UNKNOWN: Final = "unknown"
"""Written by an increment that got no answer: some number."""
NEVER_ANSWERED: Final = math.inf
FLUSH_LINES: Final = 50

Seen = int | str | None
Items = Sequence[tuple[str, Seen]]


class Log:
    """The writing side: one thread's events."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._lines: list[str] = []

    def intend(self, kind: str, called: float, items: Items) -> None:
        """Note a write before it begins; on disk when this returns."""
        self._lines.append(json.dumps(["i", kind, called, time.monotonic(), items]))
        self.flush()

    def answer(self, end: float, result: Any) -> None:
        """Note what the intended write returned."""
        self._put(["o", end, result])

    def fail(self, end: float, error: str) -> None:
        """Note that the intended write raised."""
        self._put(["x", end, error])

    def read(self, kind: str, begin: float, end: float, items: Items) -> None:
        """Note a read and what it saw."""
        self._put(["r", kind, begin, end, items])

    def fail_read(self, kind: str, begin: float, end: float, error: str) -> None:
        """Note a read that raised."""
        self._put(["f", kind, begin, end, error])

    def _put(self, event: list[Any]) -> None:
        self._lines.append(json.dumps(event))
        if len(self._lines) >= FLUSH_LINES:
            self.flush()

    def flush(self) -> None:
        """Write everything out."""
        lines, self._lines = self._lines, []
        self._file.write("".join(line + "\n" for line in lines).encode())

    def close(self) -> None:
        """Write everything out and close the file."""
        self.flush()
        self._file.close()


@dataclass(frozen=True, slots=True)
class Op:
    """One call.  ``called`` precedes ``begin`` where a loader ran first."""

    worker: int
    thread: int
    kind: str
    called: float
    begin: float
    end: float
    items: Items
    result: Any = None
    error: str = ""
    is_write: bool = False

    @property
    def is_sure(self) -> bool:
        """Whether the call returned, so that its effect is known."""
        return not self.error and self.end != NEVER_ANSWERED

    def __str__(self) -> str:
        items = ", ".join(f"{key}={seen}" for key, seen in self.items)
        outcome = self.error or ("" if self.result is None else f"-> {self.result}")
        return (
            f"{self.called:.4f}..{self.end:.4f} process {self.worker} "
            f"thread {self.thread} {self.kind}({items}) {outcome}"
        )


def read_log(path: Path, worker: int, thread: int) -> Iterator[Op]:
    """Read one thread's file; a last write without an answer never got one."""
    open_write: tuple[str, float, float, Items] | None = None

    def close(end: float, result: Any = None, error: str = "") -> Op:
        kind, called, begin, items = open_write or ("", 0.0, 0.0, ())
        return Op(
            worker,
            thread,
            kind,
            called,
            begin,
            end,
            items,
            result,
            error,
            is_write=True,
        )

    for line in path.read_bytes().split(b"\n")[:-1]:
        match json.loads(line):
            case ["i", kind, called, begin, items]:
                open_write = (kind, called, begin, [(k, seen) for k, seen in items])
            case ["o", end, result]:
                yield close(end, result)
                open_write = None
            case ["x", end, error]:
                yield close(end, error=error)
                open_write = None
            case ["r", kind, begin, end, items]:
                seen = [(k, seen) for k, seen in items]
                yield Op(worker, thread, kind, begin, begin, end, seen)
            case ["f", kind, begin, end, error]:
                yield Op(worker, thread, kind, begin, begin, end, (), error=error)
    if open_write is not None:
        yield close(NEVER_ANSWERED, error="killed")


@dataclass(frozen=True, slots=True)
class Write:
    """The key had ``value`` at some instant in [begin, end], if the write is sure.

    An unsure one may have happened at any time in it, or never.
    """

    value: Seen
    begin: float
    end: float
    is_sure: bool
    worker: int
    op: Op | str


@dataclass(frozen=True, slots=True)
class Read:
    """A call of a worker returned ``seen``.

    A strict read tells the state of the server at some instant in [begin, end]; another
    may come from L1 and be older.
    """

    seen: Seen
    begin: float
    end: float
    is_strict: bool
    worker: int
    op: Op

    @property
    def shows_server(self) -> bool:
        """Whether what was seen has surely been on the server.

        Callers that wait for one load share its value even where a write of the key
        has voided the load, so that it never was stored.
        """
        return self.op.kind != "load"


@dataclass(slots=True)
class KeyHistory:
    """All that is known of one key."""

    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)


STRICT_READS: Final = frozenset({"bypass", "touch"})
BY_OWN_STAMP: Final = frozenset({"get", "get_many", "load"})
"""Reads that tell an invalid value by a stamp of L1, which may be as old as L1 is."""


def by_key(ops: Iterable[Op]) -> dict[str, KeyHistory]:
    """Take every call apart into what it says of each of its keys."""
    histories: dict[str, KeyHistory] = defaultdict(KeyHistory)
    for op in ops:
        for key, seen in op.items:
            history = histories[key]
            if op.is_write:
                _interpret_write(op, seen, history, is_tagged=key in TAGGED)
            else:
                strict = seen is ABSENT or op.kind in STRICT_READS
                _note_read(op, seen, history, strict=strict, is_tagged=key in TAGGED)
    return histories


def _note_read(
    op: Op, seen: Seen, history: KeyHistory, *, strict: bool, is_tagged: bool
) -> None:
    """Note what was seen, and whether the server itself has said so.

    Absence is never answered by L1.  But a tagged value is compared with its stamp: a
    bypass, and a call that would remove an invalid value, ask the server for that one.
    """
    if is_tagged and op.kind != "bypass":
        strict = strict and seen is ABSENT and op.kind not in BY_OWN_STAMP
    history.reads.append(Read(seen, op.called, op.end, strict, op.worker, op))


def _interpret_write(  # noqa: C901 one case per kind
    op: Op, value: Seen, history: KeyHistory, *, is_tagged: bool = False
) -> None:
    def wrote(written: Seen, *, is_sure: bool = op.is_sure) -> None:
        end = op.end if op.is_sure else NEVER_ANSWERED
        history.writes.append(Write(written, op.begin, end, is_sure, op.worker, op))
        if is_tagged and written is not ABSENT:
            # Under a stamp that another process has deleted a moment before it is
            # valid for those alone that have not heard of it.
            history.writes.append(Write(ABSENT, op.begin, end, False, op.worker, op))

    def saw(seen: Seen, *, strict: bool = True) -> None:
        _note_read(op, seen, history, strict=strict, is_tagged=is_tagged)

    if not op.is_sure:
        wrote(UNKNOWN if op.kind == "incr" else value)
        return
    match op.kind, op.result:
        case "add", True:
            saw(ABSENT)
            wrote(value)
        case "add", False:
            saw(PRESENT)
        case "incr", "missing":
            saw(ABSENT)
        case "incr", int(count):
            saw(count - 1)
            wrote(count)
        case "delete" | "delete_pattern", True:
            if not is_tagged:  # an invalid value is deleted as well
                saw(PRESENT)
            wrote(ABSENT)
        case "load", returned if returned != value:
            saw(returned, strict=False)
        case "load", _:
            # Not stored if the key was deleted while the loader ran.
            wrote(value, is_sure=False)
        case _:
            wrote(value)
