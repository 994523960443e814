"""The load script of the sale: ``python -m example_project.sell``.

Starts the shop (two gunicorn workers), the asynchronous service (uvicorn) and the Flask
service on one Redis, lets many buyers in through all of them at once until long after
the stock is gone, and prints what became of it. The demo plays it as a scene. Status 0:
every promise held; 1: one did not.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Final

from cachebridge.testing import ServerNotFoundError, ServerStartError, redis_server
from example_project import awaited, stack, together
from example_project.client import FAILURES, connect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from example_project.client import Connection
    from example_project.stack import Service

__all__ = ["Phase", "Result", "open_sale", "play", "sell", "show"]

DJANGO: Final = "gunicorn"
TASKS: Final = "uvicorn"
FLASK: Final = "Flask"
PER_USER: Final = 2
BOTS: Final = ("bot-1", "bot-2", "bot-3")
"""Users on the deny list from the beginning."""
_WATCHED: Final = "latecomer"
_EACH: Final = 4
_LIMIT_S: Final = 5.0
_PATIENCE_S: Final = 60.0
_PAGE_IN: Final = 8
"""Of so many requests to the shop one asks for the page of the sale."""
_BOT_IN: Final = 20
"""Of so many orders one is a bot's."""


@dataclass(frozen=True, slots=True)
class Request:
    """One answer; ``outcome`` is None for a page."""

    service: str
    began: float
    took_ms: float
    outcome: str | None = None
    is_local: bool = False


