"""The scene of the two frameworks: a Django shop and a Flask service over one cache.

Prices are changed in a worker of the one and watched in a worker of the other, in both
directions.
"""

from __future__ import annotations

import statistics
import time
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from example_project import stack
from example_project.client import connect
from example_project.telling import sum_up

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from example_project.client import Connection
    from example_project.stack import Service

__all__ = [
    "Direction",
    "one_worker_each",
    "play",
    "price_service",
    "report",
    "watch",
]

_PRODUCT: Final = "/products/300/"
_CHANGES: Final = 20
_LIMIT_S: Final = 5.0
_POLLS: Final = 50


@dataclass(frozen=True, slots=True)
class Direction:
    """Price changes in one service, watched in the other.

    The delays run from the writer's answer to the arrival of the first answer with the
    new price, so each contains a whole request.  None means: not within the limit.
    """

    writer: str
    reader: str
    delays_ms: Sequence[float | None]
    old_answers: int
    poll_ms: float

    @property
    def seen_ms(self) -> list[float]:
        return [delay for delay in self.delays_ms if delay is not None]


def price_service(redis_url: str, *, workers: int = 2, threads: int = 8) -> Service:
    """Describe the Flask service over the shop's cache and database."""
    return stack.Service(
        "price-service",
        stack.gunicorn(
            "example_project.price_service:create_app()",
            workers=workers,
            threads=threads,
        ),
        {
            "CACHEBRIDGE_ROLE": "prices",
            "SHOP_REDIS_URL": redis_url,
            "SHOP_STAFF_TOKEN": stack.STAFF_TOKEN,
        },
        workers,
    )


def play(shop: Service, service: Service, *, number: int) -> list[str]:
    """Print the delays in both directions; return the promises that did not hold."""
    title = "Django and Flask over one cache"
    return report(number, title, watch(shop, service))


def report(number: int, title: str, directions: Sequence[Direction]) -> list[str]:
    """Print the delays; return the promises that did not hold."""
    broken = []
    print(f"{number}. {title}: {_CHANGES} price changes each way")
    _row("", "median", "longest", "one request", "old answers")
    for seen in directions:
        late = len(seen.delays_ms) - len(seen.seen_ms)
        if seen.seen_ms:
            _row(
                f"from {seen.writer} to {seen.reader}",
                f"{statistics.median(seen.seen_ms):.1f} ms",
                f"{max(seen.seen_ms):.1f} ms",
                f"{seen.poll_ms:.1f} ms",
                str(seen.old_answers),
            )
            sum_up(
                f"{seen.writer} to {seen.reader}: "
                f"{statistics.median(seen.seen_ms):.1f} ms, at most "
                f"{max(seen.seen_ms):.1f} ms"
            )
        if late:
            broken.append(
                f"{late} prices changed in {seen.writer} were not served by "
                f"{seen.reader} within {_LIMIT_S:.0f} s"
            )
    print("   old answers: to polls that came before the message of the change\n")
    return broken


def watch(
    shop: Service, service: Service, names: tuple[str, str] = ("Django", "Flask")
) -> list[Direction]:
    """Measure from the shop to the service, then back."""
    one, other = names
    with one_worker_each(shop, service) as (in_shop, in_service):
        return [
            _direction(one, in_shop, other, in_service),
            _direction(other, in_service, one, in_shop),
        ]


@contextmanager
def one_worker_each(*services: Service) -> Iterator[list[Connection]]:
    """Hold a connection to a worker of each service."""
    held = [connect(each) for each in services]
    try:
        yield [next(iter(by_pid.values()))[0] for by_pid in held]
    finally:
        for by_pid in held:
            for (connection,) in by_pid.values():
                connection.close()


def _direction(
    writer: str, write: Connection, reader: str, read: Connection
) -> Direction:
    original = _price_at(read)
    started = time.perf_counter()
    for _ in range(_POLLS):
        _price_at(read)
    poll_ms = 1000 * (time.perf_counter() - started) / _POLLS
    delays: list[float | None] = []
    old_answers = 0
    for change in range(1, _CHANGES + 1):
        price = original + change
        _price_at(read)
        write.post(f"{_PRODUCT}price/", stack.STAFF_TOKEN, price=str(price))
        started = time.perf_counter()
        while (seen := _price_at(read)) != price:
            old_answers += 1
            if time.perf_counter() - started > _LIMIT_S:
                break
        waited_ms = 1000 * (time.perf_counter() - started)
        delays.append(waited_ms if seen == price else None)
    write.post(f"{_PRODUCT}price/", stack.STAFF_TOKEN, price=str(original))
    while _price_at(read) != original and time.perf_counter() - started < _LIMIT_S:
        pass
    return Direction(writer, reader, delays, old_answers, poll_ms)


def _price_at(connection: Connection) -> Decimal:
    return Decimal(connection.get(f"{_PRODUCT}?format=json").json()["price"])


def _row(label: str, *cells: str) -> None:
    print(f"   {label:<33}" + "".join(f"{cell:>14}" for cell in cells))
