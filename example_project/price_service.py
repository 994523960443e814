"""A Flask service beside the Django shop: prices for machines, over the same cache.

``CACHE_KEY_PREFIX = ":1:"`` gives its keys the form of Django's (VERSION 1, no
KEY_PREFIX): what the one puts into the cache the other finds, and what the one changes
leaves the other's memory within milliseconds.  The two share the cache and the
database, and no code but the rules of the sale.
"""

from __future__ import annotations

import hmac
import json
import os
import sqlite3
import time
import uuid
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from os import environ
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, abort, jsonify, request

from cachebridge.flask_ext import Cache
from example_project.sale.flask_api import make_orders

__all__ = ["create_app"]

TIMEOUT = 15 * 60
_CENT = Decimal("0.01")
_DATABASE = environ.get("SHOP_DATABASE") or Path(__file__).parent / "var/shop.sqlite3"
_PRODUCT = """
    SELECT p.id, p.sku, p.name, p.description, p.specs, p.hue, p.price, p.stock,
           p.updated_at, c.slug AS category_slug, c.name AS category_name, c.icon
    FROM shop_product p JOIN shop_category c ON c.id = p.category_id WHERE p.id = ?
"""

cache = Cache()
counters = Cache()
"""The same cache for the sale: while Redis is away its counters raise."""
prices = Blueprint("prices", __name__)


def create_app() -> Flask:
    """Make the application; ``SHOP_REDIS_URL`` is the shop's."""
    app = Flask(__name__)
    app.config.update(
        CACHE_TYPE="RedisCache",
        CACHE_REDIS_URL=environ.get("SHOP_REDIS_URL", "redis://127.0.0.1:6379/0"),
        CACHE_KEY_PREFIX=":1:",
    )
    warm = {"L1_WARM": True}
    cache.init_app(app, {"CACHE_BRIDGE": warm})
    counters.init_app(app, {"CACHE_BRIDGE": warm | {"ON_ERROR": "raise"}})
    app.register_blueprint(prices)
    app.register_blueprint(make_orders(cache, counters, _connect, _require_staff))
    return app


@prices.get("/")
@cache.cached(TIMEOUT, key_prefix="price-service:about")
def about() -> str:
    """Say what this is; a cached view like any other."""
    return "Prices of the shop: /products/300/, /category/audio/cheapest/\n"


@prices.get("/products/<int:pk>/")
def product(pk: int) -> Response:
    """Show what a product costs, from the entry that the shop's pages use, too."""
    found = cache.get_or_load(f"product:{pk}", lambda: _load_product(pk), TIMEOUT)
    return jsonify(id=pk, name=found["name"], price=str(found["price"]))


@prices.get("/category/<slug>/cheapest/")
def cheapest(slug: str) -> Response:
    """Show the cheapest product of a category, until a price in it changes."""
    version = cache.get_or_load(f"catalogue-version:{slug}", _new_version, TIMEOUT)
    name, price = _cheapest(slug, version)
    return jsonify(name=name, price=price)


@prices.post("/products/<int:pk>/price/")
def change_price(pk: int) -> Response:
    """Change a price; the shop shows it as soon as it is committed."""
    _require_staff()
    try:
        price = Decimal(request.form["price"]).quantize(_CENT)
    except InvalidOperation:
        abort(400)
    with closing(_connect()) as database, database:
        database.execute(
            "UPDATE shop_product SET price = ?, updated_at = ? WHERE id = ?",
            (str(price), datetime.now(UTC).replace(tzinfo=None).isoformat(" "), pk),
        )
    fresh, version = _load_product(pk), _new_version()
    cache.set_many(
        {
            f"product:{pk}": fresh,
            f"catalogue-version:{fresh['category_slug']}": version,
            "catalogue-version:": version,
        },
        TIMEOUT,
    )
    return jsonify(id=pk, price=str(price))


@prices.get("/stats/")
def stats() -> Response:
    """Show what this worker's cache did so far."""
    counted: Any = asdict(cache.stats())
    return jsonify(pid=os.getpid(), cpu_s=time.process_time(), stats=counted)


@prices.after_app_request
def name_worker(response: Response) -> Response:
    response.headers["X-Worker-Pid"] = str(os.getpid())
    return response


@cache.memoize(TIMEOUT)
def _cheapest(slug: str, version: str) -> tuple[str, str]:
    """Find it; the version is an argument, so a new one is a new entry."""
    del version
    with closing(_connect()) as database:
        row = database.execute(
            "SELECT p.name, p.price FROM shop_product p "
            "JOIN shop_category c ON c.id = p.category_id "
            "WHERE c.slug = ? ORDER BY CAST(p.price AS REAL), p.id LIMIT 1",
            (slug,),
        ).fetchone()
    if row is None:
        abort(404)
    return row["name"], str(Decimal(str(row["price"])).quantize(_CENT))


def _load_product(pk: int) -> dict[str, Any]:
    """Read a product, in the form in which the shop keeps it."""
    with closing(_connect()) as database:
        row = database.execute(_PRODUCT, (pk,)).fetchone()
    if row is None:
        abort(404)
    found = dict(row)
    found["specs"] = tuple(tuple(pair) for pair in json.loads(found["specs"]))
    found["price"] = Decimal(str(found["price"])).quantize(_CENT)
    found["updated_at"] = datetime.fromisoformat(found["updated_at"]).replace(
        tzinfo=UTC
    )
    return found | {"loaded_at": time.time()}


def _require_staff() -> None:
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    token = environ.get("SHOP_STAFF_TOKEN", "")
    if not token or not hmac.compare_digest(given, token):
        abort(403)


def _new_version() -> str:
    return uuid.uuid4().hex


def _connect() -> sqlite3.Connection:
    database = sqlite3.connect(_DATABASE, timeout=10)
    database.row_factory = sqlite3.Row
    return database
