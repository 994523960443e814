"""Threads run the same coroutines as tasks, which plain callers must not notice."""

from __future__ import annotations

import pytest
from cachelib.serializers import JSONSerializer
from flask import render_template_string, request

from cachebridge.flask_ext import Cache, CacheBridgeBackend
from cachebridge.flask_ext import jinja as jinja_extension
from cachebridge.flask_ext.backend import base as backends
from cachebridge.flask_ext.decorators import base as decorators
from tests.rig import Plain


@pytest.fixture(params=["RedisCache", "NullCache"])
def any_cache(request, app):
    """Return a cache on Redis, or one that keeps nothing."""
    app.config.update(CACHE_TYPE=request.param, CACHE_NO_NULL_WARNING=True)
    return Cache(app)


def ended(*_args, **_kwargs):
    raise StopIteration("of the application")


def test_a_function_may_raise_stop_iteration(any_cache):
    """No coroutine can raise it, but the caller of a plain function gets it."""
    memoized = any_cache.memoize(60)(lambda _number: ended())
    cached = any_cache.cached(60, key_prefix="k")(lambda: ended())  # noqa: PLW0108 it is wrapped
    forced = any_cache.memoize(60, forced_update=lambda: True)(lambda: ended())  # noqa: PLW0108
    for call in (
        lambda: memoized(1),
        cached,
        forced,
        lambda: any_cache.get_or_load("k", ended),
    ):
        with pytest.raises(StopIteration, match="of the application"):
            call()


@pytest.mark.parametrize("name", ["unless", "forced_update", "is_stale"])
def test_a_condition_may_raise_stop_iteration(app, cache, name):
    """Before the look-up and on a hit of either level."""
    app.debug = True
    function = cache.memoize(60)(lambda: [1])
    function()
    for _ in range(2):
        with pytest.raises(StopIteration):
            cache.memoize(60, **{name: ended})(function.uncached)()
        with cache.bypass_l1(), pytest.raises(StopIteration):
            cache.memoize(60, **{name: ended})(function.uncached)()


def test_a_filter_may_raise_stop_iteration(any_cache):
    """It is asked about the result, in the middle of the load."""
    with pytest.raises(StopIteration):
        any_cache.memoize(60, response_filter=ended)(lambda: [1])()


def test_a_hit_makes_no_coroutine(app, cache, monkeypatch):
    """Neither a method of the cache, nor a decorator, nor a template."""

    class Shop:
        def __repr__(self):
            return "shop 1"

        @cache.memoize(60)
        def price(self, product):
            return product

    shop = Shop()
    plain = cache.memoize(60)(lambda number: 2 * number)

    @cache.memoize(60, unless=lambda: False, is_stale=lambda _value: False)
    def asked(number):
        return 3 * number

    view = cache.cached(60)(lambda: "page")
    template = "{% cache 60, 'f' %}fragment{% endcache %}"
    cache.set("k", 1)

    def hits():
        with app.test_request_context("/page"):
            return [
                *(cache.get("k"), cache.cache.get("k"), cache.cache.lookup("k")),
                *(cache.get_many("k"), cache.get_dict("k")),
                cache.get_or_load("k", ended),
                *(shop.price(7), plain(2), asked(2), view()),
                render_template_string(template),
            ]

    expected = [1, 1, 1, [1], {"k": 1}, 1, 7, 4, 6, "page", "fragment"]
    assert hits() == hits() == expected
    for module in (backends, decorators, jinja_extension):
        monkeypatch.setattr(module, "run", ended)
    assert hits() == expected


def test_a_callable_makes_one_key_per_call(app, cache):
    """A callable that makes keys is called once, on a hit and on a miss."""
    asked = []

    def key():
        asked.append(request.path)
        return request.path

    view = cache.cached(60, make_cache_key=key)(lambda: "page")
    for number in (1, 2, 3):
        with app.test_request_context("/page"):
            assert view() == "page"
        assert len(asked) == number


def test_the_serializer_may_be_set(place):
    """On a subclass and on an object, as cachelib's tests do."""

    class Readable(CacheBridgeBackend):
        serializer = JSONSerializer()

    backend = Readable(place.location, key_prefix="json:", options=place.options)
    raw = Plain(backend._engine.l2)
    backend.set("k", {"a": [1]})
    assert raw.get("json:k")[0] == b'{"a":[1]}'
    backend.serializer = CacheBridgeBackend.serializer
    backend.set("k", {"a": [1]})
    assert raw.get("json:k")[0] != b'{"a":[1]}'
    assert backend.get("k") == {"a": [1]}


def test_the_prefix_may_be_set(place):
    """Keys are found under the new prefix, those that L1 knows included."""
    backend = CacheBridgeBackend(place.location, key_prefix="a:", options=place.options)
    backend.set("k", 1)
    assert backend.get("k") == 1
    backend.key_prefix = "b:"
    assert backend.get("k") is None
    backend.set("k", 2)
    backend.key_prefix = lambda: "a:"
    assert backend.get("k") == 1
    assert Plain(backend._engine.l2).exists("b:k")
