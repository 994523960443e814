"""Coroutine functions under the decorators, and the cache's methods for tasks."""

from __future__ import annotations

import asyncio
from functools import partial, wraps
from inspect import iscoroutinefunction

import flask
import pytest
from flask import abort, make_response, render_template_string, session

from cachebridge import ABSENT, UncacheableError
from cachebridge.flask_ext import Cache, cache_memoize_hit, cache_memoize_miss
from tests.rig import PATIENCE_S, until
from tests.unit.django.support import hits_of, trusted
from tests.unit.flask.support import Calls, at_once

pytestmark = pytest.mark.every_store


@pytest.fixture
def calls():
    return Calls()


@pytest.fixture
def page(app, cache, calls):
    """Return a function that adds a cached asynchronous view."""

    def add(answer=str, path="/page", methods=None, pause=0.0, **options):
        @app.route(path, methods=methods, endpoint=path)
        @cache.cached(60, **options)
        async def view():
            await asyncio.sleep(pause)
            return answer(calls())

        return view

    return add


class Odd(str):
    """A text that cannot be serialized."""

    __slots__ = ()

    def __reduce__(self):
        raise TypeError("no")


def first_step(coroutine):
    """Return what a coroutine gives in its first step: it must not suspend."""
    with pytest.raises(StopIteration) as end:
        coroutine.send(None)
    return end.value.value


# -- views, under WSGI: a loop for every request ---------------------------------------


def test_a_cold_page_is_computed_once_over_threads(app, page, calls):
    """Each thread has a loop of its own."""
    page(pause=0.1)
    assert at_once(lambda: app.test_client().get("/page").text) == ["1"] * 16
    assert calls.count == 1


def test_a_hit_is_answered_by_l1(cache, client, page):
    """The second request is answered by L1."""
    page()
    client.get("/page")
    client.get("/page")
    assert hits_of(cache, lambda: client.get("/page")) == 1


def test_it_stays_a_coroutine_function(page):
    """It is a coroutine function, with the attributes of all wrappers."""
    view = page()
    assert iscoroutinefunction(view)
    assert iscoroutinefunction(view.uncached)
    assert view.cache_timeout == 60
    assert view.make_cache_key(path="http://a/page").endswith("http://a/page")


def test_head_keeps_nothing(client, page, calls):
    """HEAD asks the cache and does not fill it; POST always runs the view."""
    page(methods=["GET", "POST"])
    client.head("/page")
    assert client.get("/page").text == "2"
    client.head("/page")
    assert calls.count == 2
    assert [client.post("/page").text, client.get("/page").text] == ["3", "2"]


def test_cookies_are_not_shared(app, client, page):
    """Neither by a header of the response nor by a change of the session."""
    app.secret_key = "for tests"

    def with_cookie(number):
        response = make_response(str(number))
        response.set_cookie("user", str(number))
        return response

    def with_session(number):
        session["user"] = number
        return str(number)

    page(with_cookie)
    page(with_session, path="/session")
    page(with_cookie, path="/all", store_unshareable=True)
    for path, same in {"/page": False, "/session": False, "/all": True}.items():
        one, other = (app.test_client().get(path).text for _ in range(2))
        assert (one == other) is same, path


def test_errors(client, page, calls):
    """An HTTPException is an answer; any other error is not kept."""

    def broken(number):
        if number < 3:
            raise LookupError(number)
        return str(number)

    page(broken, path="/broken")
    page(lambda _: abort(404), path="/gone")
    for _ in range(2):
        with pytest.raises(LookupError):
            client.get("/broken")
    assert client.get("/broken").text == "3"
    assert [client.get("/gone").status_code for _ in range(2)] == [404, 404]
    assert calls.count == 4


