"""What the demo measures: each scene asks running shops over HTTP and says what it saw.

A scene prints nothing and promises nothing; demo.py does both.
"""

from __future__ import annotations

import secrets
import statistics
import time
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from typing import TYPE_CHECKING, Final

from redis import Redis

from example_project.client import Connection, connect, load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from example_project.stack import Service

__all__ = [
    "PAGES",
    "PRODUCT",
    "ColdKey",
    "LookupShare",
    "PriceChanges",
    "Throughput",
    "catalogue_page",
    "cold_key",
    "price_at",
    "price_changes",
    "throughput",
]

_CATEGORIES: Final = ("lamps", "chairs", "kitchen", "bags", "paper", "audio")
PAGES: Final = (
    "/",
    "/products/",
    *(f"/products/?page={number}" for number in range(2, 10)),
    *(f"/category/{slug}/" for slug in _CATEGORIES),
    *(f"/products/{pk}/" for pk in range(1, 600, 25)),
)

PRODUCT: Final = "/products/300/"
_POLLS: Final = 50


@dataclass(frozen=True, slots=True)
class LookupShare:
    """Which level answered the look-ups of one worker."""

    pid: int
    l1: int
    l2: int
    computed: int

    @property
    def l1_ratio(self) -> float:
        return self.l1 / max(1, self.l1 + self.l2 + self.computed)


@dataclass(frozen=True, slots=True)
class Throughput:
    """How one shop did under load; ``lookups`` is empty if its cache does not count."""

    rates: Sequence[float]
    requests: int
    cpu_s: float
    redis_commands: int
    lookups: Sequence[LookupShare]

    @property
    def median(self) -> float:
        return statistics.median(self.rates)

    @property
    def cpu_ms_per_request(self) -> float:
        return 1000 * self.cpu_s / self.requests

    @property
    def commands_per_request(self) -> float:
        return self.redis_commands / self.requests

    @property
    def l1_ratio(self) -> float:
        total = LookupShare(
            0,
            sum(share.l1 for share in self.lookups),
            sum(share.l2 for share in self.lookups),
            sum(share.computed for share in self.lookups),
        )
        return total.l1_ratio


class _Bench:
    """One shop under load: its connections and what its rounds came to."""

    def __init__(self, service: Service, redis: Redis, token: str, each: int) -> None:
        self._redis = redis
        self._token = token
        self._by_pid = connect(service, each)
        self._rates: list[float] = []
        self._requests = self._commands = 0

    def warm(self) -> None:
        """Ask each worker for each page; twice, so that what it missed is there."""
        firsts = [connections[0] for connections in self._by_pid.values()]
        for _ in range(2):
            for connection in firsts:
                for path in PAGES:
                    connection.get(path)
        self._before = self._ask_workers()

    def round(self, seconds: float, seed: int) -> None:
        """Write a price, so that pages are out of date, then ask for all pages."""
        connections = [one for held in self._by_pid.values() for one in held]
        before = self._commands_so_far()
        product = f"/products/{1 + 50 * seed}/"
        price = connections[0].get(f"{product}?format=json").json()["price"]
        connections[0].post(f"{product}price/", self._token, price=price)
        done = load(connections, PAGES, seconds, seed)
        self._commands += self._commands_so_far() - before
        self._requests += done.requests
        self._rates.append(done.rate)

    def result(self) -> Throughput:
        after = self._ask_workers()
        shares = [
            LookupShare(
                pid,
                *(
                    after[pid]["stats"][field] - before["stats"][field]
                    for field in ("l1_hits", "l2_hits", "misses")
                ),
            )
            for pid, before in self._before.items()
            if before["stats"]
        ]
        cpu_s = sum(
            after[pid]["cpu_s"] - before["cpu_s"]
            for pid, before in self._before.items()
        )
        return Throughput(self._rates, self._requests, cpu_s, self._commands, shares)

    def close(self) -> None:
        for held in self._by_pid.values():
            for connection in held:
                connection.close()

    def _ask_workers(self) -> dict[int, dict]:
        return {pid: held[0].stats() for pid, held in self._by_pid.items()}

    def _commands_so_far(self) -> int:
        return self._redis.info("stats")["total_commands_processed"]


