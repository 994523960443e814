"""One scratch app on Flask-Caching and on ours, over real Redis, call by call.

What differs on purpose is left out of the calls or translated here, in one place; each
such deviation has a test of its own, named in DEVIATIONS.
"""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import flask
import pytest
import redis
from flask import abort, make_response, request
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cachebridge.flask_ext import Cache
from tests.unit.django.support import outcome_of, trusted

pytestmark = pytest.mark.every_store
flask_caching = pytest.importorskip(
    "flask_caching", reason="compares with Flask-Caching"
)

DEVIATIONS = {
    "a cold key is computed": "test_a_cold_call_is_computed_once",
    "`add` is two commands": "test_add_is_one_step_with_its_timeout",
    "`None` with `cache_none`": "test_none_is_told_from_a_miss",
    "what HEAD gives": "test_head_never_answers_get",
    "POST is answered": "test_post_neither_asks_nor_fills",
    "cookies, private pages": "test_what_must_not_be_shared_is_not_kept",
    "every memoized call": "test_a_hit_makes_no_round_trip",
    "objects are told apart": "test_no_object_gets_the_entry_of_a_dead_one",
    "keys of views": "test_hosts_schemes_and_mount_points",
    "`?a=1&a=2`": "test_the_order_of_a_repeated_parameter_counts",
    "pages that read": "test_each_user_gets_their_own_page",
    "`delete_cached` with": "test_views_of_blueprints",
    "arguments are told": "test_what_a_function_can_tell_apart",
    "a generator": "test_what_reading_uses_up_is_refused",
    "fragments that vary": "test_no_part_moves_into_another",
    "lambdas of one": "test_functions_of_one_name_have_entries_of_their_own",
    "a decorator without": "test_parentheses",
    "positional-only arguments": "test_positional_only_arguments_count",
    "with `args_to_ignore": "test_deleting_the_entries_of_all_objects_that_are_one",
    "a result that cannot": "test_an_unserializable_result_is_the_same_error_each_time",
    "Redis down": "test_every_method_has_its_answer",
    "a timeout below 0": "test_zero_is_for_ever_and_less_is_over",
    "bytes in Redis": "test_what_cannot_be_read_is_a_miss",
    "`clear()` without": "test_clear_without_a_prefix_is_refused",
    "`CACHE_IGNORE_ERRORS`": "test_delete_many_raises_in_no_case",
    "`delete_memoized` sets": "test_deleting_leaves_no_version",
    "unknown keys": "test_what_is_wrong_is_named",
    "a coroutine function becomes": "test_it_stays_a_coroutine_function",
    "subclasses see": "test_decorators_make_one_step",
}
"""How the rows of docs/flask.md begin, and the test of each."""

KEYS = ["a", "b", "c", "ключ", "a b", "", "k" * 300, 1, ("t", 1)]
VALUES = [
    None,
    True,
    0,
    -7,
    2**63 - 1,
    2**70,
    1.5,
    "",
    "5",
    b"",
    b"5",
    [1, [2]],
    {"a": {"b": [1]}},
    {1, 2},
    (1, "x", (None,)),
]
# No lifetime ends within a test, however slow the machine.
TIMEOUTS = [None, 0, 300, 900, timedelta(), timedelta(seconds=90), timedelta(hours=1)]

keys = st.sampled_from(KEYS)
some_keys = st.lists(keys, min_size=1, max_size=5)
values = st.sampled_from(VALUES)
numbers = st.sampled_from([1, -1, 0, 10, 2**40])
timeouts = st.sampled_from(TIMEOUTS)


def _call(name: str, *arguments: st.SearchStrategy[Any], unpacked: bool = False):
    given_arguments = st.tuples(*arguments)
    if unpacked:
        given_arguments = given_arguments.map(lambda given: tuple(given[0]))
    return st.tuples(st.just(name), given_arguments)


