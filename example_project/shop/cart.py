"""The cart: product ids and quantities in the visitor's session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from example_project.shop import cached

if TYPE_CHECKING:
    from decimal import Decimal

    from django.contrib.sessions.backends.base import SessionBase

__all__ = ["MOST", "Cart", "Line"]

_SESSION_KEY = "cart"
MOST = 99


@dataclass(frozen=True, slots=True)
class Line:
    """So many pieces of one product."""

    product: dict[str, Any]
    quantity: int

    @property
    def total(self) -> Decimal:
        return self.product["price"] * self.quantity


class Cart:
    """The cart of one session. Prices are looked up, never remembered."""

    def __init__(self, session: SessionBase) -> None:
        self._session = session
        self._quantities: dict[str, int] = session.get(_SESSION_KEY, {})

    def __len__(self) -> int:
        return sum(self._quantities.values())

    @property
    def lines(self) -> list[Line]:
        """A line for each product that is still sold."""
        rows = cached.products([int(pk) for pk in self._quantities])
        return [Line(row, self._quantities[str(row["id"])]) for row in rows]

    def add(self, pk: int) -> None:
        """One piece more of a product."""
        self.put(pk, self._quantities.get(str(pk), 0) + 1)

    def put(self, pk: int, quantity: int) -> None:
        """Exactly so many pieces of a product; none removes it."""
        if quantity > 0:
            self._quantities[str(pk)] = min(quantity, MOST)
        else:
            self._quantities.pop(str(pk), None)
        self._session[_SESSION_KEY] = self._quantities
