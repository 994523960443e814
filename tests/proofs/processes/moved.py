"""The process test over an address that moves, while the old server goes on as before.

No connection ends and nothing is refused: a process has to find out by itself, by
asking the address now and then.  Until all have, two servers take writes, and what the
old one was told is lost.  So of a move's time nothing is judged but its length.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import redis

from cachebridge.engine.engine import RENEW_EVERY_S
from tests.proofs.processes.checker import Violation
from tests.proofs.processes.failover import (
    QUICK_SYNC,
    Exchanging,
    FailoverLane,
    replication_of,
)
from tests.proofs.processes.history import UNKNOWN
from tests.proofs.processes.run import SCHEDULING_SLACK_S, Setup, judge
from tests.proofs.processes.timeline import SERVER
from tests.rig import eventually

if TYPE_CHECKING:
    from cachebridge.testing import RedisServer
    from tests.proofs.processes.faults import Lane
    from tests.proofs.processes.history import KeyHistory, Op, Read, Write
    from tests.proofs.processes.run import Outcome
    from tests.proofs.processes.timeline import Timeline

MOVE: Final = "move_address"
STAYED: Final = "stayed_behind"
FOLLOWED_S: Final = RENEW_EVERY_S + SCHEDULING_SLACK_S
"""How long after a move all processes use the new server: see docs/guarantees.md."""
PAUSE_MS: Final = 10_000
Window = tuple[float, float]


class MovingLane(FailoverLane):
    """One fault: the address leads to the other server, and the first stays up."""

    def __init__(
        self, timeline: Timeline, seed: str, server: RedisServer, pair: Moving
    ) -> None:
        super().__init__(timeline, seed, server, pair)
        self.faults = {MOVE: self._move}

    def _move(self) -> bool:
        with self.timeline.fault(MOVE, SERVER, holds_back=True):
            self._pair.exchange()
            try:
                eventually(self._pair.is_left, timeout_s=FOLLOWED_S)
            except AssertionError:
                with self.timeline.fault(STAYED, SERVER):
                    pass
        time.sleep(self.random.uniform(2.0, 3.0))
        return True


class Moving(Exchanging):
    """Two servers that both take writes; see ``Store``."""

    def lane(
        self, _setup: Setup, timeline: Timeline, seed: str, server: RedisServer
    ) -> Lane:
        """Make what happens to the servers."""
        return MovingLane(timeline, seed, server, self)

    def hand_over(self, at_old: redis.Redis, at_new: redis.Redis) -> None:
        """Let the address lead to a copy of the server; the old one stays up."""
        eventually(lambda: replication_of(at_new)["master_link_status"] == "up")
        at_old.client_pause(PAUSE_MS, all=False)
        sent = replication_of(at_old)["master_repl_offset"]
        eventually(lambda: replication_of(at_new)["slave_repl_offset"] >= sent)
        at_new.replicaof("NO", "ONE")
        self._address.lead_to(self._other.host, self._other.port)
        at_old.client_unpause()

    def is_left(self) -> bool:
        """Return whether no process has a connection to the old server any more."""
        with redis.Redis(port=self._other.port, socket_timeout=5) as client:
            own = client.client_id()
            return all(each["id"] == str(own) for each in client.client_list())


def judge_moves(
    outcome: Outcome, timeline: Timeline, ops: list[Op], started: float
) -> None:
    """Check the history but for the moves, each of which all must have followed."""
    windows = [(each.begin, each.end) for each in timeline.faults if each.name == MOVE]
    judge(outcome, timeline, ops, started, amend=partial(doubt, windows))
    outcome.violations += [
        Violation("stayed-behind", "", f"a process, for {FOLLOWED_S} s", (each,))
        for each in timeline.faults
        if each.name == STAYED
    ]


def doubt(windows: list[Window], histories: dict[str, KeyHistory]) -> None:
    """Take what was read while an address moved for nothing, writes for possible."""
    for history in histories.values():
        history.reads = [read for read in history.reads if not _meets(read, windows)]
        history.writes = [
            _doubted(write) if _meets(write, windows) else write
            for write in history.writes
        ]


def _doubted(write: Write) -> Write:
    is_count = getattr(write.op, "kind", "") == "incr"
    value = UNKNOWN if is_count else write.value
    return replace(write, value=value, is_sure=False)


def _meets(call: Read | Write, windows: list[Window]) -> bool:
    return any(call.begin <= end and call.end >= begin for begin, end in windows)


MOVES = Setup(store=Moving, judge=judge_moves, server_args=QUICK_SYNC)
