"""Results that depend on the session or a cookie are not kept for others."""

from __future__ import annotations

import pytest
from flask import g, render_template_string, request, session

from tests.unit.flask.support import Calls


@pytest.fixture
def calls():
    return Calls()


@pytest.fixture
def app(app):
    app.secret_key = "only for tests"
    app.add_url_rule("/login/<user>", "login", _login)
    return app


def _login(user):
    session["user"] = user
    return "welcome", {"Set-Cookie": f"theme={user}; Path=/"}


@pytest.fixture
def shown(app):
    """Return a function that asks for a page as two users, twice each."""

    def ask(path="/page"):
        clients = [app.test_client(), app.test_client()]
        for client, user in zip(clients, ("ann", "bob"), strict=True):
            client.get(f"/login/{user}")
        return [client.get(path).text for client in clients * 2]

    return ask


EACH = ["ann", "bob"] * 2


def by_session():
    return session.get("user", "nobody")


def by_cookie():
    return request.cookies.get("theme", "none")


def by_header():
    return request.headers.get("Cookie", "").rpartition("theme=")[2].partition(";")[0]


def by_all_headers():
    return dict(request.headers)["Cookie"].rpartition("theme=")[2].partition(";")[0]


def by_template():
    return render_template_string("{{ session.user }}")


def by_generator():
    yield by_session()


@pytest.mark.parametrize(
    "answer",
    [by_session, by_cookie, by_header, by_all_headers, by_template, by_generator],
    ids=lambda f: f.__name__,
)
def test_each_user_gets_their_own_page(app, cache, shown, caplog, answer):
    """The view reads it; the log says so, once."""
    app.add_url_rule("/page", "page", cache.cached(60)(answer))
    assert shown() == EACH
    said = [each for each in caplog.messages if "depend on the session" in each]
    assert len(said) == 1


@pytest.mark.parametrize(
    "answer", [by_session, by_cookie, by_header], ids=lambda f: f.__name__
)
def test_what_was_read_before_the_view(app, cache, shown, answer):
    """In before_request, or by a decorator above, such as login_required."""

    @app.before_request
    def load_user():
        g.user = answer()

    app.add_url_rule("/page", "page", cache.cached(60)(lambda: g.user))
    assert shown() == EACH


def test_what_a_helper_reads(app, cache, shown):
    """Neither the helper's result is kept nor the page that needs it."""
    helper = cache.cached(60, key_prefix="helper")(by_session)
    app.add_url_rule("/page", "page", cache.cached(60)(lambda: f"{helper()}"))
    assert shown() == EACH


class Shop:
    """Has methods that read the session."""

    def __repr__(self):
        return "Shop()"

    def of_object(self):
        return by_session()

    def of_class(cls):  # noqa: N805 a class method, not bound yet
        return by_session()


def test_a_memoized_function_that_reads_the_session(app, cache, shown, caplog):
    """It is not kept: what it is called with need not tell users apart."""
    bare = cache.memoize(60)(by_session)
    named = cache.memoize(60)(lambda category: by_session())
    of_object = cache.memoize(60)(Shop.of_object)
    of_class = cache.memoize(60)(Shop.of_class)
    calls = [
        bare,
        lambda: named("books"),
        lambda: of_object(Shop()),
        lambda: of_class(Shop),
    ]
    for number, call in enumerate(calls):
        app.add_url_rule(f"/{number}", f"{number}", call)
    for number, _ in enumerate(calls):
        assert shown(f"/{number}") == EACH
    assert "store_unshareable=True" in caplog.text


def test_a_memoized_function_whose_arguments_tell_users_apart(app, cache, shown, calls):
    """It is kept on request."""
    named = cache.memoize(60, store_unshareable=True)(
        lambda user: f"{user} {by_session()} {calls()}"
    )
    app.add_url_rule("/page", "page", lambda: named(session["user"]))
    assert shown() == ["ann ann 1", "bob bob 2"] * 2


