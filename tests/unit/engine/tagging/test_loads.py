"""Loads with tags: of the call, and of what the loader names while it runs."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import cachebridge
from cachebridge import ABSENT
from cachebridge.engine.tagging.stamps import Stamps
from tests.rig import PATIENCE_S, engine_of, eventually, followers_in, l2_of, until
from tests.sides import SIDES, on_side

pytestmark = pytest.mark.every_store


@pytest.fixture
def plain(place):
    """Return a cache on each kind of shared level."""
    return place.open("tags:")


@pytest.fixture(params=SIDES)
def cache(request, plain):
    """Return it as threads and as tasks use it."""
    return on_side(request.param, plain)


def drop_l1(cache):
    """Have the next read ask L2."""
    engine_of(cache).rules.flush("clear")


def numbers():
    """Return a loader that returns 1, then 2, and so on."""
    return iter(range(1, 100)).__next__


def slow_asks(cache):
    """Return a call that loads a number, that it has begun, and what lets it end."""
    entered, go = threading.Event(), threading.Event()
    load = numbers()

    def slow():
        number = load()
        entered.set()
        assert go.wait(PATIENCE_S)
        return number

    def ask():
        return cache.get_or_load("k", slow, 60, tags=["x"])

    return ask, entered, go


def test_a_loaded_value_has_the_tags_of_its_call(cache):
    """It is loaded anew after an invalidation, and only then."""
    load = numbers()
    for expected in (1, 1):
        assert cache.get_or_load("k", load, 60, tags=["x", "y"]) == expected
        drop_l1(cache)
    cache.invalidate_tags("y")
    assert cache.get("k") is None
    for expected in (2, 2):
        assert cache.get_or_load("k", load, 60, tags=["x", "y"]) == expected
        drop_l1(cache)
    assert cache.invalidate_tags("other")
    assert cache.get("k") == 2


def test_a_loader_names_tags(cache):
    """Each adds to those of the call; outer loads have the tags of inner ones."""

    def outer():
        cachebridge.tag("outer")
        cachebridge.tag("outer", "again")
        return cache_of_inner.get_or_load("inner", inner, 60)

    def inner():
        cachebridge.tag("inner")
        return 7

    cache_of_inner = cache
    for tag in ("call", "outer", "again", "inner"):
        assert cache.get_or_load("k", outer, 60, tags=["call"]) == 7
        assert cache.get("inner") == 7
        cache.invalidate_tags(tag)
        assert cache.get("k") is None, tag
        assert cache.get("inner") == (None if tag == "inner" else 7)
        cache.delete_many(["k", "inner"])


@pytest.mark.parametrize("when", ["call", "loader"])
def test_a_value_from_before_an_invalidation_is_not_stored(cache, when):
    """Its caller gets it, and the next one loads."""

    def load():
        if when == "loader":
            cachebridge.tag("x")
        cache.invalidate_tags("x")
        return "old"

    tags = ["x"] if when == "call" else None
    assert cache.get_or_load("k", load, 60, tags=tags) == "old"
    assert cache.get("k") is None
    assert not cache.has_key("k")
    assert cache.get_or_load("k", lambda: "new", 60, tags=tags) == "new"
    assert cache.get("k") == "new"


def test_a_caller_that_has_invalidated_gets_no_older_value(plain):
    """Nor does any that has asked since that load began: they share the next one."""
    ask, entered, go = slow_asks(plain)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(ask)
        assert entered.wait(PATIENCE_S)
        early = pool.submit(ask)
        eventually(lambda: followers_in(plain) == 1)
        plain.invalidate_tags("x")
        late = pool.submit(ask)
        eventually(lambda: followers_in(plain) == 2)
        go.set()
        assert first.result(PATIENCE_S) == 1
        assert early.result(PATIENCE_S) == 2
        assert late.result(PATIENCE_S) == 2
    assert plain.get("k") == 2


def test_a_caller_that_has_set_gets_no_older_value(plain):
    """Though what it has set is invalid by now, and so no caller gets that instead."""
    ask, entered, go = slow_asks(plain)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask)
        assert entered.wait(PATIENCE_S)
        assert plain.set("k", "own", 60, tags=["y"])
        plain.invalidate_tags("y")
        late = pool.submit(ask)
        eventually(lambda: followers_in(plain) == 1)
        go.set()
        assert first.result(PATIENCE_S) == 1
        assert late.result(PATIENCE_S) == 2
    assert plain.get("k") == 2


def test_an_invalid_copy_is_not_served(cache):
    """Neither while it is loaded anew, nor after the loader has failed."""
    terms = {"stale_ttl": 60, "stale_if_error": 60}

    def fail():
        raise LookupError

    for load, expected in ((lambda: 2, 2), (fail, None)):
        cache.get_or_load("k", lambda: 1, 1, tags=["x"], **terms)
        eventually(lambda: not cache.has_key("k"))
        cache.invalidate_tags("x")
        if expected is None:
            with pytest.raises(LookupError):
                cache.get_or_load("k", load, 1, tags=["x"], **terms)
        else:
            got = cache.get_or_load("k", load, 60, tags=["x"], **terms)
            assert got == expected
        cache.delete("k")


def test_a_copy_whose_tags_are_valid_is_served(cache):
    """Stale while it is loaded anew, as without tags; the new value has the tags."""
    load = numbers()
    terms = {"stale_ttl": 60, "tags": ["x"]}
    assert cache.get_or_load("k", load, 1, **terms) == 1
    eventually(lambda: not cache.has_key("k"))
    assert cache.get_or_load("k", load, 60, **terms) == 1
    eventually(lambda: cache.get("k") == 2)
    cache.invalidate_tags("x")
    assert cache.get("k") is None


def test_absence_is_not_remembered_for_tags(cache):
    """A mark of absence has no tags: what is made a moment later is found."""
    found = [ABSENT, ABSENT, 3]

    def load():
        return found.pop(0)

    for expected in (None, None, 3):
        got = cache.get_or_load("k", load, 60, negative_ttl=60, tags=["x"])
        assert got == expected


def test_what_the_loader_names_wrongly(cache):
    """The error comes out of the loader, and nothing is stored."""
    for wrong, error, text in (
        ((7,), TypeError, "a tag must be a str, not int: 7"),
        (("",), ValueError, "must not be empty"),
        ([str(number) for number in range(33)], ValueError, "32 tags at most"),
        (("a" * 201,), ValueError, "200 bytes of UTF-8"),
        (("a\n",), ValueError, "no control characters"),
        (("\ud800",), ValueError, "lone surrogates"),
    ):
        with pytest.raises(error, match=text):
            cache.get_or_load("k", lambda wrong=wrong: cachebridge.tag(*wrong), 60)
        assert not cache.has_key("k")


def test_tags_of_a_call_that_are_none(cache):
    """Each call says what it takes, before it asks any server."""
    calls = [
        lambda tags: cache.set("k", 1, 60, tags=tags),
        lambda tags: cache.set_many({"k": 1}, 60, tags=tags),
        lambda tags: cache.add("k", 1, 60, tags=tags),
        lambda tags: cache.get_or_load("k", lambda: 1, 60, tags=tags),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"not str: write \['abc'\]"):
            call("abc")
        with pytest.raises(TypeError, match="must be a list, tuple or set"):
            call({"a": 1})
        with pytest.raises(TypeError, match="a tag must be a str"):
            call([b"a"])
        with pytest.raises(ValueError, match="32 tags at most, these are 33"):
            call([str(number) for number in range(33)])
    with pytest.raises(TypeError, match="a tag must be a str, not list"):
        cache.invalidate_tags(["a"])
    with pytest.raises(ValueError, match="sent later"):
        cache.set("k", 1, 60, wait=False, tags=["a"])
    assert not cache.has_key("k")
    assert cache.invalidate_tags()


def test_outside_of_a_load_nothing_is_tagged():
    """But what is no tag is refused."""
    cachebridge.tag("x")
    asyncio.run(cachebridge.atag("x"))
    with pytest.raises(TypeError):
        cachebridge.tag(7)


def test_coroutines_await(plain):
    """In a thread with an event loop the plain function would block it."""

    async def load():
        with pytest.raises(RuntimeError, match=r"await cachebridge\.atag"):
            cachebridge.tag("x")
        await cachebridge.atag("x", "y")
        return 1

    async def ask():
        return await plain.aget_or_load("k", load, 60)

    assert asyncio.run(ask()) == 1
    drop_l1(plain)
    assert plain.get("k") == 1
    assert l2_of(plain).get("tags:k")[0].startswith(b"\xcb\x01\x02")
    plain.invalidate_tags("y")
    assert plain.get("k") is None


def test_a_tag_that_two_tasks_name_at_once(plain, monkeypatch):
    """Each reads its data after the stamp; what one read too early is not stored."""
    read = Stamps.make_stamps
    held = asyncio.Event()
    waits = [held]

    async def make_stamps(self, tags):
        if waits:
            await waits.pop().wait()
        return await read(self, tags)

    async def load():
        late = asyncio.create_task(cachebridge.atag("x"))
        await until(lambda: not waits)
        await cachebridge.atag("x")
        value = "old"
        await plain.ainvalidate_tags("x")
        held.set()
        await late
        return value

    monkeypatch.setattr(Stamps, "make_stamps", make_stamps)
    assert asyncio.run(plain.aget_or_load("k", load, 60)) == "old"
    assert plain.get("k") is None