@pytest.mark.parametrize("side", ["plain", "async"])
def test_callbacks(client, page, calls, side):
    """Each may be a coroutine function, and means the same as on plain views."""
    state = dict.fromkeys(("unless", "forced_update", "is_stale"), False)

    def answering(answer):
        @wraps(answer)
        async def later(*args):
            await asyncio.sleep(0)
            return answer(*args)

        return later if side == "async" else answer

    page(path="/keyed", make_cache_key=answering(lambda: "k"))
    page(
        query_string=True,
        unless=answering(lambda: state["unless"]),
        forced_update=answering(lambda: state["forced_update"]),
        is_stale=answering(lambda _: state["is_stale"]),
        response_filter=answering(lambda text: text != "1"),
        key_prefix=answering(lambda: "own"),
    )
    assert client.get("/page?a=1&b=2").text == "1"  # filtered
    assert client.get("/page?a=1&b=2").text == "2"
    assert client.get("/page?b=2&a=1").text == "2"
    for number, name in enumerate(state, 3):
        state[name] = True
        assert client.get("/page?a=1&b=2").text == str(number)
        state[name] = False
    assert client.get("/page?a=1&b=2").text == "5"
    assert client.get("/page").text == "6"
    assert [client.get("/keyed").text for _ in range(2)] == ["7", "7"]


def test_async_callbacks_need_a_coroutine_function(cache):
    """A plain function could not await them: an error when it is decorated."""

    async def unless():
        return True

    with pytest.raises(TypeError, match="unless is a coroutine function"):
        cache.cached(unless=unless)(lambda: "page")
    with pytest.raises(TypeError, match="unless is a coroutine function"):
        cache.memoize(unless=unless)(lambda: "value")


def test_what_cannot_be_serialized(app, cache, client, page):
    """``cached`` serves it, as it does that of plain views; ``memoize`` raises."""
    page(lambda number: (str(number), 200, {"X-Odd": Odd()}), path="/odd")
    assert [client.get("/odd").text for _ in range(2)] == ["1", "2"]

    @cache.memoize()
    async def odd():
        return Odd()

    with pytest.raises(UncacheableError):
        asyncio.run(odd())


def test_a_page_awaits_a_memoized_function(app, cache, client, calls):
    """In the page's loop, several at once; the template's fragments are as ever."""

    @cache.memoize(60)
    async def price(product):
        await asyncio.sleep(0.01)
        return product * calls()

    @app.route("/prices")
    async def prices():
        found = await asyncio.gather(*[price(5) for _ in range(50)])
        return render_template_string(
            "{% cache 60, 'sum' %}{{ found|sum }}{% endcache %}", found=found
        )

    assert [client.get("/prices").text for _ in range(2)] == ["250", "250"]
    assert calls.count == 1


def test_deleting_a_page(app, cache, client, page):
    """By path, also with a key that is awaited."""
    view = page()

    async def prefix():
        return "awaited"

    other = page(path="/other", key_prefix=prefix)
    assert [client.get("/page").text, client.get("/other").text] == ["1", "2"]
    assert asyncio.run(cache.adelete_cached(view, "http://localhost/page"))
    assert asyncio.run(cache.adelete_cached(other))
    assert [client.get("/page").text, client.get("/other").text] == ["3", "4"]
    with pytest.raises(TypeError, match="has to be awaited"):
        cache.delete_cached(other)


# -- memoize, in a running loop --------------------------------------------------------


@pytest.fixture
def double(cache, calls):
    @cache.memoize(60)
    async def double(number, pause=0.0):
        calls()
        await asyncio.sleep(pause)
        return number * 2

    return double


def test_once_over_tasks_and_threads(double, calls):
    """Of fifty tasks in each of four loops, one runs the function."""

    async def many():
        return await asyncio.gather(*[double(2, 0.2) for _ in range(50)])

    assert at_once(lambda: asyncio.run(many()), threads=4) == [[4] * 50] * 4
    assert calls.count == 1


def test_a_hit_does_not_suspend(double):
    """The coroutine is over after its first step."""
    assert asyncio.run(double(3)) == 6
    assert first_step(double(3)) == 6


def test_a_cancelled_task_hands_over(cache):
    """A cancelled follower just ends; a follower takes over from a cancelled leader."""
    leaders = []

    @cache.memoize(60)
    async def double(number):
        leaders.append(asyncio.current_task())
        await asyncio.sleep(0.2)
        return number * 2

    async def main():
        tasks = [asyncio.create_task(double(4)) for _ in range(5)]
        await until(lambda: leaders)
        follower = tasks[tasks[0] is leaders[0]]
        cancelled = {tasks.index(leaders[0]), tasks.index(follower)}
        for number in cancelled:
            tasks[number].cancel()
        return cancelled, await asyncio.gather(*tasks, return_exceptions=True)

    cancelled, results = asyncio.run(main())
    assert len(cancelled) == 2
    for number, result in enumerate(results):
        if number in cancelled:
            assert isinstance(result, asyncio.CancelledError)
        else:
            assert result == 8
    assert len(leaders) == 2


