"""CACHES entries: ours, those of other backends, and mistakes."""

from __future__ import annotations

import logging

import pytest
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured

from cachebridge.django_backend import options as options_module
from tests.django.support import entry


@pytest.fixture
def made(set_caches):
    """Return a function that makes a cache from an entry; nothing is contacted."""

    def make(location="redis://127.0.0.1:1/0", **params):
        set_caches(default=entry(location, **params))
        return caches["default"]

    return make


@pytest.fixture
def warned(caplog, monkeypatch):
    """Return the log's messages, as if nothing had been said before."""
    monkeypatch.setattr(options_module, "_warned", set())
    caplog.set_level(logging.WARNING, "cachebridge.django")
    return lambda: [record.message for record in caplog.records]


def _engine(cache):
    return cache._binding.engine


MAPPED = {
    "MAX_ENTRIES": ({"MAX_ENTRIES": 7}, "l1_max_entries", 7),
    "L1_MAX_ENTRIES": ({"L1_MAX_ENTRIES": 7}, "l1_max_entries", 7),
    "SOCKET_TIMEOUT": ({"SOCKET_TIMEOUT": 3}, "socket_timeout", 3.0),
    "socket_timeout": ({"socket_timeout": 3}, "socket_timeout", 3.0),
    "SOCKET_CONNECT_TIMEOUT": (
        {"SOCKET_CONNECT_TIMEOUT": 0.25},
        "socket_connect_timeout",
        0.25,
    ),
    "max_connections": ({"max_connections": 5}, "max_connections", 5),
    "CONNECTION_POOL_KWARGS": (
        {"CONNECTION_POOL_KWARGS": {"max_connections": 5, "retry_on_timeout": True}},
        "max_connections",
        5,
    ),
    "CONNECTION_POOL_KWARGS, timeouts": (
        {"CONNECTION_POOL_KWARGS": {"socket_timeout": 4}},
        "socket_timeout",
        4.0,
    ),
    "client_name": (
        {"client_name": "shop"},
        "client_kwargs",
        {"client_name": "shop"},
    ),
}


@pytest.mark.parametrize(("given", "name", "value"), MAPPED.values(), ids=MAPPED)
def test_options_with_a_counterpart_are_mapped(made, given, name, value):
    """Those of Django's RedisCache and of django-redis, in their spelling."""
    assert getattr(_engine(made(OPTIONS=given)).options, name) == value


@pytest.mark.parametrize("name", ["PASSWORD", "password"])
def test_a_password_beside_the_url_is_used(made, name):
    """django-redis takes it from OPTIONS; two users never share an engine."""
    cache = made(OPTIONS={name: "geheim"})
    assert _engine(cache).location.connection_kwargs["password"] == "geheim"
    assert "geheim" not in repr(_engine(cache).location)


@pytest.mark.parametrize(
    ("serializer", "name"),
    [
        ("django_redis.serializers.pickle.PickleSerializer", "pickle"),
        ("django_redis.serializers.json.JSONSerializer", "json"),
        ("django.core.cache.backends.redis.RedisSerializer", "pickle"),
        ("json", "json"),
    ],
)
def test_serializers_are_mapped(made, serializer, name):
    """By the names that other backends give them, in either case."""
    for option in ("SERIALIZER", "serializer"):
        cache = made(OPTIONS={option: serializer})
        assert cache._binding.options.serializer == name


@pytest.mark.parametrize(
    ("ignores", "on_error"), [(True, "degrade"), (False, "raise"), (None, "degrade")]
)
def test_ignore_exceptions_is_mapped(made, ignores, on_error):
    """django-redis's switch is ours; without it an outage degrades."""
    given = {} if ignores is None else {"IGNORE_EXCEPTIONS": ignores}
    assert made(OPTIONS=given)._binding.options.on_error == on_error