def by_login():
    return request.headers.get("Authorization", "nobody")


@pytest.mark.parametrize("decorator", ["cached", "memoize", "fragment"])
def test_what_reads_the_login_outside_of_a_view(app, cache, decorator):
    """A helper or a fragment is not kept; for a view the response decides."""
    app.jinja_env.globals["by_login"] = by_login
    source = "{% cache 60, 'login' %}{{ by_login() }}{% endcache %}"
    show = {
        "cached": cache.cached(60, key_prefix="login")(by_login),
        "memoize": cache.memoize(60)(by_login),
        "fragment": lambda: render_template_string(source),
    }[decorator]
    app.add_url_rule("/page", "page", lambda: f"{show()}")
    client = app.test_client()
    for user in EACH:
        assert client.get("/page", headers={"Authorization": user}).text == user


def test_a_fragment_that_reads_the_session(app, cache, shown):
    """It is not kept, unless it varies on something that is no constant."""
    source = "{% cache 60, 'menu' %}{{ session.user }}{% endcache %}"
    constant = "{% cache 60, 'menu', 'de' %}{{ session.user }}{% endcache %}"
    varying = "{% cache 60, 'menu', user %}{{ session.user }}{% endcache %}"
    app.add_url_rule("/page", "page", lambda: render_template_string(source))
    app.add_url_rule(
        "/kept", "kept", lambda: render_template_string(varying, user="all")
    )
    app.add_url_rule("/same", "same", lambda: render_template_string(constant))
    assert shown() == EACH
    assert shown("/same") == EACH
    assert shown("/kept") == ["ann"] * 4


def test_a_page_that_reads_neither_is_shared(app, cache, calls, shown):
    """Cookies that come with the request do not matter by themselves."""
    helper = cache.cached(60, key_prefix="helper")(lambda: "for all")

    @app.get("/page")
    @cache.cached(60)
    def page():
        return f"{helper()} {calls()}"

    assert shown() == ["for all 1"] * 4


def test_a_helper_is_not_judged_by_the_page(app, cache, calls, shown):
    """The page reads the session before and after; the helper does not."""
    helper = cache.cached(60, key_prefix="helper")(lambda: f"for all {calls()}")

    @app.get("/page")
    def page():
        return f"{by_session()}{by_cookie()} {helper()} {by_session()}"

    assert {each.split()[3] for each in shown()} == {"1"}


@pytest.mark.parametrize(
    "options",
    [
        {"make_cache_key": lambda: f"page of {session['user']}"},
        {"key_prefix": lambda: f"page of {session['user']}"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_key_that_tells_users_apart(app, cache, calls, shown, options):
    """With it each user's page is kept."""
    view = cache.cached(60, **options)(lambda: f"{by_session()} {calls()}")
    app.add_url_rule("/page", "page", view)
    assert shown() == ["ann 1", "bob 2"] * 2


def test_on_request_it_is_kept(app, cache, shown):
    """``store_unshareable`` says that all users may get the same."""
    view = cache.cached(60, store_unshareable=True)(by_session)
    app.add_url_rule("/page", "page", view)
    assert shown() == ["ann"] * 4


def test_the_response_still_varies(app, cache):
    """The watch hides neither from Flask nor from the view that it was read."""

    @app.get("/page")
    @cache.cached(60)
    def page():
        assert by_cookie() == by_cookie() == "ann"
        return by_session()

    app.add_url_rule("/plain", "plain", cache.cached(60)(lambda: "plain"))
    client = app.test_client()
    client.get("/login/ann")
    assert "Cookie" in client.get("/page").headers["Vary"]
    assert "Vary" not in client.get("/plain").headers


def test_an_asynchronous_view(app, cache, shown):
    """Also one that suspends."""

    @app.get("/page")
    @cache.cached(60)
    async def page():
        return by_session()

    assert shown() == EACH
