"""Orders of the sale in a Flask service: the same rules, on SQL of its own.

``activity`` returns what ``records.Rows`` returns, value for value: both frameworks
load and read the same entries of the cache.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, abort, jsonify, request

from example_project.sale.selling import Lists, Sale, is_user

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from cachebridge.flask_ext import Cache

__all__ = ["make_orders"]

_TERMS = """
    SELECT id AS number, product_id, price, delivered, per_user, opens_at, closes_at,
           invited_only, lists_version
    FROM sale_activity WHERE id = ?
"""
_LISTED = "SELECT user, kind FROM sale_listed WHERE activity_id = ?"
_RECORD = "INSERT INTO sale_purchase (activity_id, user, bought_at) VALUES (?, ?, ?)"


class SqlRows:
    """The rows of the sale in SQLite."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect

    def activity(self, number: int) -> dict[str, Any] | None:
        with closing(self._connect()) as database:
            row = database.execute(_TERMS, (number,)).fetchone()
        if row is None:
            return None
        return dict(row) | {
            "price": Decimal(str(row["price"])).quantize(Decimal("0.01")),
            "opens_at": _time(row["opens_at"]),
            "closes_at": row["closes_at"] and _time(row["closes_at"]),
            "invited_only": bool(row["invited_only"]),
        }

    def lists(self, number: int) -> Lists:
        with closing(self._connect()) as database:
            rows = database.execute(_LISTED, (number,)).fetchall()
        users = {
            kind: frozenset(row["user"] for row in rows if row["kind"] == kind)
            for kind in ("deny", "allow")
        }
        return Lists(users["deny"], users["allow"])

    def record(self, number: int, user: str) -> None:
        now = datetime.now(UTC).replace(tzinfo=None).isoformat(" ")
        with closing(self._connect()) as database, database:
            database.execute(_RECORD, (number, user, now))


def make_orders(
    cache: Cache,
    counters: Cache,
    connect: Callable[[], sqlite3.Connection],
    require_staff: Callable[[], None],
) -> Blueprint:
    """Make the blueprint that takes orders, for one application."""
    blueprint = Blueprint("sale", __name__)
    sale = Sale(cache, counters, SqlRows(connect))

    @blueprint.post("/sale/<int:number>/orders/")
    def orders(number: int) -> Response:
        require_staff()
        user = request.form.get("user", "")
        if not is_user(user):
            abort(400)
        return jsonify(sale.buy(number, user)._asdict())

    return blueprint


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