@pytest.mark.parametrize("place", ["OPTIONS", "beside", "lower case"])
def test_max_entries_bounds_l1_wherever_django_takes_it(made, place):
    """Django reads it from three places."""
    params = {
        "OPTIONS": {"OPTIONS": {"MAX_ENTRIES": 7}},
        "beside": {"MAX_ENTRIES": 7},
        "lower case": {"max_entries": 7},
    }[place]
    assert _engine(made(**params)).l1.max_entries == 7


HARMLESS = {
    "CLIENT_CLASS": "django_redis.client.DefaultClient",
    "COMPRESSOR": "django_redis.compressors.identity.IdentityCompressor",
    "CONNECTION_POOL_CLASS": "redis.connection.ConnectionPool",
    "pool_class": "redis.connection.ConnectionPool",
    "REDIS_CLIENT_CLASS": "redis.client.Redis",
    "PARSER_CLASS": "redis.connection.HiredisParser",
    "PICKLE_VERSION": -1,
    "CLOSE_CONNECTION": True,
    "CULL_FREQUENCY": 3,
}


@pytest.mark.parametrize(("name", "value"), HARMLESS.items(), ids=HARMLESS)
def test_options_without_meaning_here_are_ignored_with_one_warning(
    made, warned, name, value
):
    """One line in the log says so, however many threads make a backend."""
    for _ in range(3):
        made(OPTIONS={name: value})
        caches.create_connection("default")
    assert warned() == [f"OPTIONS[{name!r}] has no effect with cachebridge"]


REFUSED = {
    "CLIENT_CLASS": ("django_redis.client.ShardClient", "DefaultClient"),
    "COMPRESSOR": ("django_redis.compressors.zlib.ZlibCompressor", "Identity"),
    "CONNECTION_FACTORY": ("django_redis.pool.SentinelConnectionFactory", "pool"),
    "CONNECTION_POOL_CLASS": ("redis.BlockingConnectionPool", "ConnectionPool"),
    "SENTINELS": ([("a", 1)], "Sentinel"),
    "SENTINEL_KWARGS": ({}, "Sentinel"),
    "REDIS_CLIENT_KWARGS": ({}, "CLIENT_KWARGS"),
    "REPLICA_READ_ONLY": (False, "same server"),
    "TIMEOUT": (5, "beside OPTIONS"),
    "KEY_PREFIX": ("p", "beside OPTIONS"),
    "VERSION": (2, "beside OPTIONS"),
    "KEY_FUNCTION": ("x.y", "beside OPTIONS"),
}


@pytest.mark.parametrize(("name", "case"), REFUSED.items(), ids=REFUSED)
def test_options_that_would_change_behaviour_are_refused(made, name, case):
    """Each error names the alias, the option and what to do instead."""
    value, instead = case
    with pytest.raises(ImproperlyConfigured) as raised:
        made(OPTIONS={name: value})
    text = str(raised.value)
    assert "CACHES['default']" in text
    assert name in text
    assert instead in text


