"""Settings taken over from django-redis and Django's RedisCache do the same here.

Each entry makes their cache and ours; what the server sees of both is compared.
"""

from __future__ import annotations

import datetime as dt
import decimal
import pickle
import uuid
from typing import Any, NamedTuple

import pytest
import redis
from django.core.cache import caches
from django.utils.translation import gettext_lazy

from cachebridge.errors import L2Error
from tests.rig import engine_of, eventually
from tests.unit.django.support import BRIDGE

django_redis = pytest.importorskip("django_redis", reason="compares with it")
from django_redis.pool import ConnectionFactory  # noqa: E402

DJANGO = "django.core.cache.backends.redis.RedisCache"
DJANGO_REDIS = "django_redis.cache.RedisCache"
JSON = "django_redis.serializers.json.JSONSerializer"


@pytest.fixture
def pair(settings, monkeypatch):
    """Return a function that makes their cache and ours of one entry."""

    def make(backend: str, location: Any, ours: Any = None, **options: Any):
        # django-redis keeps one pool for all equal URLs.
        monkeypatch.setattr(ConnectionFactory, "_pools", {})
        entry = {"LOCATION": location, "OPTIONS": options}
        settings.CACHES = {
            "default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"},
            "theirs": {"BACKEND": backend, **entry},
            "ours": {"BACKEND": BRIDGE, **entry, "LOCATION": ours or location},
        }
        return caches["theirs"], caches["ours"]

    return make


class Seen(NamedTuple):
    """What a server knows of a connection and of the key that it has stored."""

    db: str
    user: str
    name: str
    raw: bytes


def seen(cache, admin: redis.Redis, value: Any = "v") -> Seen:
    """Store a value and ask the server who did, and where."""
    before = {each["id"] for each in admin.client_list()}

    def stored():
        cache.set("key", value, None)  # on a busy machine it may not be in time
        new = [each for each in admin.client_list() if each["id"] not in before]
        clients = {(each["db"], each["user"], each["name"]) for each in new}
        if not clients:
            return None
        ((db, user, name),) = clients
        admin.select(int(db))
        raw = admin.get(":1:key")
        return raw and Seen(db, user, name, raw)

    found = eventually(stored)
    admin.flushall()
    return found


def pool_of(cache) -> dict[str, Any]:
    """Return how a cache of another backend connects."""
    pool = getattr(cache, "client", None)
    if pool is not None:
        pool = pool.get_client().connection_pool
    else:
        pool = cache._cache._get_connection_pool(write=True)
    return {**pool.connection_kwargs, "max_connections": pool.max_connections}


@pytest.fixture
def server(redis_server_factory):
    """Return a server of the test's own, with a user besides the default one."""
    made = redis_server_factory()
    with redis.Redis.from_url(made.url) as admin:
        admin.acl_setuser("shop", True, passwords=["+pw"], keys="*", channels="*")
        admin.acl_setuser("shop", True, categories=["+@all"])
        yield made, admin


