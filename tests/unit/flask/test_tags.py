"""Tags in Flask: the calls of a cache, its decorators, and Jinja's fragments."""

from __future__ import annotations

import asyncio

import pytest
from flask import Flask, render_template_string

import cachebridge
from cachebridge.flask_ext import Cache
from tests.rig import engine_of

pytestmark = pytest.mark.every_store


@pytest.fixture
def app(place):
    """Return an app on each kind of shared level."""
    app = Flask(__name__)
    app.config.update(place.flask_config(), CACHE_KEY_PREFIX="flask-tags:")
    return app


@pytest.fixture
def cache(app):
    return Cache(app)


def drop_l1(cache):
    engine_of(cache).rules.flush("clear")


def numbers():
    return iter(range(100)).__next__


def test_calls(cache):
    """One invalidation ends the use of all."""
    cache.set("set", 1, 60, tags=["x"])
    cache.add("add", 1, 60, tags=["x"])
    cache.set_many({"many": 1}, 60, tags=["x"])
    cache.get_or_load("load", lambda: 1, 60, tags=["x"])
    asyncio.run(cache.aset("aset", 1, 60, tags=["x"]))
    asyncio.run(cache.aget_or_load("aload", lambda: 1, 60, tags=["x"]))
    keys = ["set", "add", "many", "load", "aset", "aload"]
    drop_l1(cache)
    assert cache.get_many(*keys) == [1] * 6
    assert cache.invalidate_tags("x")
    assert cache.get_many(*keys) == [None] * 6


def test_cached_views(app, cache):
    """Tags of the decorator, of the arguments, and those that the view names."""
    number = numbers()

    @app.route("/<int:pk>")
    @cache.cached(60, tags=lambda pk: ["all", f"product:{pk}"])
    def page(pk):
        cachebridge.tag("named")
        return f"{pk}: {number()}"

    client = app.test_client()
    expected = 0
    for tag in ("all", "product:42", "named"):
        for _ in range(2):
            assert client.get("/42").text == f"42: {expected}"
            drop_l1(cache)
        cache.invalidate_tags(tag)
        expected += 1
    assert client.get("/42").text == f"42: {expected}"


@pytest.mark.parametrize("is_async", [False, True])
def test_memoized_functions(cache, is_async):
    """A list for all calls; results of one call are told by its arguments."""
    number = numbers()
    if is_async:

        @cache.memoize(60, tags=["all"])
        async def result(argument):
            await cachebridge.atag(f"arg:{argument}")
            return number()

        def ask(argument):
            return asyncio.run(result(argument))
    else:

        @cache.memoize(60, tags=["all"])
        def result(argument):
            cachebridge.tag(f"arg:{argument}")
            return number()

        ask = result

    assert [ask(1), ask(2), ask(1)] == [0, 1, 0]
    cache.invalidate_tags("arg:1")
    assert [ask(1), ask(2)] == [2, 1]
    cache.invalidate_tags("all")
    assert [ask(1), ask(2)] == [3, 4]


def test_a_forced_update_has_the_tags_as_well(cache):
    """Its stamps are read before the function runs, and it may name more."""
    number, forced = numbers(), []

    @cache.memoize(60, tags=["x"], forced_update=lambda: bool(forced))
    def result():
        cachebridge.tag("named")
        if forced == ["invalidate"]:
            cache.invalidate_tags("x")
        return number()

    assert [result(), result()] == [0, 0]
    forced.append("update")
    assert result() == 1
    forced.clear()
    assert result() == 1
    cache.invalidate_tags("named")
    assert result() == 2
    forced.append("invalidate")
    assert result() == 3
    forced.clear()
    assert result() == 4


def test_fragments(app, cache):
    """A list, or a single tag, at the end."""
    number = numbers()
    texts = (
        "{% cache 60, 'box', who, tags=['a', 'b'] %}{{ number() }}{% endcache %}",
        "{% cache 60, tags='a' %}{{ number() }}{% endcache %}",
    )
    with app.app_context():
        for text in texts:
            first = render_template_string(text, who="me", number=number)
            assert render_template_string(text, who="me", number=number) == first
            cache.invalidate_tags("a")
            assert render_template_string(text, who="me", number=number) != first


def test_what_is_wrong(cache):
    """The decorators refuse what are no tags at once."""
    for decorator in (cache.cached, cache.memoize):
        with pytest.raises(TypeError, match="must be a list, tuple or set"):
            decorator(60, tags="x")


def test_without_a_cache(app):
    """A cache that keeps nothing takes tags."""
    cache = Cache(
        app, config={"CACHE_TYPE": "NullCache", "CACHE_NO_NULL_WARNING": True}
    )
    number = numbers()
    result = cache.memoize(60, tags=["x"])(lambda: cachebridge.tag("y") or number())
    assert [result(), result()] == [0, 1]
    assert cache.set("k", 1, tags=["x"])
    assert cache.get_or_load("k", number, tags=["x"]) == 2