def throughput(
    services: Mapping[str, Service],
    redis_url: str,
    token: str,
    *,
    rounds: int = 6,
    seconds: float = 0.8,
    each: int = 4,
) -> dict[str, Throughput]:
    """Load the shops in turns, ``each`` connections to every worker, all warm.

    Every round begins with the writing of a price: it stays the same, which no cache
    can know.
    """
    with Redis.from_url(redis_url) as redis:
        benches = {
            name: _Bench(service, redis, token, each)
            for name, service in services.items()
        }
        for bench in benches.values():
            bench.warm()
        turn = list(benches.values())
        for number in range(rounds):
            for bench in turn:
                bench.round(seconds, seed=number)
            # There and back, so that a machine that slows down slows both alike.
            turn.reverse()
        results = {name: bench.result() for name, bench in benches.items()}
        for bench in benches.values():
            bench.close()
    return results


@dataclass(frozen=True, slots=True)
class PriceChanges:
    """Price changes in one worker, watched in another.

    The delays run from the writer's answer to the arrival of the first answer with the
    new price; each contains at least one whole request. A delay of None means that the
    reader had not heard of the change after ``limit_s``. ``old_pages`` are HTML pages
    that showed another price than the last one, in either worker, when all was done.
    """

    writer: int
    reader: int
    delays_ms: Sequence[float | None]
    old_answers: int
    old_in_writer: int
    old_pages: Sequence[str]
    poll_ms: float
    limit_s: float

    @property
    def seen_ms(self) -> list[float]:
        return [delay for delay in self.delays_ms if delay is not None]


def price_changes(
    service: Service, token: str, *, changes: int = 20, limit_s: float = 5.0
) -> PriceChanges:
    """Change a price in one worker and ask the other until it knows."""
    (writer, (write,)), (reader, (read,)) = list(connect(service).items())[:2]
    original = price_at(write)
    delays: list[float | None] = []
    old_answers = old_in_writer = 0
    started = time.perf_counter()
    for _ in range(_POLLS):
        price_at(read)
    poll_ms = 1000 * (time.perf_counter() - started) / _POLLS
    for change in range(1, changes + 1):
        price = original + change
        price_at(read)
        write.post(f"{PRODUCT}price/", token, price=str(price))
        started = time.perf_counter()
        while (seen := price_at(read)) != price:
            old_answers += 1
            if time.perf_counter() - started > limit_s:
                break
        waited_ms = 1000 * (time.perf_counter() - started)
        delays.append(waited_ms if seen == price else None)
        old_in_writer += price_at(write) != price

    pages = (PRODUCT, catalogue_page(read))
    shown = {
        f"{path} in {pid}": connection.get(path).body
        for pid, connection in ((writer, write), (reader, read))
        for path in pages
    }
    old_pages = [where for where, body in shown.items() if str(price) not in str(body)]
    write.post(f"{PRODUCT}price/", token, price=str(original))
    write.close()
    read.close()
    return PriceChanges(
        writer,
        reader,
        delays,
        old_answers,
        old_in_writer,
        old_pages,
        poll_ms,
        limit_s,
    )


def price_at(connection: Connection) -> Decimal:
    """Ask for our product's price."""
    return Decimal(connection.get(f"{PRODUCT}?format=json").json()["price"])


def catalogue_page(connection: Connection) -> str:
    """Find the page of the catalogue that has our product on it."""
    return next(
        path
        for path in (f"/category/audio/?page={number}" for number in count(1))
        if f'"{PRODUCT}"'.encode() in connection.get(path).body
    )


@dataclass(frozen=True, slots=True)
class ColdKey:
    """Many threads, one key that no level has: how often it was built, and how long."""

    builds: int
    milliseconds: float


def cold_key(service: Service, *, threads: int = 64) -> ColdKey:
    """Ask a one-worker shop for a new report, in all its threads at once."""
    (connections,) = connect(service, threads).values()
    path = f"/slow-report/{secrets.token_hex(8)}/"
    started = time.perf_counter()
    for connection in connections:
        connection.send("GET", path)
    answers = [connection.receive() for connection in connections]
    milliseconds = 1000 * (time.perf_counter() - started)
    for connection in connections:
        connection.close()
    return ColdKey(max(answer.json()["builds"] for answer in answers), milliseconds)
