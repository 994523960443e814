"""Tags of groups and of memoized functions."""

from __future__ import annotations

import asyncio

import pytest

import cachebridge
from cachebridge import Cache

NAMES = {1: "one", 2: "two"}


@pytest.fixture
def cache(redis_url):
    return Cache(redis_url, KEY_PREFIX="groups:")


def counted(values):
    """Return a loader that adds to its answer how often it has run."""
    runs = iter(range(100))
    return lambda argument: f"{values[argument]} {next(runs)}"


def test_a_group(cache):
    """Tags by argument; a load of many gives each value its own."""
    load = counted(NAMES)
    group = cache.group("names", load, ttl=60, tags=lambda number: [f"n:{number}"])
    assert [group.get(1), group.get(2), group.get(1)] == ["one 0", "two 1", "one 0"]
    cache.invalidate_tags("n:1")
    assert [group.get(1), group.get(2)] == ["one 2", "two 1"]

    calls = []

    def load_many(arguments):
        calls.append(list(arguments))
        cachebridge.tag("batch")
        return {argument: NAMES[argument] for argument in arguments}

    many = cache.group(
        "many", load_many=load_many, ttl=60, tags=lambda number: [f"m:{number}"]
    )
    assert many.get_many([1, 2]) == NAMES == many.get_many([1, 2])
    cache.invalidate_tags("m:2")
    assert many.get_many([1, 2]) == NAMES
    cache.invalidate_tags("batch")
    assert many.get_many([1, 2]) == NAMES
    assert [sorted(each) for each in calls] == [[1, 2], [2], [1, 2]]


def test_memoized(cache):
    """Tags by the arguments of the call, ``self`` included, or for all."""
    load = counted(NAMES)

    class Shop:
        @cache.memoize(ttl=60, tags=lambda self, number, **_: [f"n:{number}", "all"])
        def name(self, number, *, loud=False):
            return load(number)

    shop = Shop()
    assert [shop.name(1), shop.name(2, loud=True), shop.name(1)] == [
        "one 0",
        "two 1",
        "one 0",
    ]
    cache.invalidate_tags("n:2")
    assert [shop.name(1), shop.name(2, loud=True)] == ["one 0", "two 2"]

    @cache.memoize("awaited", ttl=60, tags=["all"])
    async def awaited(number):
        return load(number)

    assert asyncio.run(awaited(1)) == asyncio.run(awaited(1)) == "one 3"
    cache.invalidate_tags("all")
    assert asyncio.run(awaited(1)) == "one 4"
    assert shop.name(1) == "one 5"


def test_what_is_wrong(cache):
    """The error names the group; a function is asked later."""
    with pytest.raises(TypeError, match=r"group 'names': tags must be a list"):
        cache.group("names", NAMES.get, tags="x")
    group = cache.group("late", NAMES.get, tags=lambda _: "x")
    with pytest.raises(TypeError, match="tags must be a list"):
        group.get(1)