@dataclass(frozen=True, slots=True)
class Phase:
    """The requests of one phase, and the look-ups for which workers asked Redis."""

    title: str
    seconds: float
    requests: Sequence[Request]
    lookups_in_redis: int

    @property
    def rate(self) -> float:
        return len(self.requests) / self.seconds

    @property
    def slowest_ms(self) -> float:
        return max((request.took_ms for request in self.requests), default=0.0)

    @property
    def local(self) -> float:
        """Share of the orders answered without Redis; look-ups of pages count, too."""
        orders = [request for request in self.requests if request.outcome]
        known = sum(request.is_local for request in orders)
        return max(0, known - self.lookups_in_redis) / max(1, len(orders))


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a sale."""

    audit: Mapping[str, int]
    """From the database and the counter, when all was done (``records.audit``)."""
    requests: Sequence[Request]
    phases: Sequence[Phase]
    failed: Sequence[str]
    denied_ms: float | None
    """From the answer to a change of the deny list until every worker refuses."""

    @property
    def oversold(self) -> int:
        return max(0, self.audit["recorded"] - self.audit["delivered"])

    @property
    def undersold(self) -> int:
        return max(0, self.audit["delivered"] - self.audit["recorded"])

    @property
    def outcomes(self) -> Counter[str]:
        return Counter(each.outcome for each in self.requests if each.outcome)

    @property
    def sold_by(self) -> Counter[str]:
        return Counter(each.service for each in self.requests if _is_sale(each))

    def broken(self) -> list[str]:
        """Name the promises that did not hold."""
        audit, bought = self.audit, self.outcomes["bought"]
        idle = {DJANGO, TASKS, FLASK} - self.sold_by.keys()
        checks = (
            (self.oversold, f"{self.oversold} pieces were sold twice"),
            (self.undersold, f"{self.undersold} pieces were not sold"),
            (audit["left"], f"the counter says that {audit['left']} are left"),
            (
                bought != audit["recorded"],
                f"{bought} buyers were told yes, {audit['recorded']} are recorded",
            ),
            (audit["most_per_user"] > PER_USER, "a user has more than the limit"),
            (audit["denied_who_bought"], "a user on the deny list has bought"),
            (idle, f"nothing was sold by {', '.join(sorted(idle))}"),
            (self.failed, f"{len(self.failed)} requests failed: {self.failed[:1]}"),
            (
                self.denied_ms is None,
                f"a worker did not know the deny list after {_LIMIT_S:.0f} s",
            ),
            (not self.phases[-1].local, "Redis was asked for every answer"),
        )
        return [f"in the sale {text}" for is_broken, text in checks if is_broken]


@dataclass(slots=True)
class _Buyers:
    """Buy on every connection until told to leave."""

    number: int
    users: int
    leaving: Event = field(default_factory=Event)
    requests: list[Request] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def walk(self, service: str, connection: Connection, seed: int) -> None:
        """Buy for one random user after the other; look at the page now and then."""
        chance = random.Random(seed)
        while not self.leaving.is_set():
            is_page = service == DJANGO and not chance.randrange(_PAGE_IN)
            user = f"user-{chance.randrange(self.users)}"
            if not chance.randrange(_BOT_IN):
                user = BOTS[0]
            began = time.perf_counter()
            try:
                if is_page:
                    connection.get("/sale/")
                    answer = {}
                else:
                    answer = _order(connection, self.number, user)
            except FAILURES as exc:
                self.failed.append(f"{service}: {exc}"[:200])
                return
            took_ms = 1000 * (time.perf_counter() - began)
            self.requests.append(Request(service, began, took_ms, **answer))


@dataclass(frozen=True, slots=True)
class _Mark:
    """A moment, and the look-ups for which workers had asked Redis until then."""

    at: float
    lookups_in_redis: int

    @classmethod
    def of(cls, askers: Sequence[Connection]) -> _Mark:
        reports = [asker.stats()["stats"] for asker in askers]
        asked = sum(report["l2_hits"] + report["misses"] for report in reports)
        return cls(time.perf_counter(), asked)


def sell(
    services: Mapping[str, Service], number: int, *, stock: int, after_s: float = 2.0
) -> Result:
    """Sell the stock through all services at once, and go on for a while.

    The first service must have the sale's pages.
    """
    held = {name: connect(service, _EACH) for name, service in services.items()}
    rooms = [
        (name, connection)
        for name, by_pid in held.items()
        for connections in by_pid.values()
        for connection in connections[1:]
    ]
    askers = [one[0] for by_pid in held.values() for one in by_pid.values()]
    buyers = _Buyers(number, users=stock)
    with ThreadPoolExecutor(len(rooms)) as pool:
        marks = [_Mark.of(askers)]
        for seed, (name, connection) in enumerate(rooms):
            pool.submit(buyers.walk, name, connection, seed)
        try:
            _await_sold_out(askers[0], buyers)
            marks.append(_Mark.of(askers))
            time.sleep(after_s)  # of load; what is promised does not depend on it
            marks.append(_Mark.of(askers))
        finally:
            buyers.leaving.set()
    denied_ms = _watch_deny_list(askers, number)
    audit = askers[0].get(f"/sale/{number}/audit/").json()
    for connection in (*askers, *(connection for _, connection in rooms)):
        connection.close()
    begin, sold_out, end = marks
    phases = [
        _phase("selling", buyers, begin, sold_out),
        _phase("sold out", buyers, sold_out, end),
        _phase("all", buyers, begin, end),
    ]
    return Result(audit, buyers.requests, phases, buyers.failed, denied_ms)


def _phase(title: str, buyers: _Buyers, begin: _Mark, end: _Mark) -> Phase:
    requests = [one for one in buyers.requests if begin.at <= one.began < end.at]
    asked = end.lookups_in_redis - begin.lookups_in_redis
    return Phase(title, end.at - begin.at, requests, asked)


def _await_sold_out(asker: Connection, buyers: _Buyers) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    path = f"/sale/{buyers.number}/figures/"
    while asker.get(path).json()["state"] == "open" and not buyers.failed:
        if time.monotonic() > deadline:
            return
        time.sleep(0.1)


def _watch_deny_list(askers: Sequence[Connection], number: int) -> float | None:
    """Deny a user in one worker; return when every worker refuses that user."""
    change = {"users": _WATCHED, "kind": "deny"}
    askers[0].post(f"/sale/{number}/lists/change/", stack.STAFF_TOKEN, **change)
    began = time.perf_counter()
    for asker in askers:
        while _order(asker, number, _WATCHED)["outcome"] != "denied":
            if time.perf_counter() - began > _LIMIT_S:
                return None
    return 1000 * (time.perf_counter() - began)


def _order(connection: Connection, number: int, user: str) -> dict:
    path = f"/sale/{number}/orders/"
    return connection.post(path, stack.STAFF_TOKEN, user=user).json()


def _is_sale(request: Request) -> bool:
    return request.outcome == "bought"


def open_sale(redis_url: str, *, stock: int) -> int:
    """Open a sale, with a few users whom it refuses; return its number."""
    opening = ("sale", "open", "--stock", str(stock), "--per-user", str(PER_USER))
    number = int(stack.manage(*opening, SHOP_REDIS_URL=redis_url))
    stack.manage("sale", "deny", *BOTS, SHOP_REDIS_URL=redis_url)
    return number


def show(seen: Result, title: str = "") -> list[str]:
    """Print what became of the sale; return the promises that did not hold."""
    print(
        f"{title}A flash sale of {seen.audit['delivered']:,} pieces through two "
        "gunicorn workers, uvicorn and Flask"
    )
    _row("", *(phase.title for phase in seen.phases))
    _row("requests/s", *(f"{phase.rate:,.0f}" for phase in seen.phases))
    _row("slowest request", *(f"{phase.slowest_ms:.0f} ms" for phase in seen.phases))
    _row("answers without Redis", *(f"{phase.local:.1%}" for phase in seen.phases))
    _row("oversold", f"{seen.oversold}")
    _row("undersold", f"{seen.undersold}")
    if seen.denied_ms is not None:
        _row("a change of the deny list, everywhere after", f"{seen.denied_ms:.0f} ms")
    print(f"   sold by: {_listed(seen.sold_by)}")
    print(f"   answers: {_listed(seen.outcomes)}\n")
    return seen.broken()


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))


def _row(label: str, *cells: str) -> None:
    print(f"   {label:<33}" + "".join(f"{cell:>14}" for cell in cells))


def play(
    stage: ExitStack, shop: Service, redis_url: str, *, title: str = "", stock: int
) -> list[str]:
    """Start the other services beside the shop, sell, print what became of it.

    Returns the promises that did not hold.
    """
    flask = stage.enter_context(together.price_service(redis_url, workers=1))
    tasks = stage.enter_context(awaited.async_service(redis_url))
    flask.await_ready()
    tasks.await_ready("/stats/")
    services = {DJANGO: shop, TASKS: tasks, FLASK: flask}
    number = open_sale(redis_url, stock=stock)
    return show(sell(services, number, stock=stock), title)


def main() -> int:
    """Sell, and report the promises that did not hold."""
    parser = argparse.ArgumentParser(prog="python -m example_project.sell")
    parser.add_argument("--stock", type=int, default=2_000, help="pieces to sell")
    stock = parser.parse_args().stock
    stack.stop_on_signals()
    try:
        with ExitStack() as stage:
            redis = stage.enter_context(redis_server())
            stack.prepare_database()
            shop = stack.shop("sale", stack.CACHEBRIDGE, redis.url)
            stage.enter_context(shop).await_ready()
            broken = play(stage, shop, redis.url, stock=stock)
    except KeyboardInterrupt:
        print("\nInterrupted. Everything is stopped again.")
        return 130
    except (
        *FAILURES,
        ServerNotFoundError,
        ServerStartError,
        stack.ServiceError,
    ) as exc:
        print(f"FAILED: {type(exc).__name__}: {exc}\nThe logs are in {stack.VAR_DIR}.")
        return 1
    for promise in broken:
        print(f"BROKEN: {promise}")
    if not broken:
        print("Every promise held. Everything is stopped again.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
