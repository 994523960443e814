"""The sale of this process, for plain views and commands; and its live figures."""

from __future__ import annotations

from typing import Any

from django.core.cache import cache

from cachebridge.errors import L2Error
from example_project.sale.models import Purchase
from example_project.sale.records import COUNTERS, Rows
from example_project.sale.selling import Sale

__all__ = ["mine", "sale", "totals"]

sale = Sale(cache, COUNTERS, Rows())


@cache.memoize(ttl=1)
def totals(number: int) -> dict[str, int | None]:
    """Count what is left, recorded and viewed: once a second, for all visitors."""
    try:
        left = sale.stock(number).value()
    except L2Error:
        left = None
    return {
        "left": left,
        "recorded": Purchase.objects.filter(activity_id=number).count(),
        "views": sale.views(number).value(),
    }


def mine(activity: dict[str, Any], user: str) -> int | None:
    """Return how many units the user has; None while Redis is away."""
    try:
        return sale.bought(activity, user).value()
    except L2Error:
        return None