CALLS = st.one_of(
    _call("get", keys),
    _call("set", keys, values),
    _call("set", keys, values, timeouts),
    _call("add", keys, values, timeouts),
    _call("has", keys),
    _call("delete", keys),
    _call("get_many", some_keys, unpacked=True),
    _call("get_dict", some_keys, unpacked=True),
    _call("set_many", st.dictionaries(keys, values, min_size=1, max_size=4), timeouts),
    _call("delete_many", some_keys, unpacked=True),
    _call("unlink", st.lists(st.sampled_from(KEYS[:7]), min_size=1), unpacked=True),
    _call("clear"),
    _call("inc", st.sampled_from(["n", "m"]), numbers),
    _call("dec", st.sampled_from(["n", "m"]), numbers),
    _call("get", st.sampled_from(["n", "m"])),
    _call("set", st.sampled_from(["n", "m"]), numbers, timeouts),
)


def _address(url: str, prefix: str) -> dict[str, Any]:
    named = redis.Redis.from_url(url).connection_pool.connection_kwargs
    return {
        "CACHE_TYPE": "RedisCache",
        "CACHE_REDIS_HOST": named["host"],
        "CACHE_REDIS_PORT": named["port"],
        "CACHE_REDIS_DB": named["db"],
        "CACHE_KEY_PREFIX": prefix,
    }


def scratch_app(cache_class: Any, config: dict[str, Any]) -> Any:  # noqa: C901 one app
    """Return the app on one of the libraries, and its cache."""
    app = flask.Flask("scratch")
    app.config.update(config)
    cache = cache_class(app)
    counter = itertools.count(1)

    @app.route("/page/<name>")
    @cache.cached(60)
    def page(name):
        return f"{name} {next(counter)}"

    @app.route("/query")
    @cache.cached(60, query_string=True)
    def query():
        return f"{sorted(request.args.items(multi=True))} {next(counter)}"

    @app.route("/missing")
    @cache.cached(60)
    def missing():
        abort(404, f"missing {next(counter)}")

    @app.route("/filtered")
    @cache.cached(60, response_filter=lambda response: response[1] == 200)
    def filtered():
        number = next(counter)
        return str(number), 200 if number % 2 else 500

    @app.route("/forced")
    @cache.cached(60, forced_update=lambda: "new" in request.args)
    def forced():
        return str(next(counter))

    @app.route("/unless")
    @cache.cached(60, unless=lambda: "bare" in request.args)
    def unless():
        return str(next(counter))

    @app.route("/response")
    @cache.cached(60, response_hit_indication=True)
    def response():
        made = make_response(str(next(counter)), 201)
        made.headers["X-Own"] = "yes"
        return made

    @app.route("/json")
    @cache.cached(60)
    def json():
        return {"number": next(counter)}

    @app.route("/stream")
    @cache.cached(60)
    def stream():
        yield "number "
        yield str(next(counter))

    @app.route("/memo/<int:a>")
    def memo(a):
        by_name = {"b": int(request.args["b"])} if "b" in request.args else {}
        return str(computed(a, **by_name))

    @app.route("/price/<shop>/<product>")
    def price(shop, product):
        return str(Shop(shop).price(product))

    @app.route("/fragment/<name>")
    def fragment(name):
        source = "{% cache timeout, 'f', name %}{{ number() }}{% endcache %}"
        timeout = "del" if "del" in request.args else 60
        return flask.render_template_string(
            source, name=name, timeout=timeout, number=lambda: next(counter)
        )

    @app.route("/forget/<what>")
    def forget(what):
        {
            "memo": lambda: cache.delete_memoized(computed),
            "call": lambda: cache.delete_memoized(computed, 1, b=5),
            "shop": lambda: cache.delete_memoized(Shop("x").price),
            "shops": lambda: cache.delete_memoized(Shop.price),
            "version": lambda: cache.delete_memoized_verhash(computed),
            "page": lambda: cache.delete_cached(page, "/page/x"),
            "query": lambda: cache.delete_cached(query, "/query", "b=1&a=2"),
        }[what]()
        return "forgotten"

    @cache.memoize(60)
    def computed(a, b=5):
        return a, b, next(counter)

    class Shop:
        def __init__(self, name):
            self.name = name

        def __repr__(self):
            return f"shop {self.name}"

        @cache.memoize(60)
        def price(self, product):
            return product, next(counter)

    return app, cache


