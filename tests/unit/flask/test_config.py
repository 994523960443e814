"""The configuration: what is understood, and what is refused by name."""

from __future__ import annotations

import threading
from datetime import timedelta
from urllib.parse import urlsplit

import flask
import pytest
import redis
from cachelib.serializers import JSONSerializer

from cachebridge import ConfigError, config
from cachebridge.flask_ext import Cache, CacheBridgeBackend
from cachebridge.flask_ext.settings.backend_settings import backend_settings
from cachebridge.flask_ext.settings.config import cache_type, merged
from cachebridge.l2.factory import connection_factory
from cachebridge.l2.location import parse_location
from tests.rig import eventually
from tests.unit.flask.support import Calls

MEMCACHED = {"CACHE_TYPE": "MemcachedCache"}
WRONG = {
    "CACHE_TYPO": ({"CACHE_TYPO": 1}, "CACHE_TYPE"),
    "unknown": ({"CACHE_COLOUR": 1}, "Valid keys: CACHE_ARGS, CACHE_BRIDGE"),
    "file": ({"CACHE_TYPE": "FileSystemCache"}, "RedisCache"),
    "sasl": ({"CACHE_TYPE": "SASLMemcachedCache"}, "binary protocol"),
    "spread": (
        {"CACHE_TYPE": "flask_caching.backends.spreadsaslmemcached"},
        "binary protocol",
    ),
    "user": (MEMCACHED | {"CACHE_MEMCACHED_USERNAME": "u"}, "USERNAME is not support"),
    "password": (MEMCACHED | {"CACHE_MEMCACHED_PASSWORD": "p"}, "text protocol"),
    "servers": (MEMCACHED | {"CACHE_MEMCACHED_SERVERS": object()}, "must be a list"),
    "no servers": (MEMCACHED | {"CACHE_MEMCACHED_SERVERS": []}, "must be a list"),
    "weights": (
        MEMCACHED | {"CACHE_MEMCACHED_SERVERS": [("a:11211", 2)]},
        "without a weight",
    ),
    "server": (MEMCACHED | {"CACHE_MEMCACHED_SERVERS": ["a b"]}, "'a b' is no server"),
    "memcached options": (
        MEMCACHED | {"CACHE_OPTIONS": {"pool_sise": 1}},
        "Did you mean 'pool_size'. Valid ones: check_connection, default_timeout",
    ),
    "memcached by location": (
        {
            "CACHE_BRIDGE": {"LOCATION": "memcached://a"},
            "CACHE_OPTIONS": {"client_name": "x"},
        },
        "client_name",
    ),
    "bus": (
        MEMCACHED | {"CACHE_BRIDGE": {"BUS_LOCATION": "memcached://a"}},
        "URL of a Redis server",
    ),
    "sentinel": (
        {"CACHE_TYPE": "RedisSentinelCache", "CACHE_REDIS_SENTINELS": ["a:1"]},
        "(host, port)",
    ),
    "master": (
        {"CACHE_TYPE": "RedisSentinelCache", "CACHE_REDIS_SENTINEL_MASTER": None},
        "CACHE_REDIS_SENTINEL_MASTER",
    ),
    "nodes": ({"CACHE_TYPE": "RedisClusterCache"}, "'host:6379,host2:6379'"),
    "list of nodes": (
        {"CACHE_TYPE": "rediscluster", "CACHE_REDIS_CLUSTER": ["a:1"]},
        "'host:6379,host2:6379'",
    ),
    "uwsgi": ({"CACHE_TYPE": "flask_caching.contrib.UWSGICache"}, "all processes"),
    "typo": ({"CACHE_TYPE": "RedisCahce"}, "Did you mean 'RedisCache'"),
    "short typo": ({"CACHE_TYPE": "simpel"}, "Did you mean 'simple'"),
    "own backend": ({"CACHE_TYPE": "my.Backend"}, "one's own"),
    "timeout": ({"CACHE_DEFAULT_TIMEOUT": "soon"}, "CACHE_DEFAULT_TIMEOUT"),
    "no timeout": ({"CACHE_DEFAULT_TIMEOUT": None}, "CACHE_DEFAULT_TIMEOUT"),
    "negative timeout": ({"CACHE_DEFAULT_TIMEOUT": -1}, "CACHE_DEFAULT_TIMEOUT"),
    "prefix": ({"CACHE_KEY_PREFIX": 1}, "CACHE_KEY_PREFIX"),
    "threshold": (
        {"CACHE_TYPE": "SimpleCache", "CACHE_THRESHOLD": "many"},
        "CACHE_THRESHOLD",
    ),
    "keys": ({"CACHE_COMPATIBLE_KEYS": "some"}, "CACHE_COMPATIBLE_KEYS"),
    "hash": ({"CACHE_HASH_METHOD": "md5"}, "CACHE_HASH_METHOD"),
    "serializer": ({"CACHE_SERIALIZER": "json"}, "BaseSerializer"),
    "signals": ({"CACHE_ENABLE_SIGNALS": "no"}, "CACHE_ENABLE_SIGNALS"),
    "host": ({"CACHE_REDIS_HOST": redis.Redis()}, "CACHE_REDIS_URL"),
    "port": ({"CACHE_REDIS_PORT": "http"}, "CACHE_REDIS_PORT"),
    "db": ({"CACHE_REDIS_DB": -1}, "CACHE_REDIS_DB"),
    "url": ({"CACHE_REDIS_URL": "http://x"}, "redis://"),
    "arguments": ({"CACHE_ARGS": ["x"]}, "CACHE_ARGS"),
    "options": ({"CACHE_OPTIONS": [1]}, "CACHE_OPTIONS"),
    "client": ({"CACHE_OPTIONS": {"no_such": 1}}, "no_such"),
    "query": (
        {"CACHE_REDIS_URL": "redis://h?socket_timeout=soon"},
        "'socket_timeout' in its query",
    ),
    "TLS beside a URL": (
        {"CACHE_REDIS_URL": "redis://h", "CACHE_OPTIONS": {"ssl": True}},
        "rediss://",
    ),
    "decoding": ({"CACHE_OPTIONS": {"decode_responses": True}}, "decode_responses"),
    "memory options": (
        {"CACHE_TYPE": "SimpleCache", "CACHE_OPTIONS": {"host": 1}},
        "threshold",
    ),
    "bridge": ({"CACHE_BRIDGE": ["x"]}, "CACHE_BRIDGE"),
    "bridge option": ({"CACHE_BRIDGE": {"L1_MAX": 1}}, "L1_MAX_ENTRIES"),
    "bridge value": ({"CACHE_BRIDGE": {"L1_TTL": 0}}, "L1_TTL"),
    "bridge timeout": ({"CACHE_BRIDGE": {"TIMEOUT": 1}}, "CACHE_DEFAULT_TIMEOUT"),
    "bridge prefix": ({"CACHE_BRIDGE": {"KEY_PREFIX": ""}}, "CACHE_KEY_PREFIX"),
}


