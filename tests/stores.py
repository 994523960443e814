"""The shared levels that the scenarios of Django and Flask run on.

A test that asks for the fixture ``place`` runs on Redis.  In a module that is marked
``every_store`` it runs on a Redis Cluster as well, and on Memcached, with messages over
Redis and without any, unless it is marked ``only_on_redis`` with one of the reasons
below: then it is not even collected for the others.
"""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.clusters import empty
from tests.rig import listening, lone_cache

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

    from cachebridge import Cache
    from cachebridge.testing import MemcachedServer, RedisCluster

REDIS = "redis"
CLUSTER = "redis+cluster"
WITH_BUS = "memcached+bus"
ALONE = "memcached"
EVERY = (REDIS, CLUSTER, WITH_BUS, ALONE)

MILLISECONDS = "Memcached counts whole seconds: its contract has the same to the second"
PEEKS = "looks at the keys with a client of Redis, to see what stands there"
PATTERNS = (
    "Memcached cannot list keys: tests/unit/django/test_memcached.py has the error"
)
MESSAGES = "is about messages alone, which Redis publishes in any case"
FORMAT = "is about bytes in Redis: tests/unit/django/test_memcached.py has Memcached's"
NAMES = "is about the names of keys, which are the same everywhere"
CONNECTIONS = "counts connections to Redis"
REASONS = (
    MILLISECONDS,
    PEEKS,
    PATTERNS,
    MESSAGES,
    FORMAT,
    NAMES,
    CONNECTIONS,
)


class Place(NamedTuple):
    """Where a cache has its shared level, and what it must be told for that."""

    name: str
    location: str
    options: Mapping[str, Any]

    @property
    def is_memcached(self) -> bool:
        return self.name in {WITH_BUS, ALONE}

    @property
    def nowhere(self) -> str:
        """An address for this kind of store at which no server answers."""
        scheme, _, _ = self.location.partition(":")
        return f"{scheme}://127.0.0.1:1"

    def open(self, key_prefix: str) -> Cache:
        """Return a plain cache of an engine of its own, which listens if it can."""
        cache = lone_cache(self.location, key_prefix=key_prefix, **self.options)
        return cache if self.name == ALONE else listening(cache)

    def entry(self, backend: str, **params: Any) -> dict[str, Any]:
        """Return an entry of Django's CACHES."""
        options = {**self.options, **params.pop("OPTIONS", {})}
        return {
            "BACKEND": backend,
            "LOCATION": self.location,
            "OPTIONS": options,
            **params,
        }

    def flask_config(self, **bridge: Any) -> dict[str, Any]:
        """Return a configuration of Flask's, with options of ours."""
        options = {"CACHE_BRIDGE": {**self.options, **bridge}}
        if not self.is_memcached:
            return {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": self.location} | (
                options if bridge else {}
            )
        servers = [self.location.removeprefix("memcached://")]
        return {
            "CACHE_TYPE": "MemcachedCache",
            "CACHE_MEMCACHED_SERVERS": servers,
            **options,
        }


def make_place(request: pytest.FixtureRequest, name: str, redis_url: str) -> Place:
    """Return an empty shared level of that name."""
    if name == REDIS:
        return Place(name, redis_url, {})
    if name == CLUSTER:
        if request.scope == "function":
            cluster: RedisCluster = request.getfixturevalue("shared_cluster")
        else:
            cluster = request.getfixturevalue("running_cluster")
            request.addfinalizer(partial(empty, cluster))
        return Place(name, cluster.url, {})
    server: MemcachedServer = request.getfixturevalue("shared_memcached")
    flush(server)
    options = {"BUS_LOCATION": redis_url} if name == WITH_BUS else {}
    return Place(name, server.url, options)


def flush(server: MemcachedServer) -> None:
    """Empty a Memcached, which has no databases of one's own."""
    address = (server.host, server.port)
    with socket.create_connection(address, timeout=5) as connection:
        connection.sendall(b"flush_all\r\n")
        assert connection.recv(100) == b"OK\r\n"


def stores_of(item: Any) -> tuple[str, ...]:
    """Return the names of the levels that a test runs on."""
    only = item.get_closest_marker("only_on_redis")
    if only is not None:
        assert only.args[0] in REASONS, f"{item.name}: a reason of tests/stores.py"
        return (REDIS,)
    return EVERY
