"""``cached`` on views and functions."""

from __future__ import annotations

import threading
import time

import flask
import pytest
from flask import abort, make_response, request
from flask.views import View

from cachebridge import UncacheableError
from cachebridge.flask_ext import Cache, CachedResponse
from tests.rig import Plain
from tests.unit.django.support import hits_of
from tests.unit.flask.support import Calls, at_once

pytestmark = pytest.mark.every_store


@pytest.fixture
def calls():
    return Calls()


@pytest.fixture
def page(app, cache, calls):
    """Return a function that adds a cached view and returns the decorator's work."""

    def add(answer=str, path="/page", methods=None, **options):
        @app.route(path, methods=methods, endpoint=path)
        @cache.cached(60, **options)
        def view():
            return answer(calls())

        return view

    return add


def test_a_cold_page_is_computed_once(app, page, calls):
    """However many threads ask for it together."""

    def slow(number):
        time.sleep(0.1)  # the others come meanwhile; who comes later finds the page
        return str(number)

    page(slow)
    assert at_once(lambda: app.test_client().get("/page").text) == ["1"] * 16
    assert calls.count == 1


def test_a_hit_is_answered_by_l1(cache, client, page):
    """The second request is answered by L1."""
    page()
    client.get("/page")
    client.get("/page")
    assert hits_of(cache, lambda: client.get("/page")) == 1


@pytest.mark.parametrize("cache_none", [True, False])
def test_none_is_told_from_a_miss(cache, calls, cache_none):
    """With cache_none a None is a hit; without it the function runs each time."""

    @cache.cached(60, key_prefix="nothing", cache_none=cache_none)
    def nothing():
        calls()

    for _ in range(3):
        assert nothing() is None
    assert calls.count == (1 if cache_none else 3)
    assert cache.has("nothing") is cache_none


def test_a_none_of_another_writer_is_computed_anew(cache, calls):
    """Without cache_none a None in the cache is a miss, even if a writer set it."""
    cached = cache.cached(60, key_prefix="k")(calls)
    cache.set("k", None)
    assert [cached(), cached()] == [1, 1]


def test_head_never_answers_get(client, page, calls):
    """HEAD may be answered by what GET has made, but keeps nothing."""
    page(lambda number: "" if request.method == "HEAD" else f"page {number}")
    assert client.head("/page").status_code == 200
    assert client.get("/page").text == "page 2"
    assert client.get("/page").text == "page 2"
    assert client.head("/page").content_length == len("page 2")
    assert calls.count == 2


@pytest.mark.parametrize(
    "options",
    [
        {"key_prefix": "index"},
        {"key_prefix": lambda: request.path},
        {"make_cache_key": lambda: request.path},
        {"store_unshareable": True},
        {"forced_update": lambda: request.method == "HEAD"},
        {"is_stale": lambda value: False},
    ],
    ids=lambda options: next(iter(options)),
)
def test_head_keeps_nothing_under_any_key(client, page, options):
    """Options that change keys or what is kept do not change that."""
    page(lambda number: f"{request.method} {number}", **options)
    client.head("/page")
    assert client.get("/page").text == "GET 2"
    client.head("/page")
    assert client.get("/page").text == "GET 2"


def test_a_get_with_a_body_neither_asks_nor_fills(client, page):
    """The view may read it, and no key has it; an empty one is none."""
    page(lambda number: f"{request.get_data(as_text=True)} {number}")
    page(
        lambda number: f"{request.get_data(as_text=True)} {number}",
        "/search",
        make_cache_key=lambda: "search" + request.get_data(as_text=True),
    )
    assert client.get("/page", json=1).text == "1 1"
    assert client.get("/page", json=2).text == "2 2"
    assert client.get("/page").text == " 3"
    assert client.get("/page", data=b"").text == " 3"
    assert client.get("/page", json=1).text == "1 4"
    assert client.get("/search", json=1).text == "1 5"
    assert client.get("/search", json=1).text == "1 5"


def test_post_neither_asks_nor_fills(client, page, calls):
    """A method with effects always runs, unless the application makes the key."""
    page(lambda number: f"{request.method} {number}", methods=["GET", "POST"])
    page(
        str,
        "/search",
        ["POST"],
        make_cache_key=lambda: "search" + request.get_data(as_text=True),
    )
    assert client.get("/page").text == "GET 1"
    assert client.post("/page").text == "POST 2"
    assert client.post("/page").text == "POST 3"
    assert client.get("/page").text == "GET 1"
    assert client.post("/search", data="a").text == "4"
    assert client.post("/search", data="a").text == "4"
    assert client.post("/search", data="b").text == "5"


