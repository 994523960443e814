"""What the decorators are given is checked when they are applied."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cachebridge.flask_ext import Cache

cache = Cache()


def plain():
    """Be decorated."""


@pytest.mark.parametrize("name", ["cached", "memoize"])
@pytest.mark.parametrize("function", [plain, print, Cache], ids=lambda f: f.__name__)
def test_parentheses(name, function):
    """Without them the decorator gets the function as its timeout."""
    with pytest.raises(TypeError, match=rf"@cache\.{name}\(\) above"):
        getattr(cache, name)(function)


@pytest.mark.parametrize("name", ["cached", "memoize"])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"timeout": "abc"}, "timeout must be a number of seconds, .* not 'abc'"),
        ({"timeout": True}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": [60]}, "timeout"),
        ({"unless": 5}, "unless must be a function or None, not 5"),
        ({"forced_update": True}, "forced_update must be a function"),
        ({"is_stale": "no"}, "is_stale must be a function"),
        ({"response_filter": 200}, "response_filter must be a function"),
        ({"hash_method": "sha256"}, "hash_method must be a function"),
        ({"cache_none": "false"}, "cache_none must be True or False, not 'false'"),
        ({"source_check": []}, "source_check must be True or False"),
    ],
    ids=str,
)
def test_parameters_of_both(name, given, said):
    """The error names the parameter, and what it may be."""
    with pytest.raises(TypeError, match=f"{name}: {said}"):
        getattr(cache, name)(**given)


@pytest.mark.parametrize(
    ("name", "given", "error", "said"),
    [
        ("cached", {"key_prefix": 5}, TypeError, "key_prefix must be text"),
        ("cached", {"key_prefix": "%s/%s"}, ValueError, "may stand in it once"),
        ("cached", {"key_prefix": "5%/%s"}, ValueError, "percent sign is %%"),
        ("cached", {"make_cache_key": "k"}, TypeError, "make_cache_key must be a"),
        ("cached", {"query_string": "no"}, TypeError, "query_string must be True"),
        ("memoize", {"make_name": "f"}, TypeError, "make_name must be a function"),
        ("memoize", {"args_to_ignore": "self"}, TypeError, "list of the names"),
        ("memoize", {"args_to_ignore": [1]}, TypeError, "list of the names"),
        ("memoize", {"args_to_ignore": 1}, TypeError, "list of the names"),
    ],
    ids=str,
)
def test_parameters_of_one(name, given, error, said):
    """The same."""
    with pytest.raises(error, match=said):
        getattr(cache, name)(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"timeout": 5},
        {"timeout": "60"},
        {"timeout": timedelta(seconds=5)},
        {"timeout": 0},
        {"unless": plain, "cache_none": True, "source_check": None},
    ],
    ids="-".join,
)
def test_what_is_right(given):
    """Is accepted by both."""
    cache.cached(**given)
    cache.memoize(**given)


def test_deleting_what_was_never_kept():
    """The error says what to give."""
    for delete in (cache.delete_memoized, cache.delete_memoized_verhash):
        with pytest.raises(TypeError, match=r"not memoized: .*@cache\.memoize\(\)"):
            delete(plain)
    with pytest.raises(TypeError, match=r"not memoized"):
        cache.delete_memoized(plain, 1)
    with pytest.raises(TypeError, match=r"not cached: .*@cache\.cached\(\)"):
        cache.delete_cached(plain)


def test_deleting_below_another_decorator(app, cache):
    """A decorator that keeps ``__wrapped__`` may stand above."""
    memoized = cache.memoize(60)(lambda: "x")
    above = cache.cached(60, key_prefix="above")(memoized)
    assert above() == "x"
    cache.delete_memoized(above)
    assert cache.delete_cached(above) is True


def test_a_loader_that_has_to_be_awaited(cache):
    """The error names the method that awaits it; nothing is stored."""

    async def load():
        raise AssertionError

    with pytest.raises(TypeError, match=r"await aget_or_load\(\)"):
        cache.get_or_load("k", load)
    assert cache.has("k") is False