@pytest.mark.parametrize("cache_none", [True, False])
def test_none_is_told_from_a_miss(cache, calls, cache_none):
    """It is kept with ``cache_none``."""

    @cache.memoize(60, cache_none=cache_none)
    async def nothing():
        calls()

    assert [asyncio.run(nothing()) for _ in range(3)] == [None] * 3
    assert calls.count == (1 if cache_none else 3)


def test_errors_are_not_kept(cache, calls):
    """The next call runs the function, which refuses invalid calls itself."""

    @cache.memoize(60)
    async def price(product):
        if calls() == 1:
            raise LookupError(product)
        return product

    with pytest.raises(LookupError):
        asyncio.run(price(1))
    assert asyncio.run(price(1)) == 1
    with pytest.raises(TypeError):
        asyncio.run(price())


@pytest.mark.parametrize("side", ["plain", "async"])
def test_deleting_memoized(cache, calls, side):
    """One call, all calls, those of an object; by the method for threads or tasks."""

    def delete(*args):
        if side == "plain":
            cache.delete_memoized(*args)
        else:
            asyncio.run(cache.adelete_memoized(*args))

    @cache.memoize(60)
    async def price(product):
        return calls()

    class Shop:
        @cache.memoize(60)
        async def stock(self, product):
            return calls()

    def both():
        return [asyncio.run(price(product)) for product in (1, 2)]

    assert both() == both() == [1, 2]
    delete(price, 1)
    assert both() == [3, 2]
    delete(price)
    assert both() == [4, 5]
    one, other = Shop(), Shop()
    assert [asyncio.run(each.stock(1)) for each in (one, other)] == [6, 7]
    delete(one.stock)
    assert [asyncio.run(each.stock(1)) for each in (one, other)] == [8, 7]
    assert price.make_cache_key(price.uncached, 1) == asyncio.run(
        price.amake_cache_key(price.uncached, 1)
    )


def test_tasks_delete_entries_of_plain_functions(cache, calls):
    """``adelete_memoized`` accepts either kind."""

    @cache.memoize(60)
    def price(product):
        return calls()

    assert [price(1), price(1)] == [1, 1]
    asyncio.run(cache.adelete_memoized(price, 1))
    assert price(1) == 2
    asyncio.run(price.adelete_memoized())
    assert price(1) == 3


def test_conditions_of_memoize(cache, calls):
    """All of them may be coroutine functions."""
    state = {"unless": False, "forced": False}

    async def unless(*_args):
        return state["unless"]

    async def forced(*_args):
        return state["forced"]

    async def name(namespace):
        return f"{namespace}.renamed"

    @cache.memoize(60, unless=unless, forced_update=forced, make_name=name)
    async def price(product):
        return calls()

    assert [asyncio.run(price(1)) for _ in range(2)] == [1, 1]
    state["unless"] = True
    assert asyncio.run(price(1)) == 2
    state.update(unless=False, forced=True)
    assert asyncio.run(price(1)) == 3
    state.update(forced=False)
    assert asyncio.run(price(1)) == 3
    asyncio.run(cache.adelete_memoized(price, 1))
    assert asyncio.run(price(1)) == 4
    with pytest.raises(TypeError, match="make_name is a coroutine function"):
        cache.delete_memoized(price, 1)


def test_signals(app, config):
    """They are sent as for plain functions."""
    cache = trusted(Cache(app, config=config | {"CACHE_ENABLE_SIGNALS": True}))
    sent = []

    def on_hit(_sender, **_facts):
        sent.append("hit")

    def on_miss(_sender, **_facts):
        sent.append("miss")

    @cache.memoize(60)
    async def price(product):
        return product

    with (
        cache_memoize_hit.connected_to(on_hit),
        cache_memoize_miss.connected_to(on_miss),
    ):
        for _ in range(2):
            asyncio.run(price(1))
    assert sent == ["miss", "hit"]


