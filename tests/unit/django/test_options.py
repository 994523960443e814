"""CACHES entries: ours, those of other backends, and mistakes."""

from __future__ import annotations

import logging

import pytest
import redis
from django.core.cache import caches
from django.core.cache.backends.redis import RedisSerializer
from django.core.exceptions import ImproperlyConfigured

from cachebridge import config
from tests.rig import engine_of, options_of
from tests.unit.django.support import entry


@pytest.fixture
def patient_sockets():
    """Leave the defaults as they are: this is about them."""


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
    monkeypatch.setattr(config, "_warned", set())
    caplog.set_level(logging.WARNING, "cachebridge.django")
    return lambda: [record.message for record in caplog.records]


def _engine(cache):
    return engine_of(cache)


MAPPED = {
    "SOCKET_TIMEOUT, for ever": ({"SOCKET_TIMEOUT": 0}, "socket_timeout", 1.0),
    "socket_timeout, for ever": ({"socket_timeout": 0}, "socket_timeout", 1.0),
    "CONNECTION_POOL_KWARGS, for ever": (
        {"CONNECTION_POOL_KWARGS": {"socket_connect_timeout": None}},
        "socket_connect_timeout",
        0.5,
    ),
    "MAX_ENTRIES": ({"MAX_ENTRIES": 7}, "l1_max_entries", 7),
    "MAX_ENTRIES, digits": ({"MAX_ENTRIES": "7"}, "l1_max_entries", 7),
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
        ("django_redis.serializers.msgpack.MSGPackSerializer", "msgpack"),
        (RedisSerializer, "pickle"),
        ("django.core.cache.backends.redis.RedisSerializer", "pickle"),
        ("json", "json"),
    ],
)
def test_serializers_are_mapped(made, serializer, name):
    """By the names that other backends give them, in either case."""
    for option in ("SERIALIZER", "serializer"):
        cache = made(OPTIONS={option: serializer})
        assert options_of(cache).serializer == name


@pytest.mark.parametrize(
    ("compressor", "name"),
    [
        ("django_redis.compressors.identity.IdentityCompressor", None),
        ("django_redis.compressors.zlib.ZlibCompressor", "zlib"),
        ("django_redis.compressors.gzip.GzipCompressor", "gzip"),
        ("django_redis.compressors.lzma.LzmaCompressor", "lzma"),
        ("django_redis.compressors.zstd.ZStdCompressor", "zstd"),
        ("django_redis.compressors.lz4.Lz4Compressor", "lz4"),
        ("zstd", "zstd"),
        (None, None),
    ],
)
def test_compressors_are_mapped(made, compressor, name):
    """By the names that django-redis gives them, and by ours."""
    assert options_of(made(OPTIONS={"COMPRESSOR": compressor})).compressor == name


@pytest.mark.parametrize("name", ["SIGNING_KEYS", "ENCRYPTION_KEYS"])
def test_keys_of_django(made, settings, name):
    """One word stands for SECRET_KEY and its fallbacks, also once rotated."""
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "k" * 50, ["f" * 50]
    kept = getattr(options_of(made(OPTIONS={name: "django"})), name.lower())
    assert kept == (b"k" * 50, b"f" * 50)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "n" * 50, ["k" * 50]
    kept = getattr(options_of(caches.create_connection("default")), name.lower())
    assert kept == (b"n" * 50, b"k" * 50)
    settings.SECRET_KEY = "short"
    with pytest.raises(ImproperlyConfigured, match=name) as raised:
        caches.create_connection("default")
    assert "short" not in str(raised.value)


@pytest.mark.parametrize(
    ("ignores", "on_error"), [(True, "degrade"), (False, "raise"), (None, "degrade")]
)
def test_ignore_exceptions_is_mapped(made, ignores, on_error):
    """django-redis's switch is ours; without it an outage degrades."""
    given = {} if ignores is None else {"IGNORE_EXCEPTIONS": ignores}
    assert options_of(made(OPTIONS=given)).on_error == on_error


IN_SETTINGS = {
    "DJANGO_REDIS_LOG_IGNORED_EXCEPTIONS": True,
    "DJANGO_REDIS_LOGGER": "shop",
    "DJANGO_REDIS_CLOSE_CONNECTION": True,
    "DJANGO_REDIS_CONNECTION_FACTORY": "shop.ConnectionFactory",
    "DJANGO_REDIS_SCAN_ITERSIZE": 100,
    "CACHE_HERD_TIMEOUT": 20,
}