@pytest.mark.parametrize(("wrong", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named(wrong, said):
    """At init_app, with what would be right; the app is left without a cache."""
    app = flask.Flask("wrong")
    app.config.update({"CACHE_TYPE": "RedisCache"} | wrong)
    with pytest.raises(ConfigError, match=said):
        Cache(app)
    assert "cache" not in app.extensions


def test_config_must_be_a_dict():
    """As with Flask-Caching it is a ValueError."""
    with pytest.raises(ValueError, match="dict or None"):
        Cache(config="SimpleCache")
    with pytest.raises(ValueError, match="dict or None"):
        Cache().init_app(flask.Flask("x"), "SimpleCache")


@pytest.mark.parametrize(
    "mixed_up",
    [
        {"CACHE_TYPE": "redis://:geheim@host"},
        {"CACHE_REDIS_PORT": "geheim"},
        {"CACHE_REDIS_DB": "geheim"},
        {"CACHE_REDIS_HOST": "redis://:geheim@host/0"},
        {"CACHE_TYPE": "redissentinel", "CACHE_REDIS_SENTINELS": ["u:geheim@host:1"]},
        {"CACHE_TYPE": "redissentinel", "CACHE_REDIS_SENTINELS": [("u:geheim@h", 1)]},
        {"CACHE_TYPE": "rediscluster", "CACHE_REDIS_CLUSTER": "u:geheim@host:1"},
        {"CACHE_TYPE": "rediscluster", "CACHE_REDIS_CLUSTER": "redis://geheim:1"},
        {"CACHE_BRIDGE": {"CREDENTIAL_PROVIDER": "geheim"}},
    ],
    ids=", ".join,
)
def test_a_password_in_the_wrong_setting_is_not_shown(mixed_up):
    """The error names the setting alone."""
    with pytest.raises(ConfigError) as caught:
        Cache(flask.Flask("secret"), config={"CACHE_TYPE": "RedisCache"} | mixed_up)
    assert "geheim" not in str(caught.value)


def test_no_error_shows_a_password():
    """Also not that of the URL."""
    app = flask.Flask("secret")
    app.config.update(
        CACHE_TYPE="RedisCache", CACHE_REDIS_URL="redis://:geheim@host:port/0"
    )
    with pytest.raises(ConfigError) as caught:
        Cache(app)
    assert "geheim" not in str(caught.value)


LOCATIONS = {
    "default": ({}, "redis://localhost:6379/0"),
    "parts": (
        {
            "CACHE_REDIS_HOST": "db",
            "CACHE_REDIS_PORT": "6380",
            "CACHE_REDIS_DB": "2",
            "CACHE_REDIS_PASSWORD": "p@ss/1",
        },
        "redis://:p%40ss%2F1@db:6380/2",
    ),
    "bytes": ({"CACHE_REDIS_PASSWORD": b"p@ss"}, "redis://:p%40ss@localhost:6379/0"),
    "ipv6": ({"CACHE_REDIS_HOST": "::1"}, "redis://[::1]:6379/0"),
    "url": ({"CACHE_REDIS_URL": "redis://h"}, "redis://h"),
    "url and db": (
        {"CACHE_REDIS_URL": "redis://h:1?a=b", "CACHE_REDIS_DB": 3},
        "redis://h:1/3?a=b",
    ),
    "url with db": (
        {"CACHE_REDIS_URL": "redis://h/2", "CACHE_REDIS_DB": 3},
        "redis://h/2",
    ),
    "url with db in its query": (
        {"CACHE_REDIS_URL": "redis://h?db=2", "CACHE_REDIS_DB": 3},
        "redis://h?db=2",
    ),
    "socket": (
        {"CACHE_REDIS_URL": "unix:///run/redis.sock", "CACHE_REDIS_DB": 3},
        "unix:///run/redis.sock?db=3",
    ),
    "sentinel and db": (
        {"CACHE_REDIS_URL": "redis+sentinel://h/m", "CACHE_REDIS_DB": 3},
        "redis+sentinel://h/m/3",
    ),
    "sentinel with db": (
        {"CACHE_REDIS_URL": "redis+sentinel://h/m/2", "CACHE_REDIS_DB": 3},
        "redis+sentinel://h/m/2",
    ),
    "sentinel without a name": (
        {"CACHE_REDIS_URL": "redis+sentinel://h", "CACHE_REDIS_DB": 3},
        "redis+sentinel://h",
    ),
    "our own": ({"CACHE_BRIDGE": {"LOCATION": "memory://x"}}, "memory://x"),
}


@pytest.mark.parametrize(("given", "expected"), LOCATIONS.values(), ids=LOCATIONS)
def test_locations(given, expected):
    """The CACHE_REDIS_* keys keep their meaning."""
    settings = backend_settings(merged(given), kind="RedisCache")
    assert settings.location == expected


SENTINELS = {
    "default": ({}, "redis+sentinel://127.0.0.1:26379/mymaster/0", {}),
    "keys": (
        {
            "CACHE_REDIS_SENTINELS": [("a", 1), ["::1", "2"]],
            "CACHE_REDIS_SENTINEL_MASTER": "m/1",
            "CACHE_REDIS_PASSWORD": "p@ss",
            "CACHE_REDIS_SENTINEL_PASSWORD": "s",
            "CACHE_REDIS_DB": 3,
        },
        "redis+sentinel://:p%40ss@a:1,[::1]:2/m%2F1/3",
        {"password": "s"},
    ),
    "arguments": (
        {
            "CACHE_OPTIONS": {
                "sentinel_username": "u",
                "sentinel_ssl": True,
                "ssl": True,
                "socket_timeout": 3,
            }
        },
        "rediss+sentinel://127.0.0.1:26379/mymaster/0",
        {"username": "u", "ssl": True},
    ),
    "our own options": (
        {"CACHE_BRIDGE": {"SENTINEL_KWARGS": {"password": "t"}}},
        "redis+sentinel://127.0.0.1:26379/mymaster/0",
        {"password": "t"},
    ),
    "our own location": (
        {"CACHE_BRIDGE": {"LOCATION": "redis://h"}},
        "redis://h",
        {},
    ),
}


@pytest.mark.parametrize(
    ("given", "expected", "kwargs"), SENTINELS.values(), ids=SENTINELS
)
def test_sentinels(given, expected, kwargs):
    """The keys of Flask-Caching's RedisSentinelCache keep their meaning."""
    settings = backend_settings(merged(given), kind="RedisSentinelCache")
    assert settings.location == expected
    seen = settings.engine_options.sentinel_kwargs
    assert {name: seen[name] for name in kwargs} == kwargs
    location = parse_location(settings.location)
    connection_factory(location, settings.engine_options)


CLUSTERS = {
    "nodes": (
        {"CACHE_REDIS_CLUSTER": "a:1, b:2", "CACHE_REDIS_PASSWORD": "p@ss"},
        "redis+cluster://:p%40ss@a:1,b:2",
    ),
    "TLS": (
        {
            "CACHE_REDIS_CLUSTER": "a:1",
            "CACHE_OPTIONS": {"ssl": True, "skip_full_coverage_check": True},
        },
        "rediss+cluster://a:1",
    ),
    "url": (
        {"CACHE_REDIS_URL": "rediss://u:p@a:1/0?ssl_ca_certs=x"},
        "rediss+cluster://u:p@a:1/0?ssl_ca_certs=x",
    ),
    "url of ours": ({"CACHE_REDIS_URL": "redis+cluster://a,b"}, "redis+cluster://a,b"),
    "database": (
        {"CACHE_REDIS_CLUSTER": "a:1", "CACHE_REDIS_DB": 3},
        "redis+cluster://a:1",
    ),
    "our own location": (
        {"CACHE_BRIDGE": {"LOCATION": "redis://h"}, "CACHE_REDIS_CLUSTER": "a:1"},
        "redis://h",
    ),
}


@pytest.mark.parametrize(("given", "expected"), CLUSTERS.values(), ids=CLUSTERS)
def test_clusters(given, expected):
    """The keys of Flask-Caching's RedisClusterCache keep their meaning."""
    settings = backend_settings(merged(given), kind="RedisClusterCache")
    assert settings.location == expected
    parse_location(settings.location)


@pytest.mark.parametrize(
    "name",
    [
        "RedisClusterCache",
        "rediscluster",
        "flask_caching.backends.RedisClusterCache",
        "flask_caching.backends.rediscache.RedisClusterCache",
    ],
)
def test_names_of_the_cluster_type(name):
    """By every name that Flask-Caching knows it."""
    assert cache_type({"CACHE_TYPE": name}) == "RedisClusterCache"


@pytest.mark.parametrize(
    "name",
    [
        "RedisSentinelCache",
        "redissentinel",
        "flask_caching.backends.RedisSentinelCache",
        "flask_caching.backends.rediscache.RedisSentinelCache",
    ],
)
def test_names_of_the_sentinel_type(name):
    """By every name that Flask-Caching knows it."""
    assert cache_type({"CACHE_TYPE": name}) == "RedisSentinelCache"


def test_the_older_name_of_an_option_of_simple_caches():
    """Flask-Caching still takes it."""
    for ignores in (True, False):
        options = {"CACHE_OPTIONS": {"ignore_errors": ignores}}
        settings = backend_settings(merged(options), kind="SimpleCache")
        assert settings.ignore_delete_many_errors is ignores


def test_parts_beside_a_url_are_ignored_with_one_warning(caplog, monkeypatch):
    """As in Flask-Caching; its warning shows no password."""
    monkeypatch.setattr(config, "_warned", set())
    given = {"CACHE_REDIS_URL": "redis://h/1", "CACHE_REDIS_HOST": "other"}
    given |= {"CACHE_REDIS_PASSWORD": "geheim"}
    for _ in range(2):
        settings = backend_settings(merged(given), kind="RedisCache")
    assert settings.location == "redis://h/1"
    assert [line.message.partition(" ")[0] for line in caplog.records] == [
        "CACHE_REDIS_HOST",
        "CACHE_REDIS_PASSWORD",
    ]
    assert "geheim" not in caplog.text


SERVERS = {
    "default": (None, "memcached://127.0.0.1:11211"),
    "list": (["a:11211", "b:11212"], "memcached://a:11211,b:11212"),
    "tuple": (("a", "inet:b:1"), "memcached://a,b:1"),
    "text": ("a:11211, b", "memcached://a:11211,b"),
    "URL": ("memcached://a:11211,b", "memcached://a:11211,b"),
    "sockets": (["/run/m.sock", "unix:/m"], "memcached://unix:/run/m.sock,unix:/m"),
}


@pytest.mark.parametrize(("given", "expected"), SERVERS.values(), ids=SERVERS)
def test_servers_of_memcached(given, expected):
    """As cachelib's clients take them; the types' other names mean the same."""
    config = merged({"CACHE_MEMCACHED_SERVERS": given})
    settings = backend_settings(config, kind="MemcachedCache")
    assert settings.location == expected
    parse_location(settings.location)


@pytest.mark.parametrize(
    "name",
    [
        "MemcachedCache",
        "memcached",
        "flask_caching.backends.MemcachedCache",
        "flask_caching.backends.memcache.MemcachedCache",
        "cachelib.memcached.MemcachedCache",
        "cachelib.MemcachedCache",
    ],
)
def test_names_of_the_memcached_type(name):
    """By every name that Flask-Caching knows it."""
    assert cache_type({"CACHE_TYPE": name}) == "MemcachedCache"


def test_options_of_the_memcached_client(caplog, monkeypatch):
    """Cachelib's arguments, and those of pymemcache that make a connection."""
    monkeypatch.setattr(config, "_warned", set())
    options = {"pool_size": 4, "no_delay": False}
    without_effect = {"pool_blocking": False, "memcache_client_lib": "pylibmc"}
    settings = backend_settings(
        merged(
            {
                "CACHE_OPTIONS": options | without_effect,
                "CACHE_THRESHOLD": 7,
                "CACHE_BRIDGE": {"BUS_LOCATION": "redis://h/1"},
            }
        ),
        kind="MemcachedCache",
    )
    engine = settings.engine_options
    assert engine.max_connections == 4
    assert engine.client_kwargs == {"no_delay": False}
    assert engine.bus_location == "redis://h/1"
    for word in ("pool_blocking", "memcache_client_lib", "CACHE_THRESHOLD"):
        assert word in caplog.text


def test_options_of_the_client():
    """CACHE_OPTIONS are redis-py's; those that are ours as well go there."""
    options = {
        "socket_timeout": 3,
        "socket_connect_timeout": None,
        "max_connections": 7,
        "client_name": "shop",
        "retry_on_timeout": True,
        "default_timeout": 9,
        "key_prefix": "x:",
        "ignore_delete_many_errors": True,
    }
    settings = backend_settings(merged({"CACHE_OPTIONS": options}), kind="RedisCache")
    engine = settings.engine_options
    assert (engine.socket_timeout, engine.max_connections) == (3, 7)
    assert engine.client_kwargs == {"client_name": "shop"}
    assert settings.default_timeout == 9
    assert settings.ignore_delete_many_errors is True


@pytest.mark.parametrize(
    ("given", "prefix"),
    [({}, "flask_cache_"), ({"CACHE_KEY_PREFIX": ""}, "x:")],
    ids=["key", "option"],
)
def test_a_key_overrides_the_option_of_the_same_meaning(given, prefix, redis_url):
    """As in Flask-Caching's factory, whose keys are compared."""
    flask_caching = pytest.importorskip(
        "flask_caching", reason="compares with Flask-Caching"
    )
    given = {
        "CACHE_TYPE": "RedisCache",
        "CACHE_REDIS_HOST": "127.0.0.1",
        "CACHE_OPTIONS": {"key_prefix": "x:", "db": 5, "host": "nowhere.invalid"},
        **given,
    }
    url = urlsplit(redis_url)
    given |= {"CACHE_REDIS_PORT": url.port, "CACHE_REDIS_DB": int(url.path[1:])}
    theirs, ours = flask.Flask("theirs"), flask.Flask("ours")
    flask_caching.Cache(theirs, config=given).set("a", 1)
    Cache(ours, config=given).set("b", 1)
    with redis.Redis.from_url(redis_url) as client:
        found = {key.decode() for key in client.keys(f"{prefix}*")}
    assert found == {f"{prefix}a", f"{prefix}b"}


@pytest.mark.parametrize("prefix", [None, "x:"])
def test_cachelibs_own_class_takes_its_options_alone(
    prefix, redis_url, caplog, monkeypatch
):
    """As Flask-Caching gives it nothing else; the keys in Redis are compared."""
    flask_caching = pytest.importorskip(
        "flask_caching", reason="compares with Flask-Caching"
    )
    monkeypatch.setattr(config, "_warned", set())
    url = urlsplit(redis_url)
    options = {"host": url.hostname, "port": url.port, "db": int(url.path[1:])}
    given = {
        "CACHE_TYPE": "cachelib.RedisCache",
        "CACHE_KEY_PREFIX": "unused:",
        "CACHE_OPTIONS": options | ({} if prefix is None else {"key_prefix": prefix}),
    }
    theirs, ours = flask.Flask("theirs"), flask.Flask("ours")
    flask_caching.Cache(theirs, config=given).set("a", 1)
    Cache(ours, config=given).set("b", 1)
    with redis.Redis.from_url(redis_url) as client:
        found = {key.decode() for key in client.scan_iter("*[ab]")}
    assert found == {f"{prefix or ''}a", f"{prefix or ''}b"}
    assert "CACHE_KEY_PREFIX has no effect" in caplog.text


def test_the_way_to_the_server_in_the_options():
    """As redis.Redis takes it, TLS or a socket; its arguments of TLS need ``ssl``."""

    def location(**options):
        config = merged({"CACHE_REDIS_HOST": "h", "CACHE_OPTIONS": options})
        settings = backend_settings(config, kind="RedisCache")
        return settings.location, settings.engine_options.client_kwargs

    trusting = {"ssl_cert_reqs": "none"}
    assert location(ssl=True, **trusting) == ("rediss://h:6379/0", trusting)
    assert location(ssl=False, **trusting) == ("redis://h:6379/0", {})
    assert location(unix_socket_path="/run/r.sock") == ("unix:///run/r.sock?db=0", {})


@pytest.mark.parametrize("value", [60, "60", timedelta(minutes=1), 59.5])
def test_default_timeout(value):
    """A number, digits, or a timedelta; parts of seconds are rounded up."""
    config = merged({"CACHE_DEFAULT_TIMEOUT": value})
    assert backend_settings(config, kind="RedisCache").default_timeout == 60


def test_the_last_configuration_decides(redis_url):
    """That of the app, then of Cache, then of init_app, key by key."""
    app = flask.Flask("merged")
    app.config.update(CACHE_TYPE="RedisCache", CACHE_KEY_PREFIX="app:")
    cache = Cache(config={"CACHE_REDIS_URL": redis_url, "CACHE_KEY_PREFIX": "cache:"})
    cache.init_app(app, {"CACHE_KEY_PREFIX": "init:"})
    cache.set("k", 1)
    with redis.Redis.from_url(redis_url) as client:
        assert client.exists("init:k")
    assert app.config["CACHE_KEY_PREFIX"] == "app:"


def test_the_null_cache_warns_and_keeps_nothing():
    """CACHE_NO_NULL_WARNING silences the warning."""
    with pytest.warns(UserWarning, match="nothing is cached"):
        cache = Cache(flask.Flask("nothing"))
    silent = Cache(flask.Flask("silent"), config={"CACHE_NO_NULL_WARNING": True})
    for each in (cache, silent):
        assert each.set("k", 1) is True
        assert each.get("k") is None
        assert each.has("k") is False
        assert each.get_or_load("k", lambda: 2) == 2
        assert each.unlink("k") == ["k"]
        calls = Calls()
        memoized = each.memoize(5)(calls.__call__)
        cached = each.cached(5, key_prefix="k")(calls.__call__)
        assert [memoized(), memoized(), cached(), cached()] == [1, 2, 3, 4]
        each.delete_memoized(memoized)
        with pytest.raises(ConfigError, match="no levels"):
            each.stats()


def test_simple_caches_share_nothing_and_are_bounded():
    """Each is a store of its own in this process, of CACHE_THRESHOLD keys."""
    app = flask.Flask("simple")
    threads = threading.active_count()
    first, second = (
        Cache(app, config={"CACHE_TYPE": "SimpleCache", "CACHE_THRESHOLD": 10})
        for _ in range(2)
    )
    for number in range(50):
        first.set(str(number), number)
    assert sum(first.has(str(number)) for number in range(50)) == 10
    assert first.get("49") == 49
    assert second.get("49") is None
    assert first.clear() is True
    assert first.get("49") is None
    eventually(lambda: threading.active_count() <= threads, "no thread of theirs")


def test_serializers(config, redis_url):
    """Those of cachelib are used, and JSON is readable by other clients."""
    cache = Cache(
        flask.Flask("json"), config=config | {"CACHE_SERIALIZER": JSONSerializer}
    )
    cache.set("k", {"a": [1, None]})
    assert cache.get("k") == {"a": [1, None]}
    with redis.Redis.from_url(redis_url) as client:
        assert client.get("flask_cache_k") == b'{"a":[1,null]}'


def test_flask_caching_makes_the_backend_itself(config, redis_url):
    """CACHE_TYPE is a path there; its keys are understood, and ours in CACHE_BRIDGE."""
    flask_caching = pytest.importorskip(
        "flask_caching", reason="compares with Flask-Caching"
    )
    app = flask.Flask("theirs")
    app.config.update(
        config,
        CACHE_TYPE="cachebridge.flask_ext.CacheBridgeBackend",
        CACHE_DEFAULT_TIMEOUT=7,
        CACHE_KEY_PREFIX="theirs:",
        CACHE_OPTIONS={"socket_timeout": 2},
        CACHE_BRIDGE={"L1_TTL": 5},
    )
    cache = flask_caching.Cache(app)
    backend = cache.cache
    assert type(backend) is CacheBridgeBackend
    assert backend.default_timeout == 7
    assert backend._engine.options.l1_ttl == 5
    assert backend._engine.options.socket_timeout == 2
    cache.set("k", 1)
    with redis.Redis.from_url(redis_url) as client:
        assert client.exists("theirs:k")
