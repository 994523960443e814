"""While Redis is away every method answers as documented, and pages are served."""

from __future__ import annotations

import flask
import pytest
from flask import render_template_string

from cachebridge import L2Error
from cachebridge.flask_ext import Cache
from tests.rig import eventually
from tests.unit.django.support import trusted
from tests.unit.flask.support import Calls


@pytest.fixture
def server(redis_server_factory):
    return redis_server_factory()


@pytest.fixture
def app(server):
    made = flask.Flask("scratch")
    made.testing = True
    made.config.update(
        CACHE_TYPE="RedisCache",
        CACHE_REDIS_URL=server.url,
        CACHE_BRIDGE={"SOCKET_TIMEOUT": 1.0, "SOCKET_CONNECT_TIMEOUT": 1.0},
    )
    return made


@pytest.fixture
def cache(app):
    return trusted(Cache(app))


def test_every_method_has_its_answer(cache, server):
    """None of them raises, also where Flask-Caching's do."""
    cache.set("known", 1)
    cache.get("known")
    server.stop()
    assert cache.get("unknown") is None
    assert cache.get_many("unknown", "known")[0] is None
    assert cache.get_dict("unknown") == {"unknown": None}
    assert cache.has("unknown") is False
    assert cache.set("k", 1) is False
    assert cache.add("k", 1) is False
    assert cache.set_many({"k": 1, "l": 2}) == []
    assert cache.delete("k") is False
    assert cache.delete_many("k", "l") == []
    assert cache.unlink("k") == 0
    assert cache.cache.inc("n") is None
    assert cache.cache.dec("n") is None
    assert cache.cache.touch("k", 5) is False
    assert cache.get_or_load("loaded", lambda: 5) == 5
    assert cache.clear() is False
    assert not cache.health().l2_reachable


@pytest.mark.parametrize("ignore", [True, False])
def test_delete_many_raises_in_no_case(app, server, ignore):
    """With either CACHE_IGNORE_ERRORS: keys with pending deletes are not returned."""
    cache = Cache(app, config={"CACHE_IGNORE_ERRORS": ignore})
    cache.set("k", 1)
    assert cache.delete_many("k", "none") == ["k", "none"]
    server.stop()
    assert cache.delete_many("k", "none") == []


def test_decorators_and_templates_go_on(app, cache, client, server):
    """Functions run, and their results serve this process until Redis is back."""
    calls = Calls()
    memoized = cache.memoize(60)(lambda argument: calls())
    cached = cache.cached(60, key_prefix="c")(calls.__call__)

    @app.route("/page")
    @cache.cached(60)
    def page():
        return str(calls())

    server.stop()

    def is_noticed():
        cache.get("unknown")
        return cache.stats().outages

    eventually(is_noticed, "the outage is noticed")
    assert memoized(1) == memoized(1) == 1
    assert cached() == cached() == 2
    assert client.get("/page").text == client.get("/page").text == "3"
    with app.app_context():
        source = "{% cache 60, 'f' %}fragment{% endcache %}"
        assert render_template_string(source) == "fragment"
    cache.delete_memoized(memoized)


def test_a_deletion_during_the_outage_is_made_up_for(cache, server):
    """What was deleted while Redis was away is not there when it is back."""
    calls = Calls()
    memoized = cache.memoize(600)(lambda argument: calls())
    cache.set("k", 1, 600)
    assert memoized(1) == 1
    server.pause()
    cache.delete("k")
    cache.delete_memoized(memoized)
    server.resume()

    def is_back():
        return cache.set("trial", 1)

    eventually(is_back, "Redis is used again")
    assert cache.get("k") is None
    assert memoized(1) == 2


def test_raising_is_a_choice(app, server):
    """ON_ERROR="raise" lets every method raise L2Error."""
    app.config["CACHE_BRIDGE"]["ON_ERROR"] = "raise"
    cache = Cache(app)
    memoized = cache.memoize(60)(lambda: 1)
    server.stop()
    for call in (
        lambda: cache.get("k"),
        lambda: cache.set("k", 1),
        lambda: cache.cache.inc("n"),
        lambda: cache.delete_many("k"),
        cache.clear,
        memoized,
    ):
        with pytest.raises(L2Error):
            call()
