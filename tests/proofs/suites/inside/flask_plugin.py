"""A pytest plugin beside the tests of Flask-Caching and cachelib.

It gives them our cache in one of several ways, the fixtures of their conftest (which
starts servers on fixed ports), and a clock that can be advanced, also for Redis.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
import types
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import cachelib
import cachelib.file
import flask
import flask_caching
import flask_caching.backends
import pymemcache
import pytest
import redis

import cachebridge.flask_ext as ours
from cachebridge.engine import registry
from cachebridge.engine.engine import Engine
from cachebridge.flask_ext import CacheBridgeBackend, extension
from cachebridge.flask_ext.decorators.memoize import VERSION_MARK
from cachebridge.flask_ext.settings.config import DEFAULTS
from cachebridge.identity.arguments import CallShape
from cachebridge.l2.memcached import items, link, protocol

PLAN = json.loads(Path(os.environ["CACHEBRIDGE_SUITE_PLAN"]).read_text())
MODE = PLAN["mode"]
SERVER = PLAN["location"]
MEMCACHED = PLAN["memcached"]
THEIR_PORT = 6360
SHARED = ("RedisCache", "SimpleCache")

numbers = itertools.count(1)
database: list[str] = []

# Their conftest is imported for its data alone.
xprocess = types.ModuleType("xprocess")
xprocess.ProcessStarter = object
sys.modules["xprocess"] = xprocess
if MODE == "backend":
    # Clients of Memcached that cachelib's tests ask for before they use the class; of
    # the second one, whose turn would be the same again, they are to find nothing.
    sys.modules["pylibmc"] = types.ModuleType("pylibmc")
    sys.modules["pylibmc"].__spec__ = ModuleSpec("pylibmc", None)
    sys.modules["memcache"] = None


# -- time ---------------------------------------------------


class Clock:
    """Runs like time.monotonic, and jumps."""

    offset = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.offset

    def advance(self, seconds: float) -> None:
        self.offset += seconds
        if not database:
            return
        age_memcached(seconds)
        with redis.Redis.from_url(database[-1]) as client:
            for key in client.scan_iter():
                left_ms = client.pttl(key)
                if left_ms >= 0:
                    client.pexpire(key, max(0, left_ms - int(1000 * seconds)))


def memcached_client() -> pymemcache.Client:
    address = MEMCACHED.removeprefix("memcached://")
    return pymemcache.Client(
        address, allow_unicode_keys=True, default_noreply=False, timeout=5
    )


SCALE = 100
"""Memcached's seconds are too coarse for a clock that jumps by one: it gets more."""


class ScaledParser(protocol.Parser):
    """Reads times to live as they were meant."""

    def feed(self, data: bytes) -> list[Any]:
        return [scaled_down(reply) for reply in super().feed(data)]


