"""The process test over two servers whose parts change: planned failovers, no loss.

The old primary stays up, as a replica that lags for good, and keeps all connections.
All workers follow one address, which then leads to the new one, as managed services do
it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

import redis

from cachebridge.testing import FaultProxy, redis_server
from tests.proofs.processes.checker import Violation
from tests.proofs.processes.faults import ServerLane
from tests.proofs.processes.run import Setup, judge
from tests.proofs.processes.timeline import SERVER, Timeline
from tests.rig import eventually

if TYPE_CHECKING:
    from collections.abc import Collection

    from cachebridge.testing import RedisServer
    from tests.proofs.processes.faults import Lane
    from tests.proofs.processes.history import Op
    from tests.proofs.processes.run import Outcome

QUICK_SYNC = ("--repl-diskless-sync-delay", "0")
OF_THE_NODE = {"strict", "went-back"}
"""Rules that hold at one server only: until it is found out, the old one answers."""


class FailoverLane(ServerLane):
    """One fault: the servers exchange their parts."""

    def __init__(
        self, timeline: Timeline, seed: str, server: RedisServer, pair: Exchanging
    ) -> None:
        super().__init__(timeline, seed, server)
        self._pair = pair
        self.faults = {"fail_over": self._fail_over}

    def _fail_over(self) -> bool:
        with self.timeline.fault("fail_over", SERVER, holds_back=True):
            self._pair.exchange()
        time.sleep(self.random.uniform(0.5, 2.0))
        return True


class Exchanging:
    """Two servers behind one address; see ``Store``."""

    def __init__(self, server: RedisServer) -> None:
        self._primary, self._other = server, redis_server(args=QUICK_SYNC)
        self._address = FaultProxy(server.host, server.port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._address.stop()
        self._primary.kill()  # in good order they would wait for each other
        self._other.kill()
        self._other.stop()

    def location(self, _proxy_url: str) -> tuple[str, dict[str, Any]]:
        """Return the address that all workers share."""
        return self._address.url, {}

    def lane(
        self, _setup: Setup, timeline: Timeline, seed: str, server: RedisServer
    ) -> Lane:
        """Make what happens to the servers."""
        return FailoverLane(timeline, seed, server, self)

    def exchange(self) -> None:
        """Let the other one become the primary, without losing a write."""
        old, new = self._primary, self._other
        with (
            redis.Redis(port=old.port, socket_timeout=5) as at_old,
            redis.Redis(port=new.port, socket_timeout=5) as at_new,
        ):
            at_new.replicaof(old.host, old.port)
            self.hand_over(at_old, at_new)
        self._primary, self._other = new, old

    def hand_over(self, at_old: redis.Redis, at_new: redis.Redis) -> None:
        """Demote the old one, which lags from then on; the address leads to the new."""
        eventually(lambda: "online" in str(replication_of(at_old).get("slave0")))
        new = self._other
        at_old.execute_command("FAILOVER", "TO", new.host, new.port)
        eventually(lambda: replication_of(at_new)["role"] == "master")
        eventually(lambda: replication_of(at_old)["role"] == "slave")
        at_old.replicaof("127.0.0.1", 1)
        self._address.lead_to(new.host, new.port)

    def peek(self, keys: Collection[str]) -> dict[str, bytes | None]:
        """Read values past the library."""
        with redis.Redis(port=self._primary.port, socket_timeout=5) as client:
            return {key: client.get(key) for key in keys}  # type: ignore[misc]


def replication_of(client: redis.Redis) -> dict[str, Any]:
    """Return what a server says of its replication."""
    return client.info("replication")  # type: ignore[return-value]


def judge_failovers(
    outcome: Outcome, timeline: Timeline, ops: list[Op], started: float
) -> None:
    """Check the history: no read is older than BUS_TRUST, no increment is lost.

    Nor is any call refused once the address leads to a primary again.
    """
    judge(outcome, timeline, ops, started)
    outcome.violations = [
        each for each in outcome.violations if each.rule not in OF_THE_NODE
    ]
    outcome.violations += [
        Violation("refused", f"process {op.worker}", str(op.error))
        for op in ops
        if "READONLY" in str(op.error) and not timeline.during(op.called, op.end)
    ]


FAILOVERS = Setup(store=Exchanging, judge=judge_failovers, server_args=QUICK_SYNC)
