"""The tables of other backends' settings: complete, and documented."""

from __future__ import annotations

from inspect import signature

import pymemcache
import pytest
import redis
from redis.connection import (
    AbstractConnection,
    BlockingConnectionPool,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)

from cachebridge.counterparts.memcached_settings import PYMEMCACHE
from cachebridge.counterparts.redis_settings import REDIS_PY
from tools.settings_tables import PAGE, renewed

OF_NO_USER = {
    "self",
    *("args", "kwargs", "connection_kwargs"),
    *("maint_notifications_pool_handler", "maintenance_state"),
    *("maintenance_notification_hash", "orig_host_address", "orig_socket_timeout"),
    *("orig_socket_connect_timeout", "oss_cluster_maint_notifications_handler"),
    "himport_registry",
}
"""What redis-py's own classes hand to each other."""


@pytest.mark.parametrize(
    "kind",
    [
        AbstractConnection,
        BlockingConnectionPool,
        Connection,
        ConnectionPool,
        SSLConnection,
        UnixDomainSocketConnection,
        redis.Redis,
        redis.RedisCluster,
    ],
)
def test_every_argument_of_redis_py_has_a_row(kind):
    """Also of a later version: what it adds must be decided on."""
    names = set(signature(kind.__init__).parameters) - OF_NO_USER
    assert names - REDIS_PY.keys() == set()


@pytest.mark.parametrize("kind", [pymemcache.HashClient, pymemcache.PooledClient])
def test_every_argument_of_pymemcache_has_a_row(kind):
    """But its servers, which are the LOCATION; SERIALIZER is there in either case."""
    names = {
        {"serializer": "SERIALIZER"}.get(each, each)
        for each in signature(kind.__init__).parameters
    }
    assert names - {"self", "server", "servers"} - PYMEMCACHE.keys() == set()


def test_the_page_shows_the_tables():
    """``python -m tools.settings_tables --write`` makes it so."""
    text = PAGE.read_text(encoding="utf-8")
    assert renewed(text) == text
