"""Memcached under the backend, beside PyMemcacheCache: both ways, to the byte.

A project that switches over reads what is there, and its old processes read what the
new ones write.
"""

from __future__ import annotations

import datetime as dt
from contextlib import ExitStack
from decimal import Decimal
from types import SimpleNamespace

import pytest
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.utils.safestring import SafeString
from pymemcache.serde import compressed_serde

from cachebridge.errors import UnsupportedOperationError
from cachebridge.testing import memcached_server
from tests.rig import cluster_of
from tests.stores import ALONE, WITH_BUS, flush, make_place
from tests.unit.django.support import entry, shape_of, trusted

THEIRS = "django.core.cache.backends.memcached.PyMemcacheCache"
VALUES = {
    "str": "text",
    "str, not ASCII": "жx",
    "str, empty": "",
    "str of digits": "1",
    "bytes": b"raw",
    "bytes of digits": b"5",
    "bytes like a pickle": b"\x80\x05N.",
    "int": 7,
    "int below zero": -7,
    "big int": 2**70,
    "int64": 2**63 - 1,
    "bool": True,
    "no bool": False,
    "None": None,
    "float": 1.5,
    "dict": {"a": [1, {"b": None}]},
    "tuple": (1, "x"),
    "set": {1, 2},
    "SafeString": SafeString("<b>"),
    "Decimal": Decimal("1.10"),
    "datetime": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    "object": SimpleNamespace(pk=1, name="x"),
    "long str": "ж" * 3000,
    "long bytes": b"y" * 3000,
    "long list": list(range(1000)),
}


@pytest.fixture(params=[WITH_BUS, ALONE])
def place(request, redis_url):
    """Return an empty Memcached, with messages or without."""
    return make_place(request, request.param, redis_url)


@pytest.fixture
def both(set_caches, place):
    """Return a function that makes our cache and theirs, with equal parameters."""

    def make(theirs_options=(), **params):
        servers = place.location.removeprefix("memcached://")
        theirs = {"BACKEND": THEIRS, "LOCATION": servers, **params}
        theirs["OPTIONS"] = dict(theirs_options)
        set_caches(default=entry(place, **params), theirs=theirs)
        return trusted(caches["default"]), caches["theirs"]

    return make


@pytest.mark.parametrize("serde", ["pickle", "compressed"])
@pytest.mark.parametrize("params", [{}, {"KEY_PREFIX": "shop", "VERSION": 7}], ids=str)
def test_what_pymemcache_cache_has_written_is_read(both, params, serde):
    """Every value, in its type, from L2 and from L1, one by one and in a batch."""
    options = {"serde": compressed_serde} if serde == "compressed" else {}
    ours, theirs = both(options, **params)
    theirs.set_many({name.replace(" ", "_"): each for name, each in VALUES.items()})
    wanted = {name.replace(" ", "_"): shape_of(each) for name, each in VALUES.items()}
    for _ in range(2):
        for name, shape in wanted.items():
            assert shape_of(ours.get(name)) == shape, name
        found = ours.get_many(wanted)
        assert {name: shape_of(each) for name, each in found.items()} == wanted
    assert ours.incr("int") == 8
    assert ours.decr("int_below_zero") == -8
    assert ours.has_key("None")
    assert not ours.add("no_bool", 1)
    assert ours.touch("str", 100)
    assert ours.delete("str")
    assert theirs.get("str") is None


@pytest.mark.parametrize("params", [{}, {"KEY_PREFIX": "shop", "VERSION": 7}], ids=str)
def test_what_we_write_pymemcache_cache_reads(both, params):
    """By every method that writes a value; counters count on, from either side."""
    ours, theirs = both(**params)
    for name, value in VALUES.items():
        for write in (
            lambda value=value: ours.set("k", value),
            lambda value=value: ours.set_many({"k": value}),
            lambda value=value: ours.add("k", value),
            lambda value=value: ours.get_or_set("k", lambda: value),
        ):
            ours.delete("k")
            write()
            assert shape_of(theirs.get("k")) == shape_of(value), name
    ours.set("n", 5)
    assert (ours.incr("n"), theirs.incr("n")) == (6, 7)
    with ours.bypass_l1():
        assert ours.incr("n", 10) == 17
    assert theirs.get("n") == 17


def test_what_only_we_can_read_is_nothing_to_pymemcache_cache(both):
    """A copy that is kept past its TTL, a mark, a key too long for Memcached."""
    ours, theirs = both()
    ours.get_or_load("k", lambda: 7, 60, stale_ttl=60)
    assert theirs.get("k") is None
    assert theirs.get("cachebridge-clears") is None
    ours.clear()
    assert ours.get("k") is None


def test_an_old_process_deletes_what_a_new_one_has_written(both):
    """L1 apart, which hears only of those who publish: two deploys."""
    ours, theirs = both()
    ours.set("k", 1)
    theirs.delete("k")
    with ours.bypass_l1():
        assert ours.get("k") is None


@pytest.fixture(scope="module")
def three_servers():
    with ExitStack() as running:
        yield [running.enter_context(memcached_server()) for _ in range(3)]


def test_keys_are_where_hash_client_places_them(set_caches, three_servers):
    """A hundred keys on three servers, in whatever order the settings name them."""
    for server in three_servers:
        flush(server)
    names = [server.url.removeprefix("memcached://") for server in three_servers]
    set_caches(
        default=entry(f"memcached://{','.join(reversed(names))}", KEY_PREFIX="p"),
        theirs={"BACKEND": THEIRS, "LOCATION": names, "KEY_PREFIX": "p"},
    )
    ours, theirs = trusted(caches["default"]), caches["theirs"]
    values = {f"ключ-{number}": number for number in range(100)}
    theirs.set_many(values)
    assert ours.get_many(values) == values
    assert [ours.get(key) for key in values] == list(values.values())
    ours.set_many({key: str(value) for key, value in values.items()})
    assert theirs.get_many(values) == {key: str(each) for key, each in values.items()}
    used = {cluster_of(ours).place_of(f"p:1:{key}").node for key in values}
    assert used == {0, 1, 2}


def version_first(key, key_prefix, version):
    return f"{version}/{key_prefix}/{key}"


def test_clear_refuses_keys_that_no_prefix_tells(bridge):
    """Memcached lists no keys: what begins like others' keys cannot be told apart."""
    function = f"{__name__}.version_first"
    cache = bridge(KEY_FUNCTION=function, KEY_PREFIX="mine")
    cache.set("k", 1)
    with pytest.raises(UnsupportedOperationError, match="begin with KEY_PREFIX"):
        cache.clear()
    assert cache.get("k") == 1
    allowed = bridge(KEY_FUNCTION=function, OPTIONS={"CLEAR_FLUSHES_DB": True})
    allowed.set("k", 1)
    allowed.clear()
    assert allowed.get("k") is None


def test_two_aliases_that_differ_in_their_bus_are_refused(set_caches, place):
    """One engine listens to one bus."""
    set_caches(
        default=entry(place),
        other=entry(place, OPTIONS={"BUS_LOCATION": "redis://127.0.0.1:1/7"}),
    )
    assert caches["default"]
    with pytest.raises(ImproperlyConfigured, match="BUS_LOCATION"):
        _ = caches["other"]
