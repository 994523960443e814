"""Judges a history over a cluster, and measures what each phase has cost.

A master that is killed, or cut off until its replica is promoted, loses writes that it
has confirmed: Redis replicates later.  So of its keys nothing is judged in that time,
and writes count as possible.  So it is with values whose stamp it had.  All other keys
keep every rule through all phases.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Self

import redis

from cachebridge.testing import redis_cluster
from tests.proofs.cluster.phases import (
    DOWN,
    MOVING,
    NODE_TIMEOUT_MS,
    ClusterLane,
    Phase,
)
from tests.proofs.cluster.worker import L1_OFF
from tests.proofs.processes.checker import Violation
from tests.proofs.processes.history import ABSENT, Write
from tests.proofs.processes.moved import doubt
from tests.proofs.processes.run import (
    CONNECT_TIMEOUT_S,
    OPTIONS,
    SCHEDULING_SLACK_S,
    Setup,
    accuse,
    judge,
)
from tests.proofs.processes.values import names_of
from tests.proofs.soak import judge as soak

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from cachebridge.testing import RedisServer
    from tests.proofs.processes.faults import Lane
    from tests.proofs.processes.history import KeyHistory, Op
    from tests.proofs.processes.run import Outcome
    from tests.proofs.processes.timeline import Timeline

LAG_S: Final = 1.0
"""For so long before a kill confirmed writes may not have reached the replica."""
TIMEOUT_S: Final = 1.0
BUSY: Final = "TimeoutError"
"""What calls fail with on a machine that is busy elsewhere, whatever the phase."""
LISTING: Final = frozenset({"clear", "delete_pattern"})
"""Calls that ask every master for its keys."""
SHOWN: Final = 4
WORDS: Final = 8
"""How many words of an error tell its kind."""
FIRST_S: Final = 0.3
"""A master that is killed takes so long to be refused: calls under way end later."""


class OfCluster:
    """Three masters with a replica each; see ``Store``."""

    def __init__(self, _server: RedisServer) -> None:
        self._cluster = redis_cluster(
            masters=3,
            replicas=1,
            node_timeout_ms=NODE_TIMEOUT_MS,
            require_full_coverage=False,
            bus_proxies=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._cluster.stop()

    def location(self, _proxy_url: str) -> tuple[str, dict[str, Any]]:
        """Return the addresses of the first masters; the proxy is not used."""
        return self._cluster.url, {}

    def lane(
        self, setup: Setup, timeline: Timeline, seed: str, _server: RedisServer
    ) -> Lane:
        """Make what happens to the nodes."""
        return ClusterLane(timeline, seed, self._cluster, names_of(setup.keys))

    def peek(self, keys: Collection[str]) -> dict[str, bytes | None]:
        """Read values past the library."""
        found: dict[str, bytes | None] = {}
        for key in keys:
            port = self._cluster.node_of(key).port
            with redis.Redis(port=port, socket_timeout=5) as client:
                found[key] = client.get(key)  # type: ignore[assignment]
        return found


def judge_cluster(
    outcome: Outcome, timeline: Timeline, ops: list[Op], started: float
) -> None:
    """Check the history, and note what was measured."""
    _judge(judge, outcome, timeline, ops, started)
    accuse(outcome, timeline, unserved(phases_of(timeline), ops))


def judge_soak(
    outcome: Outcome, timeline: Timeline, ops: list[Op], started: float
) -> None:
    """Do the same where outages are answered, and do not say why."""
    _judge(soak.judge, outcome, timeline, ops, started)


def _judge(
    by_rules: Callable[..., None],
    outcome: Outcome,
    timeline: Timeline,
    ops: list[Op],
    started: float,
) -> None:
    rests = [op for op in ops if op.kind == L1_OFF]
    ops[:] = [op for op in ops if op.kind != L1_OFF]
    phases = sorted(phases_of(timeline), key=lambda phase: phase.begin)
    by_rules(outcome, timeline, ops, started, amend=partial(amend, phases))
    outcome.measured += measure(phases, ops, rests)


def phases_of(timeline: Timeline) -> list[Phase]:
    """Return the phases among all faults."""
    return [fault for fault in timeline.faults if isinstance(fault, Phase)]


def amend(phases: Iterable[Phase], histories: dict[str, KeyHistory]) -> None:
    """Tell the history what the loss of a master does to its keys."""
    for phase in phases:
        if phase.name in MOVING:
            for history in histories.values():
                history.writes = [_spared(write, phase) for write in history.writes]
        for key, history in histories.items():
            if phase.keys.isdisjoint(names_of((key,))):
                continue
            if phase.loses_writes:
                doubt([(phase.begin - LAG_S, phase.end)], {key: history})
            if phase.died:
                text = f"{phase.died:.4f} its only master is dead, its data lost"
                lost = Write(ABSENT, phase.died, phase.died, True, -1, text)
                history.writes.append(lost)


def _spared(write: Write, phase: Phase) -> Write:
    """Return a listing delete as one that may have missed keys that moved meanwhile."""
    if (
        getattr(write.op, "kind", "") in LISTING
        and write.begin < phase.end
        and write.end > phase.begin
    ):
        return replace(write, is_sure=False)
    return write


def unserved(phases: Iterable[Phase], ops: Iterable[Op]) -> list[Violation]:
    """Return calls that failed though all their masters were there."""
    downs = [phase for phase in phases if phase.name == DOWN]
    return [
        Violation("unserved", f"process {op.worker}", op.error, (op,))
        for op in ops
        for phase in downs
        if op.error
        and op.is_write
        and BUSY not in op.error
        and phase.begin + FIRST_S < op.begin
        and op.end < phase.end
        and op.kind not in LISTING
        and phase.keys.isdisjoint(names_of(key for key, _ in op.items))
    ]


def measure(phases: list[Phase], ops: list[Op], rests: list[Op]) -> list[str]:
    """Tell of each phase which calls failed, and for how long what was not there."""
    ends = [*(phase.begin for phase in phases[1:]), math.inf]
    return [
        line
        for phase, end in zip(phases, ends, strict=True)
        for line in _measured(phase, end, ops, rests)
    ]


def _measured(
    phase: Phase, end: float, ops: list[Op], rests: list[Op]
) -> Iterator[str]:
    failed = Counter(
        " ".join(op.error.split()[:WORDS])
        for op in ops
        if op.error and phase.begin < op.begin < end
    )
    off_s = {op.worker: 0.0 for op in ops if phase.begin < op.begin < phase.end}
    for rest in rests:
        within_s = min(rest.end, end) - max(rest.begin, phase.begin)
        if rest.worker in off_s and within_s > 0:
            off_s[rest.worker] += within_s
    yield (
        f"{phase.name} took {phase.end - phase.begin:.1f} s: "
        f"{failed.total()} calls failed; L1 off (s): {_seconds(off_s.values())}"
    )
    if phase.promoted:
        pauses = pauses_of_writes(phase, end, ops)
        yield (
            f"    promoted after {phase.promoted - phase.begin:.2f} s; longest time "
            f"between two writes (s): {_seconds(pauses.values())}"
        )
    yield from (f"    {count} {error}" for error, count in failed.most_common(SHOWN))


def pauses_of_writes(phase: Phase, end: float, ops: Iterable[Op]) -> dict[int, float]:
    """Return how long each process has not written the keys of the lost master."""
    written: dict[int, list[float]] = defaultdict(list)
    for op in ops:
        counts = op.is_write and op.is_sure and op.kind != "load"  # it does without
        if not counts or not {key for key, _ in op.items} & phase.keys:
            continue
        if phase.begin - LAG_S < op.end < end:
            written[op.worker].append(op.end)
    return {
        worker: max((b - a for a, b in pairwise(sorted(ends))), default=math.inf)
        for worker, ends in written.items()
    }


def _seconds(found: Iterable[float]) -> str:
    return ", ".join(f"{each:.2f}" for each in sorted(found)) or "none"


CLUSTER: Final = Setup(
    options={**OPTIONS, "SOCKET_TIMEOUT": TIMEOUT_S},
    worker="tests.proofs.cluster.worker",
    task_worker="tests.proofs.cluster.task_worker",
    store=OfCluster,
    judge=judge_cluster,
    call_limit_s=2 * (CONNECT_TIMEOUT_S + TIMEOUT_S) + TIMEOUT_S + SCHEDULING_SLACK_S,
)

OF_PROXIES: Final = (
    *("delay", "cut", "cut_and_refuse", "silence", "silence_beyond_trust"),
    *("half_close", "truncate", "late_write"),
)
"""Faults on the way to a server: here no proxy is on it."""
CLUSTER_SOAK: Final = replace(
    soak.SOAK,
    options={**soak.SOAK.options, "SOCKET_TIMEOUT": TIMEOUT_S},
    worker="tests.proofs.cluster.soak_worker",
    server_args=(),
    left_out=OF_PROXIES,
    store=OfCluster,
    judge=judge_soak,
    call_limit_s=CLUSTER.call_limit_s,
)
