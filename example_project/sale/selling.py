"""The rules of a flash sale, once for Django, Flask and asynchronous views.

What refuses most buyers is asked first, in the memory of the process: the lists, the
times, and whether it is sold out. Only a purchase that passes asks Redis, for one unit
of the user's limit and one of the stock, each in one atomic step.

No framework here: a service brings its cache, and its ``Records``, the database. A
cache is anything with ``group``, ``counter`` and ``batched_counter``.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from cachebridge import ABSENT
from cachebridge.errors import L2Error
from cachebridge.local import ObjCache

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AwaitedSale", "Lists", "Order", "Outcome", "Records", "Sale", "is_user"]

_USER: Final = re.compile(r"[\w.-]{1,40}", re.ASCII)
_TTL: Final = 300


class Outcome(StrEnum):
    """What became of a purchase."""

    BOUGHT = "bought"
    SOLD_OUT = "sold-out"
    LIMIT = "limit"
    DENIED = "denied"
    NOT_INVITED = "not-invited"
    CLOSED = "closed"
    TRY_AGAIN = "try-again"
    """Redis is away: nothing is sold that cannot be counted."""


class Order(NamedTuple):
    """The answer to a buyer, and whether the process knew it by itself."""

    outcome: Outcome
    is_local: bool


@dataclass(frozen=True, slots=True)
class Lists:
    """Who is refused, and who is invited."""

    denied: frozenset[str]
    allowed: frozenset[str]


class Records(Protocol):
    """The database of a service; for ``AwaitedSale`` its methods are coroutines."""

    def activity(self, number: int) -> Any:
        """Return the sale's terms as a flat dict; None if there is no such sale."""

    def lists(self, number: int) -> Any:
        """Return its Lists."""

    def record(self, number: int, user: str) -> Any:
        """Keep a purchase."""


def is_user(name: str) -> bool:
    """Return whether this can be the name of a user."""
    return _USER.fullmatch(name) is not None


class _Terms:
    """What threads and tasks have in common: the counters and the local checks."""

    def __init__(self, cache: Any, counters: Any, load: Callable[[int], Any]) -> None:
        """``load`` returns the terms of a sale, and whether it is sold out."""
        self.activities = cache.group("sale-activity", load, ttl=_TTL)
        """By number. One invalidation reaches every process."""
        self._cache = cache
        self._counters = counters
        # The lists as objects, so that a hit copies nothing however long they are.
        self._lists = ObjCache(max_entries=16)

    def stock(self, number: int) -> Any:
        """Return the counter of what is left."""
        return self._counters.counter(f"sale-stock:{number}")

    def bought(self, activity: dict[str, Any], user: str) -> Any:
        """Return the counter of what a user has bought."""
        name = f"sale-bought:{activity['number']}:{user}"
        return self._counters.counter(name, ceiling=activity["per_user"])

    def views(self, number: int) -> Any:
        """Return the counter of page views, which may be a second late."""
        return self._cache.batched_counter(f"sale-views:{number}")

    @staticmethod
    def state(activity: dict[str, Any]) -> str:
        """Say whether users can buy now: open, soon, closed or sold-out."""
        now = datetime.now(UTC)
        if now < activity["opens_at"]:
            return "soon"
        if activity["closes_at"] is not None and now >= activity["closes_at"]:
            return "closed"
        return "sold-out" if activity["sold_out"] else "open"

    def _refusal(
        self, activity: dict[str, Any], lists: Lists, user: str
    ) -> Outcome | None:
        """Check all that this process knows by itself."""
        if user in lists.denied:
            return Outcome.DENIED
        if activity["invited_only"] and user not in lists.allowed:
            return Outcome.NOT_INVITED
        match self.state(activity):
            case "open":
                return None
            case "sold-out":
                return Outcome.SOLD_OUT
            case _:
                return Outcome.CLOSED


