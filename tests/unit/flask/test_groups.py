"""Groups of Flask's cache; its ``memoize`` is Flask-Caching's."""

from __future__ import annotations

import asyncio

import flask
import pytest

from cachebridge import UncacheableError
from cachebridge.flask_ext import Cache, CacheBridgeBackend
from tests.rig import let_expire, refreshed
from tests.unit.flask.support import Calls

pytestmark = pytest.mark.every_store


def test_a_group_before_there_is_an_app(app, place):
    """It is made with the cache, and works from ``init_app`` on, in the app's keys."""
    cache = Cache()
    calls = Calls()
    group = cache.group("product", lambda number: [number, calls()], ttl=60)
    batch = cache.group("batch", load_many=lambda args: {arg: calls() for arg in args})
    with pytest.raises(RuntimeError, match="init_app"):
        group.get(1)
    cache.init_app(app)
    assert group.get(1) == group.get(1) == [1, 1]
    assert batch.get_many([1, 2]) == {1: 2, 2: 3}
    assert cache.get("group:product:1") == [1, 1]
    assert group.invalidate(1)
    assert group.refresh(1) == [1, 3 + 1]
    assert asyncio.run(group.aget(1)) == [1, 4]
    assert [each.name for each in cache.groups()] == ["batch", "product"]


def test_apps_have_entries_of_their_own(config):
    """Which, the current app decides."""
    cache, apps, calls = Cache(), [flask.Flask("one"), flask.Flask("two")], Calls()
    group = cache.group("product", lambda _number: calls())
    for app in apps:
        cache.init_app(app, {**config, "CACHE_KEY_PREFIX": app.name})
    for number, app in enumerate(apps, 1):
        with app.app_context():
            assert group.get(1) == group.get(1) == number


def test_a_backend_of_another_cache(place):
    """Flask-Caching's and Flask-Session's has groups as well."""
    backend = CacheBridgeBackend(place.location, options=dict(place.options))
    group = backend.group("product", load_many=lambda args: dict.fromkeys(args, "v"))
    assert group.get_many([1]) == {1: "v"}
    assert group.get(1) == "v"
    with pytest.raises(UncacheableError, match="'product'"):
        group.get(flask.Request({}))


def test_stale_values_are_refreshed_in_the_app(cache, app):
    """The loader of a batch finds the app also in the background."""
    names = []

    def load_many(args):
        names.append(flask.current_app.name)
        return dict.fromkeys(args, len(names))

    group = cache.group("names", load_many=load_many, ttl=1, stale_ttl=600)
    with app.app_context():
        assert group.get_many([1]) == {1: 1}
        let_expire(1)  # the copies last for minutes
        assert group.get_many([1]) == {1: 1}
        refreshed(cache.cache)
        assert group.get_many([1]) == {1: 2}
    assert names == ["scratch"] * 2


def test_a_cache_that_keeps_nothing(app):
    """With NullCache a group loads each time."""
    app.config["CACHE_TYPE"] = "NullCache"
    app.config["CACHE_NO_NULL_WARNING"] = True
    cache, calls = Cache(app), Calls()
    group = cache.group(
        "product", load_many=lambda args: {arg: calls() for arg in args if arg}
    )
    assert [group.get(1), group.get(1), group.get(0, "none")] == [1, 2, "none"]
    assert group.get_many([1, 2, 0]) == {1: 3, 2: 4}
    assert not group.invalidate(1)
    assert group.refresh(1) == 5
    assert 1 not in group