def scaled_down(reply: Any) -> Any:
    words = getattr(reply, "words", ())
    if len(words) > 2 and words[-2].startswith(b"t") and words[-2] != b"t-1":
        words[-2] = b"t%d" % -(-int(words[-2][1:]) // SCALE)
    return reply


def scaled_up(ttl_s: int | None) -> int:
    return make_expiry(None if ttl_s is None else ttl_s * SCALE)


def noting(make: Any, at: int) -> Any:
    """Make a command, and remember the name in it."""

    def noted(*args: Any) -> bytes:
        stored.add(args[at])
        return make(*args)

    return noted


stored: set[bytes] = set()
make_expiry = protocol.expiry
if MODE == "ours-memcached":
    protocol.expiry = items.expiry = scaled_up
    protocol.put, protocol.swap = noting(protocol.put, 1), noting(protocol.swap, 0)
    link.Parser = ScaledParser


def age_memcached(seconds: float) -> None:
    """Take seconds from the life of every item."""
    client = memcached_client()
    for name in stored:
        status, *rest = client.raw_command(b"mg %b t" % name).split()
        if status == b"HD" and rest != [b"t-1"]:
            left = int(rest[0][1:]) - int(seconds * SCALE)
            client.touch(name.decode(), left if left > 0 else -1)
    client.close()


the_clock = Clock()
cachelib.file.time = lambda: time.time() + the_clock.offset
registry.Engine = partial(Engine, clock=the_clock)


def fresh_database() -> str:
    if not database:
        database.append(f"{SERVER}/{next(numbers)}")
    return database[-1]


# -- our cache in the place of theirs ---------------------------------------


def settings_on_redis(config: dict[str, Any], *, kind: str, **named: Any) -> Any:
    """Put SimpleCache on the server of the mode, and Redis on ours."""
    config = dict(config)
    url = config["CACHE_REDIS_URL"]
    if url:
        config["CACHE_REDIS_URL"] = url.replace(
            f"redis://localhost:{THEIR_PORT}", SERVER
        )
    elif kind == "RedisCache" or (kind == "SimpleCache" and MODE == "ours-redis"):
        config["CACHE_REDIS_URL"] = fresh_database()
        kind = "RedisCache"
    elif kind == "SimpleCache" and MODE == "ours-memcached":
        config["CACHE_MEMCACHED_SERVERS"] = [MEMCACHED]
        bridge = {"BUS_LOCATION": fresh_database(), **(config["CACHE_BRIDGE"] or {})}
        config["CACHE_BRIDGE"] = bridge
        kind = "MemcachedCache"
    config["CACHE_TYPE"] = kind  # cachelib's own class would not look at these keys
    return make_settings(config, kind=kind, **named)


if MODE != "ours-redis":
    # One suite has our own keys, the others prove that these are Flask-Caching's.
    DEFAULTS["CACHE_COMPATIBLE_KEYS"] = True
make_settings = extension.backend_settings
extension.backend_settings = settings_on_redis


def put_ours_in_place() -> None:
    for name in ours.__all__:
        if hasattr(flask_caching, name):
            setattr(flask_caching, name, getattr(ours, name))
    # What their tests compare the class of the backend with.
    backends = flask_caching.backends
    backends.simplecache.SimpleCache = backends.rediscache.RedisCache = (
        CacheBridgeBackend
    )
    # Names of theirs that their tests use; what is behind them is tested by it.
    ours.Cache._memvname = lambda _cache, namespace: namespace + VERSION_MARK
    ours.Cache._memoize_kwargs_to_args = lambda _cache, function, *args, **kwargs: (
        CallShape(function, ()).sorted_arguments(args, kwargs)
    )


# -- theirs on our backend ---------------------------------------------------


def put_backend_below() -> None:
    original = flask_caching.Cache._set_cache

    def set_cache(self: Any, app: Any, config: dict[str, Any]) -> None:
        if str(config["CACHE_TYPE"]).rpartition(".")[2] in SHARED:
            config["CACHE_TYPE"] = "cachebridge.flask_ext.CacheBridgeBackend"
            url = config.get("CACHE_REDIS_URL") or fresh_database()
            config["CACHE_REDIS_URL"] = url.replace(
                f"redis://localhost:{THEIR_PORT}", SERVER
            )
        original(self, app, config)

    flask_caching.Cache._set_cache = set_cache


class InRedis(CacheBridgeBackend):
    """Called like a RedisCache."""

    def __init__(self, *_args: Any, **named: Any) -> None:
        prefix = named.pop("key_prefix", None) or ""
        for name in ("host", "port"):
            named.pop(name, None)
        options = {"CLEAR_FLUSHES_DB": not prefix}
        super().__init__(fresh_database(), key_prefix=prefix, options=options, **named)
        self._write_client = redis.Redis.from_url(fresh_database())


class InMemcached(CacheBridgeBackend):
    """Called like a MemcachedCache."""

    def __init__(self, *_args: Any, **named: Any) -> None:
        prefix = named.pop("key_prefix", None) or ""
        for name in ("servers", "memcache_client_lib", "pool_size", "pool_blocking"):
            named.pop(name, None)
        options = {"CLEAR_FLUSHES_DB": not prefix, "BUS_LOCATION": fresh_database()}
        super().__init__(MEMCACHED, key_prefix=prefix, options=options, **named)
        self._client = None  # whose pool some tests look for


class InMemory(CacheBridgeBackend):
    """Called like a SimpleCache."""

    def __init__(self, threshold: int = 500, **named: Any) -> None:
        options = {"CLEAR_FLUSHES_DB": True, "L1_MAX_ENTRIES": threshold}
        super().__init__(f"memory://{next(numbers)}", options=options, **named)


def put_backend_classes() -> None:
    for module in (cachelib, flask_caching.backends):
        module.RedisCache = InRedis
        module.MemcachedCache = InMemcached
        module.SimpleCache = InMemory


if MODE.startswith("ours"):
    put_ours_in_place()
else:
    put_backend_below()
    put_backend_classes()


# -- fixtures of their conftest ---------------------------------------------------


@pytest.fixture
def app(request):
    made = flask.Flask(
        request.module.__name__, template_folder=str(request.path.parent)
    )
    made.testing = True
    made.config["CACHE_TYPE"] = "SimpleCache"
    return made


@pytest.fixture
def cache(app):
    return flask_caching.Cache(app)


@pytest.fixture
def clock():
    return the_clock


@pytest.fixture(
    params=flask_caching.SUPPORTED_HASH_FUNCTIONS, ids=lambda method: method.__name__
)
def hash_method(request):
    return request.param


@pytest.fixture(params=[None, "test-key-prefix:"], ids=["no_prefix", "with_prefix"])
def key_prefix(request):
    return request.param


@pytest.fixture(scope="class")
def redis_server():
    return None


@pytest.fixture(scope="class")
def memcache_server():
    return None


@pytest.fixture(scope="class")
def memcached_server():
    return None


@pytest.fixture(autouse=True)
def engines_of_this_test():
    """Give each test a database and an empty Memcached, and stop its engines."""
    database.clear()
    client = memcached_client()
    client.flush_all()
    client.close()
    stored.clear()
    yield
    for engine, _ in list(registry._engines.values()):
        registry.retire(engine)
