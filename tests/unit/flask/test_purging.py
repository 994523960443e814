"""``purge`` and ``purge_view``: cached pages go by URL and by view."""

from __future__ import annotations

import asyncio

import flask
import pytest
from flask.views import MethodView
from werkzeug.routing import BuildError

from cachebridge.flask_ext import Cache
from tests.unit.django.support import hits_of
from tests.unit.flask.support import Calls

pytestmark = pytest.mark.every_store


@pytest.fixture
def during():
    """Return what views call while they run."""
    return []


@pytest.fixture
def site(app, cache, during):
    """Return a function that gets a page, of views of several kinds."""
    calls = Calls()

    def page():
        if during:
            during.pop()()
        return f"{flask.request.full_path} {calls()}"

    @app.route("/products/<int:number>/")
    @app.route("/p/<int:number>/", endpoint="short")
    @cache.cached(60, query_string=True, purgeable=True)
    def product(number):
        return page()

    @app.route("/plain/")
    @cache.cached(60)
    def plain():
        return page()

    class Terms(MethodView):
        @cache.cached(60, purgeable=True)
        def get(self):
            return page()

    app.add_url_rule("/terms/", view_func=Terms.as_view("terms"))
    app.product, app.plain, app.terms = product, plain, Terms.get
    return lambda path: app.test_client().get(path).text


def changed(site, pages):
    """Return which pages have been made anew."""
    now = {path: site(path) for path in pages}
    found = [path for path in pages if now[path] != pages[path]]
    pages.update(now)
    return found


def test_by_url(app, cache, site):
    """With a query, in any order; without one, all queries; on every host."""
    paths = ["/products/7/", "/products/7/?a=1&b=2", "/products/8/?a=1", "/plain/"]
    pages = {path: site(path) for path in paths}
    assert changed(site, pages) == []
    assert cache.purge("http://example.org/products/7/?b=2&a=1")
    assert changed(site, pages) == paths[1:2]
    cache.purge("/products/7/", "/plain/")
    assert changed(site, pages) == paths[:2]  # what is not purgeable has no tags


def test_by_view(app, cache, site):
    """By endpoint or function; of some arguments, at each of their URLs."""
    app.config["SERVER_NAME"] = "localhost"
    paths = ["/products/7/", "/p/7/", "/products/8/?a=1", "/terms/"]
    pages = {path: site(path) for path in paths}
    with app.app_context():
        cache.purge_view(app.product, number=7)
    assert changed(site, pages) == paths[:2]
    with app.app_context():
        cache.purge_view("short", number=7)
    assert changed(site, pages) == paths[1:2]
    cache.purge_view("product")
    assert changed(site, pages) == [paths[0], paths[2]]
    cache.purge_view(app.product)
    assert changed(site, pages) == paths[:3]
    cache.purge_view(app.terms)
    assert changed(site, pages) == paths[3:]
    cache.purge_view("terms")
    assert changed(site, pages) == paths[3:]


def test_by_view_outside_of_requests(app, cache, site):
    """A command or a task knows no host, and needs none."""
    paths = ["/products/7/", "/p/7/", "/products/8/?a=1"]
    pages = {path: site(path) for path in paths}
    cache.purge_view(app.product, number=7)
    assert changed(site, pages) == paths[:2]
    cache.purge_view("product", number=8)
    assert changed(site, pages) == paths[2:]
    with pytest.raises(BuildError):
        cache.purge_view("product", numbre=7)


def test_awaited(app, cache, site):
    """The twins do the same."""
    pages = {path: site(path) for path in ("/products/7/", "/terms/")}
    assert asyncio.run(cache.apurge("/products/7/"))
    assert asyncio.run(cache.apurge_view("terms"))
    assert changed(site, pages) == list(pages)


def test_a_page_that_is_being_made_is_not_kept(cache, site, during):
    """It may show what was there before the purge."""
    during.append(lambda: cache.purge("/products/7/"))
    first = site("/products/7/")
    second = site("/products/7/")
    assert not during
    assert first != second == site("/products/7/")


def test_hits_come_from_l1(cache, site):
    """A purgeable page is as fast as any."""
    site("/products/7/")
    assert hits_of(cache, lambda: site("/products/7/")) == 1


def test_mount_points(app, cache, site):
    """A path is the whole one, as in a URL."""
    client = app.test_client()

    def get(path):
        return client.get(path, base_url="http://localhost/shop").text

    first = get("/products/7/")
    assert get("/products/7/") == first
    cache.purge("/products/7/")
    assert get("/products/7/") == first
    cache.purge("/shop/products/7/")
    assert get("/products/7/") != first


def test_what_cannot_be_used(app, cache, site):
    """It is named."""
    app.config["SERVER_NAME"] = "localhost"
    for call, error, text in (
        (lambda: cache.purge(7), TypeError, "a URL must be a str"),
        (lambda: cache.purge("products"), ValueError, "begins with a slash"),
        (lambda: cache.purge_view("prodct"), ValueError, "mean 'product'"),
        (lambda: cache.purge_view(len), TypeError, "is not cached"),
        (lambda: cache.purge_view(app.plain), TypeError, "purgeable=True"),
        (lambda: cache.purge_view("short", numbre=7), BuildError, "short"),
        (lambda: cache.cached(60, purgeable="yes"), TypeError, "purgeable"),
    ):
        with app.app_context(), pytest.raises(error, match=text):
            call()


def test_without_a_cache(app):
    """NullCache keeps no page, so there is nothing to purge."""
    config = {"CACHE_TYPE": "NullCache", "CACHE_NO_NULL_WARNING": True}
    cache = Cache(app, config=config)
    assert cache.purge("/x")
    assert asyncio.run(cache.apurge("/x"))
    with pytest.raises(TypeError, match="a tag must be a str"):
        cache.invalidate_tags(7)