# -- the methods -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["shared", "null"])
def test_methods(app, cache, kind):
    """Each returns the same as the method without the ``a``."""
    if kind == "null":
        cache = Cache(
            app, config={"CACHE_TYPE": "NullCache", "CACHE_NO_NULL_WARNING": True}
        )

    def steps(call):
        yield call("set", "k", 1)
        yield call("get", "k")
        yield call("add", "k", 2)
        yield call("add", "l", None, 30)
        yield call("has", "l")
        yield call("get_many", "k", "l", "m")
        yield call("get_dict", "k", "m")
        yield call("set_many", {"m": 3, "n": [4]}, 60)
        yield call("delete", "k")
        yield call("delete", "k")
        yield call("delete_many", "l", "never")
        yield call("unlink", "m", "never")
        yield call("get_or_load", "o", lambda: 5)
        yield call("get_or_load", "p", lambda: ABSENT, default=6)
        yield call("clear")
        yield call("get", "n")

    plain = list(steps(lambda name, *args, **kw: getattr(cache, name)(*args, **kw)))

    def in_task(name, *args, **kwargs):
        return asyncio.run(getattr(cache, f"a{name}")(*args, **kwargs))

    assert list(steps(in_task)) == plain


def test_methods_of_the_backend(cache):
    """Those that Flask-Caching's ``Cache`` lacks."""

    async def main():
        backend = cache.cache
        counted = [await backend.ainc("n"), await backend.ainc("n", 5)]
        counted.append(await backend.adec("n"))
        return [*counted, await backend.atouch("n", 5), await backend.atouch("m", 5)]

    assert asyncio.run(main()) == [1, 6, 5, True, False]


@pytest.mark.parametrize("kind", ["RedisCache", "NullCache"])
def test_a_plain_load_by_a_coroutine_function(cache, kind):
    """The error names the awaited method, also where nothing is cached."""

    async def load_price():
        raise AssertionError("must not run")

    if kind == "NullCache":
        config = {"CACHE_TYPE": kind, "CACHE_NO_NULL_WARNING": True}
        cache = Cache(flask.Flask("nothing"), config=config)
    with pytest.raises(TypeError, match=r"load_price.*aget_or_load"):
        cache.get_or_load("k", load_price)


def test_a_loader_may_be_a_coroutine_function(cache, calls):
    """Run once for fifty tasks; the hit does not suspend."""

    async def load():
        await asyncio.sleep(0.05)
        return calls()

    async def main():
        return await asyncio.gather(
            *[cache.aget_or_load("k", load, 60) for _ in range(50)]
        )

    assert asyncio.run(main()) == [1] * 50
    assert first_step(cache.aget_or_load("k", load, 60)) == 1
    assert first_step(cache.aget("k")) == 1


def test_a_refresh_in_the_background_has_the_app(app, cache, calls):
    """A stale value is renewed by a task, in the app of the caller."""

    async def load():
        calls()
        return flask.current_app.name, calls.count

    async def main():
        ask = partial(cache.aget_or_load, "k", load, 1, stale_ttl=30)
        answers = [None]
        with app.app_context():
            async with asyncio.timeout(PATIENCE_S):
                while answers[-1] != ("scratch", 2):
                    answers.append(await ask())
                    await asyncio.sleep(0.02)
        assert set(answers) == {None, ("scratch", 1), ("scratch", 2)}

    asyncio.run(main())


def test_while_redis_is_away(redis_server_factory, calls):
    """Methods give their answers; decorated functions run once and serve."""
    server = redis_server_factory()
    app = flask.Flask("scratch")
    app.config.update(
        CACHE_TYPE="RedisCache",
        CACHE_REDIS_URL=server.url,
        CACHE_BRIDGE={"SOCKET_TIMEOUT": 1.0, "SOCKET_CONNECT_TIMEOUT": 1.0},
    )
    cache = trusted(Cache(app))

    @cache.memoize(60)
    async def price(product):
        return calls()

    @app.route("/page")
    @cache.cached(60)
    async def view():
        return str(calls())

    server.stop()

    async def main():
        assert await cache.aget("unknown") is None
        assert await cache.aget_many("unknown") == [None]
        assert await cache.aset("k", 1) is False
        assert await cache.aadd("k", 1) is False
        assert await cache.aset_many({"k": 1}) == []
        assert await cache.adelete("k") is False
        assert await cache.adelete_many("k") == []
        assert await cache.aunlink("k") == 0
        assert await cache.cache.ainc("n") is None
        return [await price(1) for _ in range(3)]

    assert asyncio.run(main()) == [1, 1, 1]
    assert [app.test_client().get("/page").text for _ in range(2)] == ["2", "2"]
    assert asyncio.run(cache.aclear()) is False
