"""The key of a page holds what its view sees of the URL."""

from __future__ import annotations

import flask
import pytest
from flask import Blueprint, request
from flask.views import MethodView
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.routing import BuildError
from werkzeug.test import Client

from cachebridge.flask_ext import Cache
from tests.unit.flask.support import Calls


@pytest.fixture
def calls():
    return Calls()


@pytest.fixture
def echo(app, cache, calls):
    """Return a function that adds a page that shows its URL and a number."""

    def add(*rules, **options):
        @cache.cached(60, **options)
        def page(**_arguments):
            return f"{request.url} {calls()}"

        for rule in rules:
            app.add_url_rule(rule, "page", page)
        return page

    return add


def test_hosts_schemes_and_mount_points(app, client, echo):
    """Each has a page of its own, and finds it again."""
    echo("/<path:path>")
    urls = [
        ("/p", "http://a.test"),
        ("/p", "http://b.test"),
        ("/p", "http://b.test:8000"),
        ("/p", "https://a.test"),
        ("/p", "http://a.test/one"),
        ("/p", "http://a.test/two"),
        ("/one/p", "http://a.test"),
        ("/b/c", "http://a.test/a"),
        ("/c", "http://a.test/a/b"),
        ("/b|/c", "http://a.test/a"),
    ]
    first = [client.get(path, base_url=base).text for path, base in urls]
    assert [client.get(path, base_url=base).text for path, base in urls] == first
    assert len({text.split()[1] for text in first}) == len(urls)


def test_hosts_with_views_of_their_own(config):
    """host_matching: one path, two views."""
    app = flask.Flask("hosts", host_matching=True, static_host="static.test")
    app.config.update(config)
    cache = Cache(app)
    for host in ("a.test", "b.test"):
        view = cache.cached(60)(lambda host=host: host)
        app.add_url_rule("/p", host, view, host=host)
    client = app.test_client()
    for host in ("a.test", "b.test", "a.test"):
        assert client.get("/p", base_url=f"http://{host}").text == host
    with app.test_request_context("/", base_url="http://a.test"):
        assert cache.delete_cached(app.view_functions["b.test"]) is True


def test_mounted_apps_share_a_cache(config):
    """Each app has its own page, although all have the same keys."""

    def mounted(name):
        app = flask.Flask(name)
        app.config.update(config)
        cache = Cache(app)
        app.add_url_rule("/who", "who", cache.cached(60)(lambda: name))
        return app

    apps = {f"/{name}": mounted(name) for name in ("one", "two")}
    client = Client(DispatcherMiddleware(mounted("root"), apps))
    paths = ["/who", "/one/who", "/two/who", "/who"]
    assert [client.get(path).text for path in paths] == ["root", "one", "two", "root"]


def test_the_order_of_a_repeated_parameter_counts(client, echo):
    """That of different parameters does not."""
    echo("/page", query_string=True)
    assert client.get("/page?a=1&a=2").text != client.get("/page?a=2&a=1").text
    assert client.get("/page?a=1&b=2").text == client.get("/page?b=2&a=1").text
    assert client.get("/page?a=%ff").text != client.get("/page?a=%fe").text


def test_no_path_looks_like_a_query(app, cache, client, echo):
    """A path that ends like the key of another page's query is another page."""
    page = echo("/page", "/<path:path>", query_string=True)
    with app.test_request_context("/page?a=1"):
        digest = page.make_cache_key().rpartition("?")[2]
    first = client.get("/page?a=1").text
    for path in (f"/page%3F{digest}", f"/page{digest}", f"/page%253F{digest}"):
        assert client.get(path).text != first
    assert client.get("/page?a=1").text == first


def test_a_function_that_a_view_calls_is_no_page(app, cache, client):
    """Both have the default key, and each has its own result."""
    sidebar = cache.cached(60)(lambda: "sidebar")
    footer = cache.cached(60)(lambda: "footer")

    @app.get("/")
    @cache.cached(60)
    def page():
        return f"page with {sidebar()} and {footer()}"

    for _ in range(2):
        assert client.get("/").text == "page with sidebar and footer"
    with app.test_request_context("/"):
        assert [sidebar(), footer()] == ["sidebar", "footer"]


# -- deleting --------------------------------------------------------------------------


