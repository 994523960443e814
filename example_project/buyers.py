"""Many buyers at once, in every service of the sale: what they saw, what must hold.

Prints nothing; sell.py does.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Final

from example_project import stack
from example_project.client import FAILURES, connect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from example_project.client import Connection
    from example_project.stack import Service

__all__ = [
    "BOTS",
    "DJANGO",
    "FLASK",
    "PER_USER",
    "TASKS",
    "Phase",
    "Request",
    "Result",
    "sell",
]

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
_SLOWEST_SALE: Final = 50
"""Pieces a second; a sale that is slower is given up."""
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
            user = f"user-{chance.randrange(self.users)}"
            if not chance.randrange(_BOT_IN):
                user = BOTS[0]
            if service == DJANGO and not chance.randrange(_PAGE_IN):
                user = ""
            try:
                self.ask(service, connection, user)
            except FAILURES as exc:
                self.failed.append(f"{service}: {exc}"[:200])
                return

    def ask(self, service: str, connection: Connection, user: str) -> None:
        """Buy for the user; without one, look at the page."""
        answer = {}
        began = time.perf_counter()
        if user:
            answer = _order(connection, self.number, user)
        else:
            connection.get("/sale/")
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
    doors = [(name, one[0]) for name in held for one in held[name].values()]
    askers = [asker for _, asker in doors]
    buyers = _Buyers(number, users=stock)
    with ThreadPoolExecutor(len(rooms)) as pool:
        marks = [_Mark.of(askers)]
        for place, (name, asker) in enumerate(doors):
            # So every worker sells, however busy the machine is.
            buyers.ask(name, asker, f"early-{place}")
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
    deadline = time.monotonic() + _PATIENCE_S + buyers.users / _SLOWEST_SALE
    path = f"/sale/{buyers.number}/audit/"
    while not _is_over(asker.get(path).json()) and not buyers.failed:
        if time.monotonic() > deadline:
            return
        time.sleep(0.1)


def _is_over(audit: Mapping[str, int]) -> bool:
    return audit["left"] == 0 and audit["recorded"] >= audit["delivered"]


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
