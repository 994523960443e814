"""Views that are classes, several apps, and callables that would have to be awaited."""

from __future__ import annotations

import flask
import pytest
from flask.views import MethodView

from cachebridge.flask_ext import Cache


def test_a_class_that_is_cached_as_a_whole(app, cache):
    """Through ``decorators`` as well, only a GET is kept, and no private answer."""

    class View(MethodView):
        decorators = (cache.cached(60, key_prefix="list"),)

        def get(self):
            return f"for {flask.request.headers.get('Authorization', 'all')}"

        def post(self):
            return "posted"

    app.add_url_rule("/", view_func=View.as_view("view"))
    client = app.test_client()
    assert client.get("/", headers={"Authorization": "alice"}).text == "for alice"
    assert client.get("/").text == "for all"
    assert client.post("/").text == "posted"
    assert client.get("/", headers={"Authorization": "alice"}).text == "for all"


def test_a_method_that_is_cached(app, cache):
    """The decorator may also stand at one method of the class."""
    calls = []

    class View(MethodView):
        @cache.cached(60)
        def get(self):
            calls.append(1)
            return "got"

        def post(self):
            return "posted"

    app.add_url_rule("/", view_func=View.as_view("view"))
    client = app.test_client()
    assert [client.get("/").text for _ in range(3)] == ["got"] * 3
    assert client.post("/").text == "posted"
    assert len(calls) == 1


def test_an_app_that_is_initialised_again(config):
    """Each app keeps its own keys, in whatever order, however often they come."""
    one, two = flask.Flask("one"), flask.Flask("two")
    cache = Cache()
    for app, prefix in ((one, "1:"), (two, "2:"), (two, "2:")):
        cache.init_app(app, {**config, "CACHE_KEY_PREFIX": prefix})
    for app in (one, two):
        with app.app_context():
            cache.set("k", app.name)
    for app in (one, two):
        with app.app_context():
            assert cache.get("k") == app.name


async def _later(value):
    return value


@pytest.mark.parametrize("name", ["key_prefix", "make_cache_key", "unless"])
def test_a_plain_view_awaits_nothing(app, cache, name):
    """A coroutine as an answer is an error, never a key or a true value."""
    app.testing = app.debug = True

    @app.get("/<who>")
    @cache.cached(60, **{name: lambda *_args, **_kwargs: _later("x")})
    def view(who):
        return who

    with pytest.raises(TypeError, match="awaited"):
        app.test_client().get("/a")


def test_a_plain_filter_awaits_nothing(app, cache):
    """The same for what is asked about the result."""

    @cache.memoize(60, response_filter=lambda _result: _later(False))
    def double(number):
        return 2 * number

    with app.app_context(), pytest.raises(TypeError, match="awaited"):
        double(2)
