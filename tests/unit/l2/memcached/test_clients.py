"""What cachebridge and Django's PyMemcacheCache read of each other on one server."""

from __future__ import annotations

from datetime import UTC, datetime

import pymemcache.serde
import pytest
from django.core.cache.backends.memcached import PyMemcacheCache

from cachebridge.django_backend import CacheBridge
from cachebridge.testing import memcached_server

VALUES = [
    "text",
    "ключ",
    "007",
    "",
    b"bytes",
    b"12",
    5,
    -7,
    2**70,
    1.5,
    True,
    None,
    {"a": [1]},
    datetime(2030, 1, 1, tzinfo=UTC),
]
MINUTE_S = 60


@pytest.fixture(scope="module")
def server():
    with memcached_server() as server:
        yield server


@pytest.fixture
def make(server, request):
    """Return a function that makes our cache, with a prefix of the test's own."""

    def make_cache(**options):
        params = {"KEY_PREFIX": request.node.name[:60], "OPTIONS": options}
        return CacheBridge(server.url, params)

    return make_cache


@pytest.fixture
def make_theirs(server, request):
    """Return a function that makes a PyMemcacheCache with the same prefix."""
    made = []

    def make_cache(**options):
        params = {"KEY_PREFIX": request.node.name[:60], "OPTIONS": options}
        made.append(PyMemcacheCache(f"{server.host}:{server.port}", params))
        return made[-1]

    yield make_cache
    for cache in made:
        cache.close()


@pytest.fixture
def theirs(make_theirs):
    return make_theirs()


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_values(make, theirs, value):
    """Each reads what the other has written, types and all."""
    ours = make()
    theirs.set("theirs", value, MINUTE_S)
    ours.set("ours", value, MINUTE_S)
    ours.get_or_load("loaded", lambda: value, MINUTE_S)
    for found in (ours.get("theirs"), theirs.get("ours"), theirs.get("loaded")):
        assert found == value
        assert type(found) is type(value)


def test_compressed_values(make, make_theirs):
    """Values that pymemcache has compressed are read, too."""
    theirs = make_theirs(serde=pymemcache.serde.compressed_serde)
    for value in ("x" * 5000, b"x" * 5000, {"a": "x" * 5000}):
        theirs.set("k", value, MINUTE_S)
        with make().bypass_l1():
            assert make().get("k") == value


def test_counters(make, theirs):
    """Both count the same number; what is below zero only we can go on with."""
    ours = make()
    ours.set("n", 5, MINUTE_S)
    assert theirs.incr("n", 2) == 7
    assert ours.incr("n") == 8
    assert theirs.decr("n") == 7
    assert ours.decr("n", 10) == -3
    assert theirs.get("n") == -3
    assert ours.incr("n", 5) == 2
    assert theirs.incr("n") == 3


@pytest.mark.parametrize("value", ["text", 5, b"12", {"a": 1}], ids=range(4))
def test_what_only_we_can_read(make, theirs, value):
    """With a copy to outlive the TTL a value is for us; others read None."""
    make(STALE_TTL=MINUTE_S).get_or_load("k", lambda: value, MINUTE_S)
    with make().bypass_l1():
        assert make().get("k") == value
    assert theirs.get("k", "default") is None


def test_a_key_that_is_being_loaded(make, theirs):
    """To others it has a None; to us it has nothing."""
    ours, seen = make(), {}

    def load():
        seen["theirs"] = theirs.get("k", "default")
        seen["their add"] = theirs.add("k", 1, MINUTE_S)
        seen["ours"] = make().get("k", "default")
        return "value"

    assert ours.get_or_load("k", load, MINUTE_S) == "value"
    assert seen == {"theirs": None, "their add": False, "ours": "default"}
    assert theirs.get("k") == "value"


@pytest.mark.parametrize("left", ["new", None])
def test_their_write_voids_a_load(make, theirs, left):
    """What they set while we load is not overwritten, and a delete is not undone."""

    def load():
        if left is None:
            theirs.delete("k")
        else:
            theirs.set("k", left, MINUTE_S)
        return "old"

    make().get_or_load("k", load, MINUTE_S)
    assert theirs.get("k") == left


def test_what_is_cleared(make, theirs):
    """Others go on seeing what we have cleared; we see nothing new of theirs there."""
    ours = make()
    theirs.set("before", 1, MINUTE_S)
    ours.set("ours", 1, MINUTE_S)
    assert ours.get("before") == 1
    ours.clear()
    theirs.set("after", 1, MINUTE_S)
    assert ours.get_many(["before", "ours", "after"]) == {}
    assert theirs.get_many(["before", "ours", "after"]) == {
        "before": 1,
        "ours": 1,
        "after": 1,
    }
    assert ours.add("after", 2, MINUTE_S)
    assert theirs.get("after") == 2