LOGIN = {"username": "shop", "password": "pw"}
CONNECTIONS = {
    "plain": (DJANGO, "redis://{}", {}),
    "db": (DJANGO, "redis://{}", {"db": 3}),
    "the URL's db wins": (DJANGO, "redis://{}/2", {"db": 3}),
    "also in its query": (DJANGO, "redis://{}?db=4", {"db": 3}),
    "login": (DJANGO, "redis://{}", LOGIN),
    "the URL's login wins": (DJANGO, "redis://shop:pw@{}", {"password": "wrong"}),
    "name": (DJANGO, "redis://{}", {"client_name": "shop-1"}),
    "name in the URL": (DJANGO, "redis://{}?client_name=a", {"client_name": "b"}),
    "harmless": (
        DJANGO,
        "redis://{}?health_check_interval=30&retry_on_timeout=yes",
        {"pool_class": "redis.BlockingConnectionPool", "timeout": 3},
    ),
    "list": (DJANGO, ["redis://{}/5"], {}),
    "path of a serializer": (
        DJANGO,
        "redis://{}",
        {"serializer": "django.core.cache.backends.redis.RedisSerializer"},
    ),
    "djr: plain": (DJANGO_REDIS, "redis://{}/1", {}),
    "djr: password": (DJANGO_REDIS, "redis://shop@{}", {"PASSWORD": "pw"}),
    "djr: login in URL": (DJANGO_REDIS, "redis://shop:pw@{}", {"PASSWORD": "wrong"}),
    "djr: pool": (
        DJANGO_REDIS,
        "redis://{}",
        {"CONNECTION_POOL_KWARGS": {"client_name": "pool", "db": 6}},
    ),
    "djr: the URL wins": (
        DJANGO_REDIS,
        "redis://{}/1?client_name=url",
        {"CONNECTION_POOL_KWARGS": {"client_name": "pool", "db": 6}},
    ),
    "djr: client": (
        DJANGO_REDIS,
        "redis://{}",
        {"REDIS_CLIENT_KWARGS": {"db": 7, "client_name": "none"}},
    ),
    "djr: harmless": (
        DJANGO_REDIS,
        "redis://{}",
        {
            "CLIENT_CLASS": "django_redis.client.DefaultClient",
            "CONNECTION_FACTORY": "django_redis.pool.ConnectionFactory",
            "CONNECTION_POOL_CLASS": "redis.connection.BlockingConnectionPool",
            "CONNECTION_POOL_KWARGS": {"max_connections": 5, "timeout": 1},
            "REDIS_CLIENT_CLASS": "redis.client.StrictRedis",
            "REPLICA_READ_ONLY": False,
            "CLOSE_CONNECTION": True,
            "COMPRESSOR": "django_redis.compressors.identity.IdentityCompressor",
        },
    ),
}
if django_redis.VERSION >= (7,):
    login = {"USERNAME": "shop", "PASSWORD": "pw"}
    CONNECTIONS["djr: login"] = (DJANGO_REDIS, "redis://{}", login)


@pytest.mark.parametrize(
    ("backend", "location", "options"), CONNECTIONS.values(), ids=CONNECTIONS
)
def test_the_server_sees_the_same(pair, server, backend, location, options):
    """Database, user, name of the connection, and where the key stands."""
    made, admin = server
    address = f"{made.host}:{made.port}"
    if isinstance(location, list):
        location = [each.format(address) for each in location]
    else:
        location = location.format(address)
    theirs, ours = pair(backend, location, **options)
    # Integers are digits for all of them; their pickles have the latest protocol.
    assert seen(ours, admin, 7) == seen(theirs, admin, 7)


LIMITS = {
    "URL": (DJANGO, "?socket_timeout=3&socket_connect_timeout=2&max_connections=9", {}),
    "options": (
        DJANGO,
        "",
        {"socket_timeout": 3, "socket_connect_timeout": 2, "max_connections": 9},
    ),
    "both": (DJANGO, "?socket_timeout=3&max_connections=9", {"socket_timeout": 5}),
    "djr: options": (
        DJANGO_REDIS,
        "",
        {"SOCKET_TIMEOUT": 3, "SOCKET_CONNECT_TIMEOUT": 2.5},
    ),
    "djr: pool wins": (
        DJANGO_REDIS,
        "",
        {
            "CONNECTION_POOL_KWARGS": {"socket_timeout": 4, "max_connections": 9},
            "SOCKET_TIMEOUT": 3,
        },
    ),
    "djr: URL wins": (
        DJANGO_REDIS,
        "?socket_timeout=6",
        {"CONNECTION_POOL_KWARGS": {"socket_timeout": 4}, "SOCKET_TIMEOUT": 3},
    ),
}


@pytest.mark.parametrize(("backend", "query", "options"), LIMITS.values(), ids=LIMITS)
def test_limits_are_the_same_and_so_is_which_one_wins(pair, backend, query, options):
    """Of a URL, a pool's arguments and other options that name the same limit."""
    theirs, ours = pair(backend, f"redis://127.0.0.1:1{query}", **options)
    given, made = pool_of(theirs), engine_of(ours).options
    for name in ("socket_timeout", "socket_connect_timeout", "max_connections"):
        if name in str((query, options)).lower():
            assert getattr(made, name) == given[name]


