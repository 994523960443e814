"""The demo's scenes of an outage: Redis, or a cluster's master, is killed under load.

Redis comes back with its old data, also of a price that was changed in the meantime.
The replica that takes the place of a master has the same. That old price must not be
seen again.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Final

from example_project.client import UnexpectedAnswerError, connect, shuffles
from example_project.scenes import PAGES, PRODUCT, catalogue_page, price_at

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cachebridge.testing import RedisCluster, RedisServer
    from example_project.client import Connection
    from example_project.stack import Service

__all__ = ["KEEPS_DATA", "Outage", "lose_master", "outage"]

KEEPS_DATA: Final = ("--appendonly", "yes")
"""Arguments of a Redis that a kill does not make forget."""
_ITS_KEY: Final = f":1:product:{PRODUCT.strip('/').split('/')[-1]}"
"""What the shop keeps of our product."""
_RECOVERY_LIMIT_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Phase:
    """The requests of one phase, all workers together."""

    requests: int
    seconds: float
    slowest_ms: float
    l1_hits: int

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


@dataclass(frozen=True, slots=True)
class Outage:
    """What visitors saw of it; ``during`` ends when the server is back, or replaced."""

    before: Phase
    during: Phase
    after: Phase
    failed: Sequence[str]
    """Requests that were not answered with 200."""
    recovery_s: float | None
    """From then on until every worker trusts L1 again; None: not in time."""
    stale: Sequence[str]
    """Where an outdated price was seen after the recovery."""


class _Visitors:
    """Ask for pages on every connection until they are told to leave."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self._leaving = Event()
        self._took_ms: list[tuple[float, float]] = []
        self._pool = ThreadPoolExecutor(len(connections))
        self.failed: list[str] = []
        for number, connection in enumerate(connections):
            self._pool.submit(self._walk, connection, number)

    def _walk(self, connection: Connection, seed: int) -> None:
        for paths in shuffles(PAGES, seed):
            for path in paths:
                if self._leaving.is_set():
                    return
                began = time.monotonic()
                try:
                    connection.get(path)
                except (UnexpectedAnswerError, OSError) as exc:
                    self.failed.append(f"{path}: {exc}"[:200])
                self._took_ms.append((began, 1000 * (time.monotonic() - began)))

    def between(self, begin: float, end: float) -> list[float]:
        """Return how long each request of a phase took, in milliseconds."""
        return [took for began, took in self._took_ms if begin <= began < end]

    def leave(self) -> None:
        self._leaving.set()
        self._pool.shutdown()


def outage(server: RedisServer, service: Service, token: str) -> Outage:
    """Kill Redis while visitors walk through the shop; change a price meanwhile."""
    return _outage(service, token, server.kill, server.restart, outage_s=4.0)


def lose_master(cluster: RedisCluster, service: Service, token: str) -> Outage:
    """Kill the master that has the product; its replica takes over by itself."""
    master = cluster.node_of(_ITS_KEY)
    return _outage(
        service,
        token,
        lambda: cluster.kill(master),
        lambda: cluster.await_failover(master),
        outage_s=1.0,
    )


def _outage(
    service: Service,
    token: str,
    kill: Callable[[], object],
    restore: Callable[[], object],
    *,
    outage_s: float,
    before_s: float = 1.5,
    after_s: float = 1.5,
) -> Outage:
    held = connect(service, 4)
    askers = {pid: connections.pop() for pid, connections in held.items()}
    writer = next(iter(askers.values()))
    old_price = price_at(writer)
    shown_on = (PRODUCT, catalogue_page(writer))
    for asker in askers.values():
        for path in (*PAGES, *shown_on):
            asker.get(path)
    visitors = _Visitors([one for held in held.values() for one in held])
    try:
        marks = [_Mark.of(askers)]
        time.sleep(before_s)
        marks.append(_Mark.of(askers))
        kill()
        time.sleep(outage_s / 2)
        writer.post(f"{PRODUCT}price/", token, price=str(old_price + 1))
        time.sleep(outage_s / 2)
        restore()
        marks.append(_Mark.of(askers))
        recovery_s = _await_recovery(askers)
        marks.append(_Mark.of(askers))
        time.sleep(after_s)
        marks.append(_Mark.of(askers))
        stale = [
            f"{path} in worker {pid}"
            for pid, asker in askers.items()
            for path in shown_on
            if str(old_price + 1) not in str(asker.get(path).body)
        ]
    finally:
        visitors.leave()
    writer.post(f"{PRODUCT}price/", token, price=str(old_price))
    for connections in (*held.values(), list(askers.values())):
        for connection in connections:
            connection.close()
    return Outage(
        _phase(visitors, *marks[0:2]),
        _phase(visitors, *marks[1:3]),
        _phase(visitors, *marks[3:5]),
        visitors.failed,
        recovery_s,
        stale,
    )


@dataclass(frozen=True, slots=True)
class _Mark:
    """A moment, and how many hits L1 had given until then."""

    at: float
    l1_hits: int

    @classmethod
    def of(cls, askers: dict[int, Connection]) -> _Mark:
        hits = sum(asker.stats()["stats"]["l1_hits"] for asker in askers.values())
        return cls(time.monotonic(), hits)


def _phase(visitors: _Visitors, begin: _Mark, end: _Mark) -> Phase:
    took_ms = visitors.between(begin.at, end.at)
    return Phase(
        len(took_ms),
        end.at - begin.at,
        max(took_ms, default=0.0),
        end.l1_hits - begin.l1_hits,
    )


def _await_recovery(askers: dict[int, Connection]) -> float | None:
    began = time.monotonic()
    while (waited_s := time.monotonic() - began) < _RECOVERY_LIMIT_S:
        states = [asker.stats()["health"] for asker in askers.values()]
        if all(s["l1_trusted"] and not s["breaker_open"] for s in states):
            return waited_s
        time.sleep(0.02)
    return None
