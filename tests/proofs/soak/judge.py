"""Judges a history in which some answers were made without the server.

What was read while the server answered has to keep every rule of the process test, and
two more: a value counts from when its loader began, since no write of its key that came
later may be undone by it; and after a change that failed its process reads nothing
older than that change.  What was read without the server has to be a value that was
written, and not superseded for longer than ``OUTAGE_TTL`` past the trust.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from tests.proofs.processes.checker import KeyChecker, Verdict, Violation, check
from tests.proofs.processes.faults import BUS_TRUST_S
from tests.proofs.processes.history import ABSENT, KeyHistory, Op, by_key
from tests.proofs.processes.run import (
    AGE_SLACK_S,
    CONNECT_TIMEOUT_S,
    OPTIONS,
    SOCKET_TIMEOUT_S,
    Outcome,
    Setup,
    accuse,
)
from tests.proofs.processes.values import COUNTERS
from tests.proofs.soak.faults import SoakServerLane
from tests.proofs.soak.worker import (
    DEGRADED,
    FRESH,
    FRESH_LIFE_S,
    FRESH_TTL_S,
    LOADED_AWAY,
    MADE_UP,
    SOAK_KEYS,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.proofs.processes.history import Seen, Write
    from tests.proofs.processes.timeline import Timeline

OUTAGE_TTL_S: Final = 2.0
LOAD_S: Final = 0.3
"""What a loader, and its wait for a turn, may add to the age of its value."""
DELETED_LATER: Final = frozenset(
    (
        *("set", "set_many", "delete", "delete_many", "delete_pattern", "invalidate"),
        "clear",
    )
)
CALL_LIMIT_S: Final = 2 * (CONNECT_TIMEOUT_S + 2 * SOCKET_TIMEOUT_S) + 0.7


class SoakChecker(KeyChecker):
    """The rules for what the server has answered."""

    def known_at(self, write: Write) -> float | None:
        """Count a failed change too: with its delete pending, nothing older is read."""
        op = write.op
        if isinstance(op, Op) and op.error == DEGRADED and op.kind in DELETED_LATER:
            return op.end
        return super().known_at(write)


class OutageChecker(KeyChecker):
    """The rules for what was served instead."""

    def _check_session(self, _worker: int, _reads: object) -> list[Violation]:
        return []

    def _check_increments(self) -> list[Violation]:
        return []

    def _find_superseders(self) -> Any:
        """What was read here need not have been on the server."""
        reads, self._reads = self._reads, []
        try:
            return super()._find_superseders()
        finally:
            self._reads = reads


def judge(
    outcome: Outcome,
    timeline: Timeline,
    ops: list[Op],
    started: float,
    *,
    amend: Callable[[dict[str, KeyHistory]], None] = lambda _histories: None,
) -> None:
    """Check the whole history, as ``amend`` has changed it."""
    fresh = [op for op in ops if op.kind.startswith("fresh")]
    rest = [op for op in ops if not op.kind.startswith("fresh")]
    answered = [op for op in rest if not op.kind.endswith(MADE_UP)]
    made_up = [op for op in rest if op.kind.endswith(MADE_UP)]
    outcome.degraded = len(made_up)
    outcome.degraded += sum(op.error.startswith(DEGRADED) for op in rest)
    histories = by_key(answered)
    timeline.add_losses(histories, SOAK_KEYS, started)
    timeline.settle(histories)
    amend(histories)
    outages = by_key(made_up)
    for key, history in histories.items():
        history.writes = [_as_of_its_loader(write) for write in history.writes]
        accuse(outcome, timeline, _served_afterwards(key, history))
        _sort(history, outages[key], _unanswered(history))
    verdict = check(
        histories,
        bound_s=BUS_TRUST_S + AGE_SLACK_S,
        counters=COUNTERS,
        checker_class=SoakChecker,
    )
    within = check(
        outages,
        bound_s=BUS_TRUST_S + OUTAGE_TTL_S + AGE_SLACK_S,
        counters=COUNTERS,
        checker_class=OutageChecker,
    )
    outcome.reads = verdict.reads + within.reads + len(fresh)
    outcome.ages, outcome.outage_ages = verdict.ages, within.ages
    accuse(outcome, timeline, verdict.violations)
    accuse(outcome, timeline, within.violations)
    accuse(outcome, timeline, _check_fresh(fresh).violations)


def _as_of_its_loader(write: Write) -> Write:
    """A write of the key after the loader's begin voids the load, or undoes it."""
    if isinstance(write.op, Op) and write.op.kind == "load" and not write.op.error:
        return replace(write, end=write.begin)
    return write


def _served_afterwards(key: str, history: KeyHistory) -> list[Violation]:
    """Return reads of values that the server never had while it was in use.

    A caller that waited for another's load may get a value the server did not take.
    """
    made_up = {
        write.value: write
        for write in history.writes
        if isinstance(write.op, Op)
        and write.op.error == LOADED_AWAY
        and write.value is not ABSENT
    }
    return [
        Violation(
            "made-up",
            key,
            f"{read.seen!r} was never sent to the server, which was in use",
            (made_up[read.seen].op, read.op),
        )
        for read in history.reads
        if read.seen in made_up and read.op.kind != "load"
    ]


def _unanswered(history: KeyHistory) -> set[Seen]:
    """Return the values that the server may never have had."""
    return {
        write.value
        for write in history.writes
        if isinstance(write.op, Op) and write.op.error and write.value is not ABSENT
    }


def _sort(history: KeyHistory, outage: KeyHistory, unanswered: set[Seen]) -> None:
    """Put each read where it will be judged."""
    outage.writes = history.writes
    lenient = [read for read in history.reads if read.seen in unanswered]
    history.reads = [read for read in history.reads if read.seen not in unanswered]
    made_up = [read for read in outage.reads if read.seen is not ABSENT]
    outage.reads = [replace(read, is_strict=False) for read in (*made_up, *lenient)]


def _check_fresh(ops: list[Op]) -> Verdict:
    """Values with stale copies and refreshes: loaded once, and never too old."""
    verdict = Verdict(reads=len(ops))
    loaded = {op.items[0]: op.begin for op in ops if op.kind == "fresh-load"}
    for op in ops:
        if not op.kind.startswith("fresh") or op.kind == "fresh-load":
            continue
        begin = loaded.get(op.items[0])
        key = op.items[0][0]
        if begin is None or begin > op.end:
            verdict.violations.append(Violation("never-loaded", key, str(op), (op,)))
            continue
        age_s = op.begin - begin
        most_s = FRESH_LIFE_S + BUS_TRUST_S + LOAD_S
        if op.kind.endswith(MADE_UP):
            most_s += max(OUTAGE_TTL_S, FRESH_TTL_S)
        if age_s > most_s + AGE_SLACK_S:
            text = f"loaded {age_s:.3f} s before (at most {most_s:.3f} s)"
            verdict.violations.append(Violation("too-stale", key, text, (op,)))
    return verdict


SOAK: Final = Setup(
    options={
        **OPTIONS,
        "ON_ERROR": "degrade",
        "BREAKER_FAILURES": 2,
        "BREAKER_RETRY": 0.2,
        "OUTAGE_TTL": OUTAGE_TTL_S,
    },
    keys=(*SOAK_KEYS, *FRESH),
    worker="tests.proofs.soak.worker",
    server_args=(
        *("--enable-debug-command", "yes"),
        *("--loading-process-events-interval-bytes", "1024"),
    ),
    server_lane=SoakServerLane,
    judge=judge,
    call_limit_s=CALL_LIMIT_S,
    degrades=True,
)
