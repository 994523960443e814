"""One run of the process test: load under faults, then rest, then the judgement."""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import redis

from cachebridge.testing import RedisServer, redis_server
from tests.proofs.processes.checker import Violation, check
from tests.proofs.processes.faults import (
    BUS_TRUST_S,
    SOCKET_TIMEOUT_S,
    Lane,
    ServerLane,
    WorkerLane,
    heal,
)
from tests.proofs.processes.fleet import TASKS, THREADS, Fleet
from tests.proofs.processes.history import Op, by_key
from tests.proofs.processes.timeline import Timeline
from tests.proofs.processes.values import COUNTERS, KEYS, decode_raw, stamp_of
from tests.rig import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from tests.proofs.processes.history import KeyHistory, Seen

CONNECT_TIMEOUT_S: Final = 0.3
OPTIONS: Final[dict[str, Any]] = {
    # The checker must tell an outage from an answer, and the breaker would flush L1
    # where other rules are to be put to the test: tests/proofs/outages has both.
    "ON_ERROR": "raise",
    "BREAKER_FAILURES": 0,
    "LEASE_TTL": 1.0,
    "BUS_TRUST": BUS_TRUST_S,
    "BUS_HEARTBEAT": 0.2,
    "SOCKET_TIMEOUT": SOCKET_TIMEOUT_S,
    "SOCKET_CONNECT_TIMEOUT": CONNECT_TIMEOUT_S,
    "L1_TTL": 60.0,
    "TIMEOUT": None,
}
AGE_SLACK_S: Final = 0.05
"""All clocks are one clock, so a read older than BUS_TRUST needs no other excuse."""
REST_S: Final = 1.0
RECOVERY_S: Final = PATIENCE_S
SCHEDULING_SLACK_S: Final = 5.0
"""What a busy machine may add: a call that waits for what never comes takes longer."""
CALL_LIMIT_S: Final = CONNECT_TIMEOUT_S + 2 * SOCKET_TIMEOUT_S + SCHEDULING_SLACK_S
CALLS_OF_LOAD: Final = 3
SHOWN: Final = 5


class Store(Protocol):
    """Holds the values; a context manager that starts and stops it."""

    def __init__(self, server: RedisServer) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_exc: object) -> None: ...

    def location(self, proxy_url: str) -> tuple[str, dict[str, Any]]:
        """Return the LOCATION for a worker, and options; the proxy is its own."""

    def lane(
        self, setup: Setup, timeline: Timeline, seed: str, server: RedisServer
    ) -> Lane:
        """Make what happens to the servers."""

    def peek(self, keys: Collection[str]) -> dict[str, bytes | None]:
        """Read values past the library."""


class RedisItself:
    """The server that the proxies lead to."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        pass

    def location(self, proxy_url: str) -> tuple[str, dict[str, Any]]:
        """See ``Store``."""
        return proxy_url, {}

    def lane(
        self, setup: Setup, timeline: Timeline, seed: str, server: RedisServer
    ) -> Lane:
        """See ``Store``."""
        return setup.server_lane(timeline, seed, server)

    def peek(self, keys: Collection[str]) -> dict[str, bytes | None]:
        """See ``Store``."""
        with redis.Redis(port=self._server.port, socket_timeout=5) as client:
            return {key: client.get(key) for key in keys}  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class Setup:
    """What one kind of run is made of; this one is the process test."""

    options: dict[str, Any] = field(default_factory=lambda: OPTIONS)
    keys: tuple[str, ...] = KEYS
    worker: str = THREADS
    task_worker: str = TASKS
    server_args: tuple[str, ...] = ()
    server_lane: type[ServerLane] = ServerLane
    left_out: tuple[str, ...] = ()
    """Faults of workers that mean nothing here."""
    judge: Callable[[Outcome, Timeline, list[Op], float], None] | None = None
    call_limit_s: float = CALL_LIMIT_S
    degrades: bool = False
    """Whether outages are answered: then processes agree once they are over."""
    shares: bool = False
    """Whether every other process shares what it reads with the next but one."""
    store: type[Store] = RedisItself
    """Where the values are, beside the server that all this is about."""
    bound_s: float = BUS_TRUST_S
    """How old a read may be."""
    rest_s: float = REST_S
    """How long after the load all agree."""


@dataclass(slots=True)
class Outcome:
    """What a run found; ``is_good`` needs no violation and every fault fired."""

    seed: int
    bound_s: float = BUS_TRUST_S
    violations: list[Violation] = field(default_factory=list)
    fired: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    reads: int = 0
    ages: list[float] = field(default_factory=list)
    slowest: dict[str, float] = field(default_factory=dict)
    late_writes: int = 0
    outage_ages: list[float] | None = None
    """The ages of what was served instead of L2's answers, if that was allowed."""
    degraded: int = 0
    faults_missing: list[str] = field(default_factory=list)
    reports: dict[int, dict[str, Any]] = field(default_factory=dict)
    load_s: float = 0.0
    recovery_s: float = 0.0
    measured: list[str] = field(default_factory=list)
    """What one kind of run has to tell besides."""

    @property
    def is_good(self) -> bool:
        """Whether the run proves something and found nothing wrong."""
        return not self.violations and not self.faults_missing

    @property
    def rules_broken(self) -> set[str]:
        """The names of the rules that were broken."""
        return {violation.rule for violation in self.violations}

    def lines(self) -> Iterator[str]:
        """Tell everything worth knowing."""
        oldest = max(self.ages, default=0.0)
        yield (
            f"seed {self.seed}: {self.load_s:.0f} s of load, "
            f"{sum(self.calls.values())} calls, {sum(self.errors.values())} of them "
            f"failed, {self.reads} reads judged"
        )
        yield "calls: " + _counts(self.calls)
        yield "errors: " + _counts(self.errors)
        yield "faults fired: " + _counts(self.fired)
        yield (
            f"reads of superseded values: {len(self.ages)}, oldest {oldest:.3f} s "
            f"(bound {self.bound_s} s); late writes seen: {self.late_writes}"
        )
        if self.outage_ages is not None:
            yield (
                f"answers without Redis: {self.degraded}, {len(self.outage_ages)} of "
                f"them superseded, oldest {max(self.outage_ages, default=0.0):.3f} s"
            )
        slowest = ", ".join(f"{k} {v:.2f}" for k, v in sorted(self.slowest.items()))
        yield f"slowest call in seconds: {slowest}"
        yield f"all trusted again {self.recovery_s:.1f} s after the load's end"
        for writer, report in self.reports.items():
            yield (
                f"process {writer}: {report['l1_hits']} L1 hits, {report['shared']} of "
                f"them shared, {report['l2_hits']} L2 hits, {report['evictions']} "
                f"evictions, flushes {report['flushes']}, "
                f"fills refused {report['refused']}"
            )
        yield from self.measured
        for name in self.faults_missing:
            yield f"NEVER FIRED: {name}"
        rules = Counter(violation.rule for violation in self.violations)
        yield f"violations: {_counts(rules)}" if rules else "violations: none"
        yield from map(str, self.violations[:SHOWN])


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {counter[name]}" for name in sorted(counter))