BAD_OPTIONS = {
    "unknown": (
        {"L1_MAX_ENTRYS": 5},
        ["L1_MAX_ENTRYS", "Did you mean 'L1_MAX_ENTRIES"],
    ),
    "unknown, lower case": ({"l1_ttl": 5}, ["l1_ttl", "Did you mean 'L1_TTL'"]),
    "unknown, unlike any": ({"XYZZY": 5}, ["XYZZY", "Valid options", "SERIALIZER"]),
    "not a name": ({5: 5}, ["5", "Valid options"]),
    "negative": ({"L1_MAX_ENTRIES": -1}, ["L1_MAX_ENTRIES", ">= 0", "-1"]),
    "a string": ({"SOCKET_TIMEOUT": "1"}, ["SOCKET_TIMEOUT", "number of seconds"]),
    "zero": ({"BUS_TRUST": 0}, ["BUS_TRUST", "> 0"]),
    "a bool": ({"L1_MAX_BYTES": True}, ["L1_MAX_BYTES", "integer"]),
    "nan": ({"L1_TTL": float("nan")}, ["L1_TTL", "nan"]),
    "ratio": ({"L1_TTL_RATIO": 1.5}, ["L1_TTL_RATIO", "<= 1"]),
    "choice": ({"BUS": "kafka"}, ["BUS", "'pubsub'", "'none'"]),
    "serializer": ({"SERIALIZER": "yaml"}, ["SERIALIZER", "'pickle'", "'json'"]),
    "a type": ({"SERIALIZER": dict}, ["SERIALIZER"]),
    "prefixes": ({"L1_EXCLUDE": "s"}, ["L1_EXCLUDE", "list"]),
    "together": ({"BUS_HEARTBEAT": 5}, ["BUS_HEARTBEAT", "BUS_TRUST"]),
    "limits": ({"L1_MAX_BYTES": 10}, ["L1_MAX_ENTRY_BYTES", "L1_MAX_BYTES"]),
    "client": ({"CLIENT_KWARGS": {"no_such": 1}}, ["no_such"]),
    "reserved": ({"CLIENT_KWARGS": {"protocol": 3}}, ["protocol", "cachebridge sets"]),
    "not a dict": ({"CLIENT_KWARGS": 5}, ["CLIENT_KWARGS", "dict"]),
    "pool kwargs": ({"CONNECTION_POOL_KWARGS": 5}, ["CONNECTION_POOL_KWARGS"]),
    "db": ({"db": "main"}, ["database 'main' is not a number"]),
}


@pytest.mark.parametrize(("given", "words"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_bad_options_raise_at_construction(made, given, words):
    """ImproperlyConfigured names the alias, the option, and what would be valid."""
    with pytest.raises(ImproperlyConfigured) as raised:
        made(OPTIONS=given)
    text = str(raised.value)
    assert "CACHES['default']" in text
    assert [word for word in words if word not in text] == []


BAD_LOCATIONS = {
    "missing": ("", ["LOCATION is missing", "redis://", "memory://"]),
    "none": (None, ["LOCATION is missing"]),
    "list": (["redis://a", "redis://b"], ["list", "one URL"]),
    "empty list": ([], ["LOCATION is missing"]),
    "comma": ("redis://a:1,redis://b:1", ["one URL"]),
    "semicolon": ("redis://a:1;redis://b:1", ["one URL"]),
    "no scheme": ("127.0.0.1:6379", ["127.0.0.1:6379", "redis://", "rediss://"]),
    "http": ("http://x", ["http://x", "redis://"]),
    "port": ("redis://x:port/0", ["redis://x:port/0"]),
    "db": ("redis://x/main", ["main", "not a number"]),
    "negative db": ("redis://x/-1", ["-1"]),
    "db in query": ("redis://x?db=main", ["main"]),
    "socket": ("unix://", ["path"]),
    "argument": ("redis://x?no_such=1", ["no_such"]),
}


@pytest.mark.parametrize(
    ("location", "words"), BAD_LOCATIONS.values(), ids=BAD_LOCATIONS
)
def test_bad_locations_raise_at_construction(made, location, words):
    """A forgotten or mistyped setting never becomes a cache that nobody shares."""
    with pytest.raises(ImproperlyConfigured) as raised:
        made(location)
    text = str(raised.value)
    assert "CACHES['default']" in text
    assert [word for word in words if word not in text] == []


def test_an_entry_without_a_location_raises(settings):
    """Django passes an empty string."""
    settings.CACHES = {"default": {"BACKEND": entry("")["BACKEND"]}}
    with pytest.raises(ImproperlyConfigured, match="LOCATION is missing"):
        _ = caches["default"]


def test_passwords_stay_out_of_errors(made):
    """A bad URL is quoted without its secret."""
    for location in (
        "redis://user:geheim@x/main",
        "redis://:geheim@x:port",
        "redis://:geheim@a,redis://:geheim@b",
    ):
        with pytest.raises(ImproperlyConfigured) as raised:
            made(location)
        assert "geheim" not in str(raised.value)


def test_making_a_cache_contacts_nobody(made):
    """Management commands and image builds run without Redis."""
    assert made("redis://127.0.0.1:1/0") is caches["default"]