def with_header(name, value):
    def answer(number):
        response = make_response(str(number))
        response.headers[name] = value
        return response

    return answer


UNSHAREABLE = {
    "cookie": with_header("Set-Cookie", "a=b"),
    "private": with_header("Cache-Control", "private"),
    "no-store": with_header("Cache-Control", "no-store"),
    "vary": with_header("Vary", "*"),
    "tuple": lambda number: (str(number), {"Cache-Control": "private"}),
    "status": lambda number: (str(number), 206),
    "pairs": lambda number: (str(number), 200, [("Set-Cookie", "a=b")]),
}


@pytest.mark.parametrize("answer", UNSHAREABLE.values(), ids=UNSHAREABLE)
def test_what_must_not_be_shared_is_not_kept(client, page, answer):
    """Each request gets its own, also when they come together."""
    page(answer)
    assert [client.get("/page").text for _ in range(3)] == ["1", "2", "3"]


@pytest.mark.parametrize("answer", UNSHAREABLE.values(), ids=UNSHAREABLE)
def test_what_must_not_be_shared_is_kept_if_asked_for(client, page, answer):
    """``store_unshareable`` is Flask-Caching's behaviour."""
    page(answer, store_unshareable=True)
    assert [client.get("/page").text for _ in range(3)] == ["1"] * 3


def test_a_view_that_changes_the_session_is_not_kept(app, client, page):
    """Its response will set a cookie."""
    app.secret_key = "only for tests"

    def visit(number):
        flask.session["visits"] = flask.session.get("visits", 0) + 1
        return str(number)

    page(visit)
    assert [client.get("/page").text for _ in range(3)] == ["1", "2", "3"]


def test_one_users_page_is_not_shown_to_others(app, page):
    """Requests with Authorization that come together each get their own page."""

    def whose(_number):
        time.sleep(0.05)  # all are under way at the same time
        return request.headers["Authorization"]

    page(whose)
    users = iter(range(8))
    lock = threading.Lock()

    def ask():
        with lock:
            user = f"user {next(users)}"
        headers = {"Authorization": user}
        return app.test_client().get("/page", headers=headers).text == user

    assert at_once(ask, threads=8) == [True] * 8


def test_a_public_page_is_shared(client, page):
    """Cache-Control: public allows it in spite of Authorization."""
    page(with_header("Cache-Control", "public"))
    headers = {"Authorization": "Bearer x"}
    assert [client.get("/page", headers=headers).text for _ in range(2)] == ["1", "1"]


def test_a_function_is_not_judged_by_the_request(app, cache, client, calls):
    """A helper's result does not depend on the request that needs it."""
    helper = cache.cached(60, key_prefix="helper")(calls)

    @app.route("/any", methods=["GET", "POST"])
    def view():
        return str(helper())

    headers = {"Authorization": "Bearer x"}
    assert client.post("/any", headers=headers).text == "1"
    assert client.get("/any", headers=headers).text == "1"


def test_a_view_with_a_fixed_key_is_judged(app, cache, client, calls):
    """Also a view of a class, and one under another decorator."""

    class Listing(View):
        @cache.cached(60, key_prefix="listing")
        def dispatch_request(self):
            return str(calls())

    app.add_url_rule("/listing", view_func=Listing.as_view("listing"))

    @app.route("/index")
    @cache.cached(60, key_prefix="index")
    def index():
        return str(calls())

    headers = {"Authorization": "Bearer x"}
    for path in ("/listing", "/index"):
        first = client.get(path, headers=headers).text
        assert client.get(path, headers=headers).text != first


def test_an_error_is_an_answer(client, page, calls):
    """What abort() raises is kept and raised again; a challenge is not."""
    page(lambda number: abort(404))
    page(lambda number: abort(401), "/secret")
    assert [client.get("/page").status_code for _ in range(2)] == [404, 404]
    assert calls.count == 1
    assert [client.get("/secret").status_code for _ in range(2)] == [401, 401]
    assert calls.count == 3


def test_the_functions_own_error_is_raised_each_time(cache, calls):
    """The error is neither kept nor changed."""

    @cache.cached(60, key_prefix="broken")
    def broken():
        raise TypeError(f"attempt {calls()}")

    for number in (1, 2):
        with pytest.raises(TypeError, match=f"^attempt {number}$"):
            broken()