@pytest.mark.parametrize(("name", "value"), IN_SETTINGS.items(), ids=IN_SETTINGS)
def test_settings_of_django_redis_beside_caches_are_named(
    made, warned, settings, name, value
):
    """They do nothing here, which one line says."""
    setattr(settings, name, value)
    made()
    made()
    (line,) = warned()
    assert line.startswith(f"{name} has no effect with cachebridge: ")


@pytest.mark.parametrize("name", ["PASSWORD", "USERNAME", "password", "db"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_login_that_is_not_given_is_none(made, name, value):
    """As a variable of the environment that is not set; there is one engine."""
    url = "redis://127.0.0.1:1"
    cache = made(url, OPTIONS={name: value})
    assert _engine(cache).location.identity == _engine(made(url)).location.identity
    assert name.lower() not in _engine(cache).location.connection_kwargs


@pytest.mark.parametrize("place", ["OPTIONS", "beside", "lower case"])
def test_max_entries_bounds_l1_wherever_django_takes_it(made, place):
    """Django reads it from three places."""
    params = {
        "OPTIONS": {"OPTIONS": {"MAX_ENTRIES": 7}},
        "beside": {"MAX_ENTRIES": 7},
        "lower case": {"max_entries": 7},
    }[place]
    assert _engine(made(**params)).l1.max_entries == 7


REDIS_PY_HARMLESS = {
    "health_check_interval": 30,
    "retry_on_timeout": True,
    "retry": None,
    "protocol": 3,
    "timeout": 20,
    "single_connection_client": True,
}
HARMLESS = {
    "CLIENT_CLASS": "django_redis.client.DefaultClient",
    "CONNECTION_POOL_CLASS": "redis.connection.ConnectionPool",
    "pool_class": redis.BlockingConnectionPool,
    "REDIS_CLIENT_CLASS": "redis.client.Redis",
    "PARSER_CLASS": "redis.connection.HiredisParser",
    "CLOSE_CONNECTION": True,
    "LOG_IGNORED_EXCEPTIONS": True,
    "CULL_FREQUENCY": 3,
    "CONNECTION_FACTORY": "django_redis.pool.ConnectionFactory",
    "REDIS_CLIENT_KWARGS": {"ssl": True},
    "REPLICA_READ_ONLY": True,
    **REDIS_PY_HARMLESS,
}


@pytest.mark.parametrize(("name", "value"), HARMLESS.items(), ids=HARMLESS)
def test_options_without_meaning_here_are_ignored_with_one_warning(
    made, warned, name, value
):
    """One line in the log says so, however many threads make a backend."""
    for _ in range(3):
        made(OPTIONS={name: value})
        caches.create_connection("default")
    (line,) = warned()
    assert line.startswith(f"OPTIONS[{name!r}] has no effect with cachebridge: ")


@pytest.mark.parametrize(("name", "value"), REDIS_PY_HARMLESS.items())
@pytest.mark.parametrize("place", ["CONNECTION_POOL_KWARGS", "CLIENT_KWARGS"])
def test_arguments_of_redis_py_mean_the_same_in_every_dict(
    made, warned, place, name, value
):
    """One table decides; the warning names the place."""
    made(OPTIONS={place: {name: value}})
    (line,) = warned()
    assert line.startswith(f"{place}[{name!r}] has no effect with cachebridge: ")


REFUSED = {
    "CLIENT_CLASS": ("django_redis.client.ShardClient", "DefaultClient"),
    "COMPRESSOR": ("my.Compressor", "ZStdCompressor"),
    "CONNECTION_FACTORY": ("django_redis.pool.SentinelConnectionFactory", "SENTINELS"),
    "CONNECTION_POOL_CLASS": ("my.Pool", "BlockingConnectionPool"),
    "SERIALIZER": ("my.Serializer", "'json'"),
    "PICKLE_VERSION": (9, "<= 5"),
    "decode_responses": (True, "values are bytes"),
    "encoding": ("latin-1", "UTF-8"),
    "ssl": (True, "rediss://"),
    "unix_socket_path": ("/x", "unix:///path"),
    "SENTINELS": (["a:1"], "(host, port)"),
    "SENTINEL_KWARGS": ({"password": "x"}, "redis+sentinel://"),
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
    "unknown, as theirs": ({"CLIENT_CLAS": 5}, ["Did you mean 'CLIENT_CLASS'"]),
    "unknown, as redis-py's": (
        {"health_check_intervall": 5},
        ["Did you mean 'health_check_interval'"],
    ),
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
    "reserved": (
        {"CLIENT_KWARGS": {"decode_responses": True}},
        ["CLIENT_KWARGS['decode_responses']", "values are bytes"],
    ),
    "client typo": (
        {"CONNECTION_POOL_KWARGS": {"client_nam": "x"}},
        ["'client_nam' is no argument", "Did you mean 'client_name'"],
    ),
    "TLS without TLS": ({"ssl_cert_reqs": None}, ["ssl_cert_reqs", "rediss://"]),
    "not a dict": ({"CLIENT_KWARGS": 5}, ["CLIENT_KWARGS", "dict"]),
    "pool kwargs": ({"CONNECTION_POOL_KWARGS": 5}, ["CONNECTION_POOL_KWARGS"]),
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
    "list": (["redis://a", "redis://b"], ["list", "one URL", "primary"]),
    "query": ("redis://x?socket_timeout=soon", ["'socket_timeout' in its query"]),
    "query, negative": (
        "redis://x?socket_timeout=-1",
        ["SOCKET_TIMEOUT must be a number"],
    ),
    "TLS": ("rediss://x?ssl_cert_reqs=bogus", ["bogus"]),
    "empty list": ([], ["LOCATION is missing"]),
    "comma": ("redis://a:1,redis://b:1", ["one URL"]),
    "semicolon": ("redis://a:1;redis://b:1", ["one URL"]),
    "no scheme": ("127.0.0.1:6379", ["127.0.0.1:6379", "redis://", "rediss://"]),
    "http": ("http://x", ["http://x", "redis://"]),
    "port": ("redis://x:port/0", ["redis://x:***", "host:port"]),
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
    """A forgotten or mistyped setting never becomes a cache of one process."""
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


def test_an_unknown_option_is_told_only_what_is_valid_there(made):
    """TIMEOUT and KEY_PREFIX would be refused in OPTIONS."""
    with pytest.raises(ImproperlyConfigured) as raised:
        made(OPTIONS={"XYZZY": 1})
    listed = str(raised.value).partition("Valid options: ")[2].rstrip(".").split(", ")
    assert "L1_TTL" in listed
    assert not {"TIMEOUT", "KEY_PREFIX"} & set(listed)


def test_an_entry_without_options_is_checked_beside_its_like(settings):
    """It has no dict of its own that would tell it from another entry."""
    like = {
        "BACKEND": "cachebridge.django_backend.CacheBridge",
        "LOCATION": "memory://alike",
    }
    settings.CACHES = {"default": like, "other": {**like, "L1_TTL": 1}}
    caches["default"].set("k", 1)
    with pytest.raises(ImproperlyConfigured, match=r"'other'.*L1_TTL belongs into"):
        caches["other"].get("k")


def test_options_must_be_a_dict(made):
    """Whatever else stands there."""
    with pytest.raises(ImproperlyConfigured, match="OPTIONS must be a dict, not list"):
        made(OPTIONS=["L1_TTL"])


@pytest.mark.parametrize("name", ["SOCKET_TIMEOUT", "L1_TTL", "l1_ttl", "SERIALIZER"])
def test_an_option_beside_options_is_refused(made, name):
    """Django would ignore it without a word."""
    with pytest.raises(ImproperlyConfigured, match=f"{name} belongs into OPTIONS"):
        made(**{name: 1})


@pytest.mark.parametrize(
    ("name", "hint"), [("TIMEOUTS", "Did you mean 'TIMEOUT'"), ("BINARY", "no effect")]
)
def test_what_no_backend_reads_beside_options_is_ignored_with_one_warning(
    made, warned, name, hint
):
    """As with Django's backends the site starts; the log says what was meant."""
    for _ in range(2):
        made(**{name: 1})
    (line,) = warned()
    assert repr(name) in line
    assert hint in line


def test_what_others_read_beside_options(made, warned):
    """Django's limits in either case, and django-redis's way back from keys."""
    cache = made(
        max_entries=7, cull_frequency=3, REVERSE_KEY_FUNCTION="x.y", timeout="60"
    )
    assert _engine(cache).options.l1_max_entries == 7
    assert cache.default_timeout == 60
    assert [line.partition(" ")[0] for line in warned()] == [
        "cull_frequency",
        "REVERSE_KEY_FUNCTION",
    ]


@pytest.mark.parametrize("value", ["soon", float("nan"), float("inf"), [], object()])
def test_an_unusable_timeout_is_refused(made, value):
    """Django would take 300 instead, or fail at the first use."""
    with pytest.raises(ImproperlyConfigured, match="TIMEOUT must be a number"):
        made(TIMEOUT=value)


def test_a_list_of_one_url_is_that_url(made):
    """Other backends take a list, too."""
    assert _engine(made(["redis://127.0.0.1:1/3"])).location.db == 3


def test_making_a_cache_contacts_no_server(made):
    """Management commands and image builds run without Redis."""
    assert made("redis://127.0.0.1:1/0") is caches["default"]
