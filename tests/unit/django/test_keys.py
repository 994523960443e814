"""Keys of every kind: warnings from every method, and no two keys taken for one."""

from __future__ import annotations

import warnings
from enum import Enum

import pytest
from django.core.cache import caches
from django.core.cache.backends.base import CacheKeyWarning
from django.utils.safestring import SafeString

from tests.stores import ALONE, REDIS, WITH_BUS, make_place
from tests.unit.django.support import LOCMEM, entry, hits_of, outcome_of, trusted

pytestmark = pytest.mark.every_store

METHODS = {
    "get": lambda cache, key: cache.get(key),
    "get_many": lambda cache, key: cache.get_many([key]),
    "set": lambda cache, key: cache.set(key, 1),
    "set_many": lambda cache, key: cache.set_many({key: 1}),
    "add": lambda cache, key: cache.add(key, 1),
    "touch": lambda cache, key: cache.touch(key),
    "incr": lambda cache, key: cache.incr(key),
    "decr": lambda cache, key: cache.decr(key),
    "has_key": lambda cache, key: cache.has_key(key),
    "in": lambda cache, key: key in cache,
    "get_or_set": lambda cache, key: cache.get_or_set(key, 1),
    "incr_version": lambda cache, key: cache.set(key, 1) or cache.incr_version(key),
    "decr_version": lambda cache, key: (
        cache.set(key, 1, version=2) or cache.decr_version(key, version=2)
    ),
    "delete": lambda cache, key: cache.delete(key),
    "delete_many": lambda cache, key: cache.delete_many([key]),
}
BAD_KEYS = {
    "space": "a b",
    "newline": "a\nb",
    "nul": "a\x00b",
    "unit separator": "a\x1fb",
    "delete": "a\x7fb",
    "too long": "k" * 251,
    "long and not ASCII": "ж" * 251,
}


class Colour(str, Enum):  # noqa: UP042 formats otherwise than a StrEnum
    RED = "red"


class Alias(str):
    """Equal to one key, written as another."""

    __slots__ = ()

    def __str__(self):
        return "written"


@pytest.fixture(params=[REDIS, "redis without L1", "memory", WITH_BUS, ALONE])
def any_cache(request, set_caches, redis_url):
    """Return a cache on each kind of store."""
    without = request.param == "redis without L1"
    options = {"L1_MAX_ENTRIES": 0} if without else {}
    if request.param == "memory":
        location = "memory://keys"
    else:
        location = make_place(request, request.param.split()[0], redis_url)
    set_caches(default=entry(location, OPTIONS=options))
    cache = caches["default"]
    if not without:
        trusted(cache)
    yield cache
    cache.clear()


@pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_warns_of_a_bad_key_each_time(any_cache, name, key):
    """Also when L1 could answer: the second call warns like the first."""
    for _ in range(3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            any_cache.set(key, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            with pytest.warns(CacheKeyWarning):
                METHODS[name](any_cache, key)


def test_a_bad_key_is_kept_in_l1_all_the_same(cache):
    """The warning costs the shortest path, not the hit."""
    with pytest.warns(CacheKeyWarning):
        cache.set("a b", 1)
    with pytest.warns(CacheKeyWarning):
        assert hits_of(cache, lambda: cache.get("a b")) == 1


@pytest.mark.filterwarnings("ignore::django.core.cache.CacheKeyWarning")
def test_control_characters_are_treated_alike_on_every_store(any_cache):
    """Each of them makes a key of its own that can be found, counted and cleared."""
    keys = [f"a{chr(code)}b" for code in [*range(33), 127, 128, 0x85, 0xA0, 0x2028]]
    assert any_cache.set_many({key: key for key in keys}) == []
    assert any_cache.get_many(keys) == {key: key for key in keys}
    with any_cache.bypass_l1():
        assert any_cache.get_many(keys) == {key: key for key in keys}
    assert [any_cache.get(key) for key in keys] == keys
    assert any_cache.delete(keys[0])
    assert not any_cache.has_key(keys[0])
    any_cache.clear()
    assert any_cache.get_many(keys) == {}


@pytest.mark.parametrize("order", [1, -1])
def test_keys_that_are_equal_to_python_stay_apart(any_cache, order):
    """1, True and 1.0 are one dictionary key, and three cache keys."""
    for key in [1, True, 1.0][::order]:
        any_cache.set(key, repr(key))
    for _ in range(2):
        for key in (True, 1.0, 1):
            assert any_cache.get(key) == repr(key)
            assert list(any_cache.get_many([key]).values()) == [repr(key)]
            assert any_cache.get_or_set(key, "another") == repr(key)
        assert any_cache.get("1") == "1"


def test_strings_of_other_types_make_the_keys_django_makes(any_cache, settings):
    """What a key is, its text decides, not what it is equal to."""
    settings.CACHES = {
        **settings.CACHES,
        "reference": {"BACKEND": LOCMEM, "LOCATION": "keys"},
    }
    caches["reference"].clear()
    keys = [
        "red",
        Colour.RED,
        SafeString("red"),
        Alias("red"),
        "Colour.RED",
        "written",
        b"red",
        None,
        ("red",),
        "Ключ",
        "",
        "\ud800",
    ]
    for key in keys:
        for number, cache in enumerate((caches["default"], caches["reference"])):
            cache.set(key, f"{key!r}")
            assert cache.get(key) == f"{key!r}", number
    for key in keys:
        looks = [
            [
                outcome_of(lambda c=c, k=key: (c.get(k), c.get_many([k]), k in c))
                for _ in "12"
            ]
            for c in (caches["default"], caches["reference"])
        ]
        assert looks[0] == looks[1], key


def test_a_key_too_long_for_a_message_works_without_l1(cache):
    """No process holds it, so none can hold it too long."""
    key = "k" * 70_000
    with pytest.warns(CacheKeyWarning):
        cache.set(key, 1)
    with pytest.warns(CacheKeyWarning):
        assert hits_of(cache, lambda: cache.get(key)) == 0
    with pytest.warns(CacheKeyWarning):
        assert cache.get(key) == 1
    with pytest.warns(CacheKeyWarning):
        assert cache.delete(key)


def test_a_clean_key_never_warns(cache):
    """The quick check lets nothing through that Django would name, and no more."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for key in ("k" * 247, "a~!", "ключ", "a\x80b", "\u00a0"):
            cache.set(key, 1)
            assert cache.get(key) == 1
    with pytest.warns(CacheKeyWarning, match="longer than 250"):
        cache.set("k" * 248, 1)  # with ":1:" it is 251