PYMEMCACHE = {
    "timeout": 3,
    "connect_timeout": 2.5,
    "max_pool_size": 4,
    "use_pooling": True,
}


def test_limits_of_pymemcache_are_the_same(pair):
    """As Django's backend hands them to its clients."""
    theirs, ours = pair(
        "django.core.cache.backends.memcached.PyMemcacheCache",
        "127.0.0.1:1",
        ours="memcached://127.0.0.1:1",
        **PYMEMCACHE,
    )
    given, made = theirs._cache.default_kwargs, engine_of(ours).options
    assert made.socket_timeout == given["timeout"]
    assert made.socket_connect_timeout == given["connect_timeout"]
    assert made.max_connections == given["max_pool_size"]


@pytest.mark.parametrize("ignores", [True, False])
def test_ignored_exceptions_of_pymemcache(pair, ignores):
    """Both raise, or both return the default, while there is no server."""
    caches_of_both = pair(
        "django.core.cache.backends.memcached.PyMemcacheCache",
        "127.0.0.1:1",
        ours="memcached://127.0.0.1:1",
        ignore_exc=ignores,
    )
    for cache in caches_of_both:
        if ignores:
            assert cache.get("k", "default") == "default"
        else:
            with pytest.raises((OSError, L2Error)):
                cache.get("k")


VALUES = {
    "datetime": dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC),
    "date": dt.date(2026, 1, 2),
    "time": dt.time(3, 4),
    "timedelta": dt.timedelta(1, 2),
    "Decimal": decimal.Decimal("1.10"),
    "UUID": uuid.UUID(int=7),
    "lazy text": gettext_lazy("Yes"),
    "row": {"price": decimal.Decimal("9.99"), 1: [None, True, (1, 2.5)]},
    "text": 'ä "quoted" \U0001f600',
    "integer": 42,
    "negative": -(2**63),
    "truth": True,
    "nothing": None,
    "float": 1e300,
    "list": [[], {}, ""],
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_json_is_stored_and_read_as_with_django_redis(pair, redis_url, value):
    """The same bytes; each reads what the other has written, also from our L1."""
    theirs, ours = pair(DJANGO_REDIS, redis_url, SERIALIZER=JSON)
    theirs.set("theirs", value)
    ours.set("ours", value)
    with redis.Redis.from_url(redis_url) as client:
        assert client.get(":1:ours") == client.get(":1:theirs")
    expected = theirs.get("theirs")
    got = [ours.get("theirs"), ours.get("theirs"), ours.get("ours"), theirs.get("ours")]
    assert [(type(each), each) for each in got] == [(type(expected), expected)] * 4


@pytest.mark.parametrize("version", [-1, 0, 1, 2, 3, 4, 5, "4"])
def test_pickles_have_the_protocol_that_was_asked_for(pair, redis_url, version):
    """For readers that know no other; what any protocol has written is read."""
    theirs, ours = pair(DJANGO_REDIS, redis_url, PICKLE_VERSION=version)
    value = {"a": (1, 2.5, None), "b": "ä", "c": b"x", "d": [True]}
    theirs.set("theirs", value)
    ours.set("ours", value)
    with redis.Redis.from_url(redis_url) as client:
        assert client.get(":1:ours") == client.get(":1:theirs")
        assert client.get(":1:ours") == pickle.dumps(value, int(version))
    assert ours.get("theirs") == theirs.get("ours") == value


@pytest.mark.parametrize("ignores", [True, False])
@pytest.mark.parametrize("place", ["OPTIONS", "settings"])
def test_ignored_exceptions(pair, settings, ignores, place):
    """Both raise, or both return the default, while there is no server."""
    options = {"IGNORE_EXCEPTIONS": ignores} if place == "OPTIONS" else {}
    if place == "settings":
        settings.DJANGO_REDIS_IGNORE_EXCEPTIONS = ignores
    for cache in pair(DJANGO_REDIS, "redis://127.0.0.1:1", **options):
        if ignores:
            assert cache.get("k", "default") == "default"
        else:
            with pytest.raises((redis.ConnectionError, L2Error)):
                cache.get("k")