def run(
    *,
    seed: int,
    seconds: float,
    mutant: str = "",
    only: Collection[str] = (),
    processes: int = 4,
    gevent_slots: Collection[int] = (),
    task_slots: Collection[int] = (),
    setup: Setup | None = None,
) -> Outcome:
    """Run once, with ``only`` these faults if any are named.

    The processes of ``gevent_slots`` are patched by gevent, those of ``task_slots`` use
    the asynchronous methods.
    What it finds is in the outcome; it raises only if it cannot run.
    """
    setup = setup or Setup()
    outcome = Outcome(seed, setup.bound_s)
    timeline = Timeline()
    with (
        tempfile.TemporaryDirectory(prefix="cachebridge-run-") as directory,
        ExitStack() as running,
    ):
        server = redis_server(args=setup.server_args)
        store = running.enter_context(setup.store(server))
        fleet = Fleet(
            server,
            timeline,
            Path(directory),
            processes=processes,
            seed=seed,
            mutant=mutant,
            gevent_slots=gevent_slots,
            task_slots=task_slots,
            options=setup.options,
            locate=store.location,
            worker=setup.worker,
            task_worker=setup.task_worker,
            shares=setup.shares,
        )
        server_lane = store.lane(setup, timeline, f"{seed}/server", server)
        lanes = (server_lane, WorkerLane(timeline, f"{seed}/workers", fleet))
        for name in setup.left_out:
            lanes[1].leave_out(name)
        try:
            _load(outcome, server, fleet, lanes, seconds=seconds, only=only)
            _rest(outcome, store, fleet, setup)
        finally:
            fleet.stop()
            server.stop()
        ops = list(fleet.ops())
        (setup.judge or judge)(outcome, timeline, ops, fleet.started)
        measure_calls(outcome, timeline, ops, setup.call_limit_s)
    return outcome


def _load(
    outcome: Outcome,
    server: RedisServer,
    fleet: Fleet,
    lanes: tuple[Lane, WorkerLane],
    *,
    seconds: float,
    only: Collection[str],
) -> None:
    """Let the processes work while both lanes deal their faults, then heal all."""
    worker_lane = lanes[1]
    if only:
        for lane in lanes:
            lane.keep_only(only)
    fleet.ask("ready")
    until = time.monotonic() + seconds
    for thread in [lane.start(until) for lane in lanes]:
        thread.join()
    if "cut_and_refuse" in worker_lane.faults:
        worker_lane.strike_last()
    answers = fleet.ask("stop")
    heal(server, fleet)
    for lane in lanes:
        if lane.error is not None:
            raise lane.error
    outcome.fired = worker_lane.timeline.fired
    outcome.faults_missing = [name for lane in lanes for name in lane.missing()]
    for writer, answer in answers.items():
        for failure in answer["failures"] + answer["stuck"]:
            outcome.violations.append(
                Violation("exception", f"process {writer}", failure)
            )
    outcome.load_s = time.monotonic() - fleet.started