def test_a_response_says_for_how_long(cache, client, page):
    """CachedResponse's timeout goes before the decorator's."""
    view = page(lambda number: CachedResponse(make_response(str(number)), 700))
    with client:
        client.get("/page")
        key = view.make_cache_key(path="/page")
    backend = cache.cache
    left_ms = Plain(backend._engine.l2).get(f"flask_cache_{key}")[1]
    assert 600_000 < left_ms <= 700_000


def test_an_unserializable_page_is_served(app, cache, client, page, caplog):
    """With one entry in the log; in debug mode it raises and says why."""
    page(lambda number: flask.Response(part for part in [str(number)]))
    assert client.get("/page").text == "1"
    assert client.get("/page").text == "2"
    assert "not kept" in caplog.text
    app.debug = True
    app.testing = True
    with pytest.raises(UncacheableError, match="cannot be serialized"):
        client.get("/page")


def test_visitors_do_not_fill_the_log(cache, client, page, caplog):
    """What fails again and again is told once for each kind of error."""

    class Unpicklable(flask.Response):
        def __reduce_ex__(self, protocol):
            raise TypeError(protocol)

    page(lambda _: "x", path="/key", make_cache_key=lambda: request.args["missing"])
    page(lambda _: Unpicklable("x"), path="/result", query_string=True)
    for number in range(3):
        assert client.get(f"/key?{number}").text == "x"
        assert client.get(f"/result?{number}").text == "x"
    lines = [each for each in caplog.messages if "said once" in each]
    assert len(lines) == 2


def test_a_key_that_fails_leaves_the_page_uncached(client, page, caplog):
    """As with Flask-Caching: logged, and the view runs."""

    def fails():
        raise KeyError("tenant")

    page(make_cache_key=fails)
    assert [client.get("/page").text for _ in range(2)] == ["1", "2"]
    assert "no key" in caplog.text


def test_unless_forced_update_and_is_stale(cache, calls):
    """They bypass, replace, and refuse what is kept."""
    state = {"unless": False, "forced": False, "stale": False}
    cached = cache.cached(
        60,
        key_prefix="k",
        unless=lambda: state["unless"],
        forced_update=lambda: state["forced"],
        is_stale=lambda value: state["stale"],
    )(calls)
    assert [cached(), cached()] == [1, 1]
    state["unless"] = True
    assert cached() == 2
    state["unless"] = False
    assert cached() == 1
    state["forced"] = True
    assert cached() == 3
    state["forced"] = False
    assert cached() == 3
    state["stale"] = True
    assert cached() == 4
    state["stale"] = False
    assert cached() == 4


def test_delete_cached(app, cache, client, page):
    """By path, and with a query string in any order."""
    view = page(query_string=True)
    first = client.get("/page?a=1&b=2").text
    assert client.get("/page?b=2&a=1").text == first
    with app.test_request_context("/elsewhere"):
        assert cache.delete_cached(view, "/page", {"b": 2, "a": 1}) is True
        assert cache.delete_cached(view, "/page", {"b": 2, "a": 1}) is False
    assert client.get("/page?a=1&b=2").text != first


def test_an_asynchronous_view_is_run_to_its_end(app, cache, client, calls):
    """What is kept is its result."""

    @app.route("/async")
    @cache.cached(60)
    async def view():
        return str(calls())

    assert [client.get("/async").text for _ in range(2)] == ["1", "1"]


def test_several_apps_each_have_their_cache(config):
    """The current app decides; outside of any app, the last one does."""
    cache = Cache()
    first, second = flask.Flask("first"), flask.Flask("second")
    for app in (first, second):
        app.config.update(config, CACHE_KEY_PREFIX=f"{app.name}:")
        cache.init_app(app)
    with first.app_context():
        cache.set("k", 1)
    with second.app_context():
        assert cache.get("k") is None
        cache.set("k", 2)
    assert cache.get("k") == 2
    with first.app_context():
        assert cache.get("k") == 1


def test_several_caches_of_one_app(app):
    """Each has its own configuration."""
    short = Cache(app, config={"CACHE_DEFAULT_TIMEOUT": 5, "CACHE_KEY_PREFIX": "s:"})
    long = Cache(app, config={"CACHE_DEFAULT_TIMEOUT": 500, "CACHE_KEY_PREFIX": "l:"})
    short.set("k", 1)
    assert long.get("k") is None
    assert short.get("k") == 1
    assert app.extensions["cache"][short].default_timeout == 5
    assert app.extensions["cache"][long].default_timeout == 500
