"""``get_client``: redis-py's client of the cache's own server, however it is found."""

from __future__ import annotations

import asyncio

import pytest
import redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster

from cachebridge.django_backend import CacheBridge
from cachebridge.errors import L2UnavailableError, UnsupportedOperationError
from tests.stores import CLUSTER, REDIS


@pytest.mark.parametrize(
    ("place", "kind", "async_kind"),
    [
        (REDIS, redis.Redis, AsyncRedis),
        (CLUSTER, redis.RedisCluster, AsyncRedisCluster),
    ],
    indirect=["place"],
)
def test_one_client_for_threads_and_new_ones_for_tasks(cache, kind, async_kind):
    """Both see the values of the cache, under their full keys."""
    client = cache.get_client()
    assert type(client) is kind
    assert cache.client.get_client(write=False) is client
    cache.set("k", 5)
    assert client.get(":1:k") == b"5"
    client.sadd("a-set", "x")
    assert client.smembers("a-set") == {b"x"}

    async def use():
        async with cache.aget_client() as client:
            assert type(client) is async_kind
            await client.rpush("a-list", "x", "y")
            return await client.lrange("a-list", 0, -1), await client.get(":1:k")

    for _ in range(2):  # in two event loops
        found, raw = asyncio.run(use())
        assert (found[:2], raw) == ([b"x", b"y"], b"5")


def test_login_database_and_options(redis_server_factory):
    """All of the URL and of CLIENT_KWARGS holds for the client."""
    server = redis_server_factory()
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command(
            "ACL", "SETUSER", "app", "on", ">p@w", "~*", "&*", "+@all"
        )
    address = f"{server.host}:{server.port}"
    cache = CacheBridge(
        f"redis://app:p%40w@{address}/3",
        {"OPTIONS": {"CLIENT_KWARGS": {"client_name": "mine"}, "SOCKET_TIMEOUT": 7}},
    )
    client = cache.get_client()
    assert client.acl_whoami() in {"app", b"app"}
    assert client.client_info()["db"] == 3
    assert client.client_getname() in {"mine", b"mine"}
    assert client.connection_pool.connection_kwargs["socket_timeout"] == 7


@pytest.mark.parametrize("location", ["memory://", "memcached://127.0.0.1:1"])
def test_where_there_is_no_redis(location):
    """The error says so."""
    cache = CacheBridge(location, {})
    for get in (cache.get_client, cache.aget_client):
        with pytest.raises(
            UnsupportedOperationError, match="no client of redis-py for"
        ):
            get()


def test_errors_are_redis_pys_as_well(free_port):
    """Code that catches those of redis-py, as with other backends, goes on working."""
    options = {"ON_ERROR": "raise", "BREAKER_FAILURES": 1, "BREAKER_RETRY": 60}
    cache = CacheBridge(f"redis://127.0.0.1:{free_port}", {"OPTIONS": options})
    for _ in range(3):  # asked once, then the breaker is open
        with pytest.raises(redis.exceptions.ConnectionError) as caught:
            cache.get("k")
        assert isinstance(caught.value, L2UnavailableError)
        assert isinstance(caught.value.again(), redis.exceptions.ConnectionError)
    assert cache.health().breaker_open