def _rest(outcome: Outcome, store: Store, fleet: Fleet, setup: Setup) -> None:
    """After one second all agree; when all trust their L1 again they still do (I1)."""
    began = time.monotonic()
    time.sleep(setup.rest_s)
    if not setup.degrades:
        when = f"{setup.rest_s:.0f} s after the end"
        _compare(outcome, store, fleet, setup.keys, when)
    while True:
        outcome.reports = fleet.ask("report")
        outcome.recovery_s = time.monotonic() - began
        if all(map(_is_well, outcome.reports.values())):
            break
        if outcome.recovery_s > RECOVERY_S:
            for writer, report in outcome.reports.items():
                if not _is_well(report):
                    text = f"L1 still off after {outcome.recovery_s:.1f} s"
                    outcome.violations.append(
                        Violation("no-recovery", f"process {writer}", text)
                    )
            return
        time.sleep(0.1)
    hits = {writer: report["l1_hits"] for writer, report in outcome.reports.items()}
    present = _compare(outcome, store, fleet, setup.keys, "when all trust L1")
    for writer, report in outcome.reports.items():
        if report["l1_hits"] - hits[writer] < present:
            text = f"{report['l1_hits'] - hits[writer]} L1 hits for {present} keys"
            outcome.violations.append(Violation("l1-idle", f"process {writer}", text))


def _is_well(report: dict[str, Any]) -> bool:
    return report["trusted"] and not report["in_outage"]


def _compare(
    outcome: Outcome,
    store: Store,
    fleet: Fleet,
    keys: tuple[str, ...],
    when: str,
) -> int:
    """Ask all processes, and the store itself; return how many keys exist."""
    outcome.reports = fleet.ask("report")
    stamps = store.peek([stamp_of(key) for key in keys])
    truth = {
        key: decode_raw(key, raw, stamps[stamp_of(key)])
        for key, raw in store.peek(keys).items()
    }
    for writer, report in outcome.reports.items():
        where = f"process {writer}"
        if report["error"]:
            outcome.violations.append(Violation("exception", where, report["error"]))
        if not report["idle"]:
            outcome.violations.append(
                Violation("not-idle", where, "a fill, write or load is still open")
            )
        for key, values in report["values"].items():
            if any(value != truth[key] for value in values):
                text = f"{where} has {values}, the store has {truth[key]} {when}"
                outcome.violations.append(Violation("disagreement", key, text))
    return sum(ident is not None for ident in truth.values())


def judge(
    outcome: Outcome,
    timeline: Timeline,
    ops: list[Op],
    started: float,
    *,
    amend: Callable[[dict[str, KeyHistory]], None] = lambda _histories: None,
) -> None:
    """Check the whole history, as ``amend`` has changed it."""
    histories = by_key(ops)
    timeline.add_losses(histories, KEYS, started)
    timeline.settle(histories)
    amend(histories)
    bound_s = outcome.bound_s + AGE_SLACK_S
    verdict = check(histories, bound_s=bound_s, counters=COUNTERS)
    outcome.reads, outcome.ages = verdict.reads, verdict.ages
    accuse(outcome, timeline, verdict.violations)
    for history in histories.values():
        failed: dict[Seen, float] = {
            write.value: write.op.end
            for write in history.writes
            if isinstance(write.op, Op) and write.op.error and write.value is not None
        }
        seen_at = {read.seen: read.begin for read in history.reads}
        outcome.late_writes += sum(
            seen_at.get(value, 0.0) > end for value, end in failed.items()
        )


def accuse(
    outcome: Outcome, timeline: Timeline, violations: Collection[Violation]
) -> None:
    """Add violations to the outcome, each with the faults of its time."""
    for violation in violations:
        calls = [call for call in violation.proof if isinstance(call, Op)]
        faults = timeline.during(
            min((op.called for op in calls), default=math.inf),
            max((op.end for op in calls if op.end < math.inf), default=0.0),
        )
        outcome.violations.append(
            Violation(
                violation.rule,
                violation.key,
                violation.text,
                (*violation.proof, *faults),
            )
        )


def measure_calls(
    outcome: Outcome, timeline: Timeline, ops: list[Op], limit_s: float
) -> None:
    """Count the calls, and find those that took too long without being stopped."""
    threads = Counter({op.worker: op.thread + 1 for op in sorted(ops, key=_thread)})
    for op in ops:
        outcome.calls[op.kind] += 1
        if op.end == math.inf:
            continue
        if op.error:
            outcome.errors[op.error.split(":")[0]] += 1
        slot, _ = timeline.lives[op.worker]
        if timeline.was_stopped(slot, op.called, op.end):
            continue
        took_s = op.end - op.called
        outcome.slowest[op.kind] = max(took_s, outcome.slowest.get(op.kind, 0.0))
        # A load asks up to three times, and waits for every thread before it.
        turns = CALLS_OF_LOAD * threads[op.worker] if "load" in op.kind else 1
        if took_s > turns * limit_s:
            faults = timeline.during(op.called, op.end)
            text = f"{op.kind} took {took_s:.2f} s"
            outcome.violations.append(
                Violation("slow", f"process {op.worker}", text, (op, *faults))
            )


def _thread(op: Op) -> int:
    return op.thread