class Sale(_Terms):
    """Sells, for threads. Make one per process."""

    def __init__(self, cache: Any, counters: Any, records: Records) -> None:
        """``cache`` degrades while Redis is away, ``counters`` raises."""
        super().__init__(cache, counters, self._load)
        self.records = records

    def buy(self, number: int, user: str) -> Order:
        """Sell one unit to the user, or say why not. Raises what ``record`` raises."""
        activity = self.activities.get(number)
        if activity is None:
            return Order(Outcome.CLOSED, is_local=True)
        refusal = self._refusal(activity, self.lists(activity), user)
        if refusal is not None:
            return Order(refusal, is_local=True)
        outcome = self._count(activity, user)
        if outcome is Outcome.BOUGHT:
            try:
                self.records.record(number, user)
            except Exception:
                self.give_back(activity, user)
                raise
        return Order(outcome, is_local=False)

    def _count(self, activity: dict[str, Any], user: str) -> Outcome:
        """Take a unit of the user's limit and one of the stock, or neither."""
        bought, stock = self.bought(activity, user), self.stock(activity["number"])
        try:
            if not bought.give():
                return Outcome.LIMIT
        except L2Error:
            return Outcome.TRY_AGAIN
        try:
            if stock.take():
                return Outcome.BOUGHT
            outcome = Outcome.SOLD_OUT
        except L2Error:
            # The unit may be taken. It is not sold; ``recount`` brings it back.
            outcome = Outcome.TRY_AGAIN
        with suppress(L2Error):
            bought.take()
        if outcome is Outcome.SOLD_OUT:
            self.activities.invalidate(activity["number"])  # all processes know now
        return outcome

    def give_back(self, activity: dict[str, Any], user: str) -> None:
        """Put a unit, of which there is no record any more, back on the shelf."""
        with suppress(L2Error):
            self.bought(activity, user).take()
            self.stock(activity["number"]).give()
        self.activities.invalidate(activity["number"])

    def lists(self, activity: dict[str, Any]) -> Lists:
        """Return the lists, in the version that the activity names."""
        key = (activity["number"], activity["lists_version"])
        lists: Lists | None = self._lists.get(key)
        if lists is None:
            lists = self.records.lists(activity["number"])
            self._lists.set(key, lists)
        return lists

    def _load(self, number: int) -> Any:
        activity = self.records.activity(number)
        if activity is None:
            return ABSENT
        try:
            is_sold_out = self.stock(number).value() == 0
        except L2Error:
            is_sold_out = False  # not known
        return activity | {"sold_out": is_sold_out}


class AwaitedSale(_Terms):
    """Sells, for tasks: the same steps, awaited."""

    def __init__(self, cache: Any, counters: Any, records: Records) -> None:
        """See ``Sale``."""
        super().__init__(cache, counters, self._load)
        self.records = records

    async def buy(self, number: int, user: str) -> Order:
        """See ``Sale.buy``."""
        activity = await self.activities.aget(number)
        if activity is None:
            return Order(Outcome.CLOSED, is_local=True)
        refusal = self._refusal(activity, await self.lists(activity), user)
        if refusal is not None:
            return Order(refusal, is_local=True)
        outcome = await self._count(activity, user)
        if outcome is Outcome.BOUGHT:
            try:
                await self.records.record(number, user)
            except Exception:  # not CancelledError: a thread may go on to record it
                await self.give_back(activity, user)
                raise
        return Order(outcome, is_local=False)

    async def _count(self, activity: dict[str, Any], user: str) -> Outcome:
        bought, stock = self.bought(activity, user), self.stock(activity["number"])
        try:
            if not await bought.agive():
                return Outcome.LIMIT
        except L2Error:
            return Outcome.TRY_AGAIN
        try:
            if await stock.atake():
                return Outcome.BOUGHT
            outcome = Outcome.SOLD_OUT
        except L2Error:
            outcome = Outcome.TRY_AGAIN
        with suppress(L2Error):
            await bought.atake()
        if outcome is Outcome.SOLD_OUT:
            await self.activities.ainvalidate(activity["number"])
        return outcome

    async def give_back(self, activity: dict[str, Any], user: str) -> None:
        """See ``Sale.give_back``."""
        with suppress(L2Error):
            await self.bought(activity, user).atake()
            await self.stock(activity["number"]).agive()
        await self.activities.ainvalidate(activity["number"])

    async def lists(self, activity: dict[str, Any]) -> Lists:
        key = (activity["number"], activity["lists_version"])
        lists: Lists | None = self._lists.get(key)
        if lists is None:
            lists = await self.records.lists(activity["number"])
            self._lists.set(key, lists)
        return lists

    async def _load(self, number: int) -> Any:
        activity = await self.records.activity(number)
        if activity is None:
            return ABSENT
        try:
            is_sold_out = await self.stock(number).avalue() == 0
        except L2Error:
            is_sold_out = False
        return activity | {"sold_out": is_sold_out}
