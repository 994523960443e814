"""The database of the sale, as the rules want it, and what the staff changes in it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django.core.cache import cache, caches
from django.db import transaction
from django.db.models import Count, F
from django.utils import timezone
from django.utils.connection import ConnectionProxy

from example_project.sale.models import Activity, Listed, Purchase
from example_project.sale.selling import Lists

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from decimal import Decimal

    from example_project.sale.selling import Sale

__all__ = [
    "COUNTERS",
    "AwaitedRows",
    "Rows",
    "audit",
    "change_lists",
    "close",
    "log_of",
    "newest",
    "open_sale",
    "recount",
]

COUNTERS = ConnectionProxy(caches, "counters")
"""The cache whose counters raise while Redis is away (settings.py)."""
_TERMS = (
    *("product_id", "price", "delivered", "per_user", "opens_at", "closes_at"),
    *("invited_only", "lists_version"),
)
_LOG_TTL = 24 * 3600


class Rows:
    """The rows of the sale, for threads."""

    def activity(self, number: int) -> dict[str, Any] | None:
        row = Activity.objects.filter(pk=number).values(*_TERMS).first()
        return row and {"number": number, **row}

    def lists(self, number: int) -> Lists:
        return _lists(Listed.objects.filter(activity_id=number))

    def record(self, number: int, user: str) -> None:
        Purchase.objects.create(activity_id=number, user=user)


class AwaitedRows:
    """The same for tasks."""

    async def activity(self, number: int) -> dict[str, Any] | None:
        row = await Activity.objects.filter(pk=number).values(*_TERMS).afirst()
        return row and {"number": number, **row}

    async def lists(self, number: int) -> Lists:
        found = Listed.objects.filter(activity_id=number)
        return _lists([row async for row in found])

    async def record(self, number: int, user: str) -> None:
        await Purchase.objects.acreate(activity_id=number, user=user)


def _lists(rows: Iterable[Listed]) -> Lists:
    users: dict[str, set[str]] = {kind: set() for kind in Listed.Kind}
    for row in rows:
        users[row.kind].add(row.user)
    kinds = Listed.Kind
    return Lists(frozenset(users[kinds.DENY]), frozenset(users[kinds.ALLOW]))


@cache.memoize(ttl=60)
def newest() -> int | None:
    """Return the number of the newest sale; None if there was none yet."""
    return Activity.objects.values_list("pk", flat=True).first()


def open_sale(
    sale: Sale,
    *,
    product: int,
    price: Decimal,
    stock: int,
    per_user: int,
    invited_only: bool = False,
) -> int:
    """Open a sale at once, with a stock of its own; return its number."""
    with transaction.atomic():
        number = Activity.objects.create(
            product_id=product,
            price=price,
            delivered=stock,
            per_user=per_user,
            opens_at=timezone.now(),
            invited_only=invited_only,
        ).pk
        sale.stock(number).reset(stock)
    newest.invalidate()
    return number


def close(sale: Sale, number: int) -> None:
    """End a sale, in every process."""
    Activity.objects.filter(pk=number).update(closes_at=timezone.now())
    sale.activities.invalidate(number)


def change_lists(
    sale: Sale, number: int, kind: str, users: Collection[str], author: str
) -> None:
    """Put users on one list, or with kind "" on none; every process knows at once."""
    with transaction.atomic():
        Listed.objects.filter(activity_id=number, user__in=users).delete()
        if kind:
            Listed.objects.bulk_create(
                Listed(activity_id=number, user=user, kind=kind) for user in users
            )
        Activity.objects.filter(pk=number).update(lists_version=F("lists_version") + 1)
        transaction.on_commit(partial(sale.activities.invalidate, number))
    who = ", ".join(sorted(users)) if len(users) <= 3 else f"{len(users)} users"  # noqa: PLR2004 - as many as fit into a line
    now = timezone.now().strftime("%H:%M:%S")
    line = f"{now} {author}: {who} -> {kind or 'no list'}\n"
    cache.append(_log_key(number), line, timeout=_LOG_TTL)


def log_of(number: int) -> str:
    """Return who changed the lists during the last day."""
    return cache.get(_log_key(number), "")


def _log_key(number: int) -> str:
    return f"sale-log:{number}"


def recount(sale: Sale, number: int) -> int:
    """Set the counters to what the purchases say; return what is left.

    Needed after Redis has lost its data, or answers to changes. No process may be
    selling meanwhile: close the sale first.
    """
    activity = Activity.objects.get(pk=number)
    terms = sale.activities.refresh(number)
    sold = _units_by_user(activity)
    for user, units in sold.items():
        sale.bought(terms, user).reset(units)
    left = activity.delivered - sum(sold.values())
    sale.stock(number).reset(left)
    sale.activities.invalidate(number)
    return left


def audit(sale: Sale, number: int) -> dict[str, Any]:
    """Compare what was delivered with what was sold, from the database."""
    activity = Activity.objects.get(pk=number)
    denied = Listed.objects.filter(activity=activity, kind=Listed.Kind.DENY)
    units = _units_by_user(activity)
    return {
        "delivered": activity.delivered,
        "recorded": sum(units.values()),
        "left": sale.stock(number).value(),
        "most_per_user": max(units.values(), default=0),
        "per_user": activity.per_user,
        "denied_who_bought": len(
            units.keys() & set(denied.values_list("user", flat=True))
        ),
        "views": sale.views(number).value(),
    }


def _units_by_user(activity: Activity) -> dict[str, int]:
    rows = Purchase.objects.filter(activity=activity).order_by()
    return dict(rows.values_list("user").annotate(units=Count("pk")))