PATHS = [
    *("/page/x", "/page/y", "/query?a=2&b=1", "/query?b=1&a=2", "/query?a=3"),
    *("/missing", "/filtered", "/forced", "/forced?new=1", "/unless", "/unless?bare=1"),
    *("/response", "/json", "/stream", "/memo/1", "/memo/1?b=5", "/memo/1?b=6"),
    *("/memo/2", "/price/x/1", "/price/x/2", "/price/y/1"),
    *("/fragment/x", "/fragment/y", "/fragment/x?del=1"),
    *(
        f"/forget/{what}"
        for what in ("memo", "call", "shop", "shops", "version", "page", "query")
    ),
]


@pytest.fixture
def pair(redis_url, place):
    """Return both apps with their caches; each has a prefix of its own.

    Theirs is on Redis each time: ours means the same wherever it is.
    """
    theirs = scratch_app(flask_caching.Cache, _address(redis_url, "theirs:"))
    ours = scratch_app(Cache, place.flask_config() | {"CACHE_KEY_PREFIX": "ours:"})
    trusted(ours[1])
    return ours, theirs


randomly = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.differing_executors,
        HealthCheck.too_slow,
    ],
)


def _answer(cache: Any, name: str, arguments: tuple[Any, ...]) -> Any:
    backend = cache.cache if name in {"inc", "dec"} else cache
    outcome = outcome_of(lambda: getattr(backend, name)(*arguments))
    return outcome._replace(value=None) if name == "clear" else outcome


@randomly
@given(calls=st.lists(CALLS, min_size=10, max_size=40))
def test_methods(pair, calls):
    """Results, types and errors of every method are Flask-Caching's."""
    (_, ours), (_, theirs) = pair
    for cache in (ours, theirs):
        cache.clear()
    for step, (name, arguments) in enumerate(calls):
        expected = _answer(theirs, name, arguments)
        got = _answer(ours, name, arguments)
        said = f"step {step}: {name}{arguments}"
        assert (got.error is None) == (expected.error is None), (said, got, expected)
        assert got.value == expected.value, said


@randomly
@given(paths=st.lists(st.sampled_from(PATHS), min_size=10, max_size=40))
def test_requests(pair, paths):
    """Status, body and headers of every page are the same, hits and misses alike."""
    clients = []
    for app, cache in pair:
        with app.app_context():
            cache.clear()
        clients.append(app.test_client())
    numbers: list[dict[str, int]] = [{}, {}]
    for step, path in enumerate(paths):
        shown = []
        for client, seen in zip(clients, numbers, strict=True):
            answer = client.get(path)
            # The counters of the two apps go on between examples: number anew.
            words = [
                str(seen.setdefault(word, len(seen))) if word.isdecimal() else word
                for word in answer.text.replace(",", " ")
                .replace("(", " ")
                .replace(")", " ")
                .replace("}", " ")
                .replace(":", " ")
                .replace("<", " ")
                .split()
            ]
            shown.append((answer.status_code, words, answer.headers.get("hit_cache")))
        assert shown[0] == shown[1], f"step {step}: {path} after {paths[:step]}"


def test_every_deviation_has_its_test(request):
    """The rows of the documentation's table are those of DEVIATIONS, in order."""
    folder = request.path.parent
    page = (folder.parents[2] / "docs" / "flask.md").read_text()
    table = page.partition("## Where it differs from Flask-Caching")[2]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(DEVIATIONS)
    texts = "".join(each.read_text() for each in folder.glob("test_*.py"))
    for row, (beginning, name) in zip(rows, DEVIATIONS.items(), strict=True):
        assert row.startswith(f"| {beginning}"), row
        assert f"def {name}(" in texts, name
