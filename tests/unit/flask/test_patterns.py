"""Keys by pattern in Flask: of the extension, its backends, and of no cache at all."""

from __future__ import annotations

import pytest
from flask import Flask

from cachebridge.flask_ext import Cache
from tests.sides import on_loop
from tests.stores import PATTERNS

pytestmark = pytest.mark.every_store


async def _all_of(iterator):
    return [each async for each in iterator]


@pytest.mark.only_on_redis(PATTERNS)
def test_patterns(app, cache):
    """The caller's part is matched; views are keys like others."""

    @app.get("/product/<number>")
    @cache.cached(timeout=60)
    def product(number):
        return number

    client = app.test_client()
    for number in (1, 2):
        client.get(f"/product/{number}")
    cache.set("k", 1)
    with app.app_context():
        views = cache.keys("view/*")
        assert len(views) == 2
        assert sorted(cache.iter_keys("view/*", itersize=1)) == sorted(views)
        assert on_loop(_all_of, cache.aiter_keys("k*")) == ["k"]
        assert cache.delete_pattern("view/*product/1*") == 1
        assert cache.clear(prefix="view/") is True
        assert cache.keys() == ["k"]


def test_clear_with_a_prefix(app, cache):
    """It works everywhere."""
    with app.app_context():
        cache.set_many({"product:1": 1, "page:1": 2})
        assert cache.clear(prefix="product:") is True
        assert cache.get_many("product:1", "page:1") == [None, 2]


def test_no_cache():
    """NullCache has no keys, and nothing fails."""
    app = Flask(__name__)
    settings = {"CACHE_TYPE": "NullCache", "CACHE_NO_NULL_WARNING": True}
    cache = Cache(app, config=settings)
    with app.app_context():
        assert cache.keys() == []
        assert list(cache.iter_keys()) == []
        assert on_loop(_all_of, cache.aiter_keys()) == []
        assert cache.delete_pattern("*") == 0
        assert cache.clear() is True
        assert cache.clear(prefix="a") is True