@pytest.fixture
def delete(app, cache):
    """Return delete_cached, as called in a request for another page."""

    def delete(*args, **kwargs):
        with app.test_request_context("/elsewhere?x=1"):
            return cache.delete_cached(*args, **kwargs)

    return delete


def test_deleting_by_arguments(app, client, echo, delete):
    """All URLs of the view with these arguments, in any script, over both schemes."""
    page = echo("/i/<name>", "/also/<name>")
    pages = ["/i/ä b?", "/also/ä b?", "/i/other"]
    paths = [path.replace("?", "%3F") for path in pages]

    def ask():
        return [client.get(path).text for path in paths]

    secure = client.get(paths[0], base_url="https://localhost").text
    first = ask()
    assert delete(page, name="ä b?") is True
    assert delete(page, name="ä b?") is False
    again = ask()
    assert again[:2] != first[:2]
    assert again[2] == first[2]
    assert client.get(paths[0], base_url="https://localhost").text != secure
    with pytest.raises(BuildError):
        delete(page)


def test_views_of_blueprints(app, cache, client, delete):
    """Registered twice, nested, under another name, and methods of a class."""

    class Listing(MethodView):
        @cache.cached(60)
        def get(self, number):
            return f"{request.url}"

    item = cache.cached(60)(lambda number: request.url)
    inner = Blueprint("inner", "inner")
    inner.add_url_rule("/i/<int:number>", "renamed", item)
    inner.add_url_rule("/l/<int:number>", view_func=Listing.as_view("listing"))
    outer = Blueprint("outer", "outer", url_prefix="/outer")
    outer.register_blueprint(inner)
    app.register_blueprint(outer)
    app.register_blueprint(inner, url_prefix="/a", name="a")
    paths = ["/outer/i/3", "/a/i/3", "/outer/l/3", "/a/l/3"]
    for path in paths:
        assert client.get(path).text == f"http://localhost{path}"
    for view in (item, Listing.get):
        assert delete(view, number=3) is True
        assert delete(view, number=3) is False


def test_deleting_by_path_or_url(app, cache, client, echo, delete):
    """A path is one of the current host; a URL says its own, and its query."""
    page = echo("/p", query_string=True)

    def cold(url, *arguments, **named):
        client.get(url)
        assert delete(page, *arguments, **named) is True, url
        assert delete(page, *arguments, **named) is False, url

    cold("/p", "/p")
    cold("/p")
    cold("/p?a=1&a=2", "/p", {"a": [1, 2]})
    cold("/p?a=1&a=2", "/p", "a=1&a=2")
    cold("/p?a=%ff", "/p", "?a=%ff")
    cold("http://b.test/p?a=1", "http://b.test/p?a=1")
    cold("https://b.test/p", "https://b.test:443/p", "")
    with app.test_request_context("/p?a=1"):
        page()
        assert cache.delete_cached(page, "/p") is True


def test_outside_of_requests(app, cache, client, echo):
    """A path needs SERVER_NAME there, and the error says so; a URL does not."""
    page = echo("/p")
    client.get("/p")
    with app.app_context(), pytest.raises(RuntimeError, match="SERVER_NAME"):
        cache.delete_cached(page, "/p")
    assert cache.delete_cached(page, "http://localhost/p") is True
    app.config.update(SERVER_NAME="shop.test", PREFERRED_URL_SCHEME="https")
    client.get("/p", base_url="http://shop.test")
    with app.app_context():
        assert cache.delete_cached(page) is True
        assert cache.delete_cached(page, "/p") is False


def test_compatible_keys(app, cache, client, echo):
    """CACHE_COMPATIBLE_KEYS: by path alone, deleted without knowing a host."""
    cache.init_app(app, {**app.config, "CACHE_COMPATIBLE_KEYS": True})
    page = echo("/p/<name>", query_string=True)
    first = client.get("/p/ä?a=1&a=2", base_url="http://a.test").text
    assert client.get("/p/ä?a=2&a=1").text == first
    with app.app_context():
        assert cache.delete_cached(page, "/p/ä", "a=2&a=1") is True
    with app.test_request_context("/"):
        page.uncached()
        assert page.make_cache_key(name="ä", query_args="").startswith("view//p/ä")
