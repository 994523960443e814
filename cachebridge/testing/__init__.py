"""Tools for tests and demos: private servers, faults, and doubles with faults."""

from __future__ import annotations

from cachebridge.testing.chaos import ChaosBus, ChaosL2, FakeClock
from cachebridge.testing.clusters import RedisCluster, redis_cluster
from cachebridge.testing.processes import ServerStartError
from cachebridge.testing.proxy import FaultProxy
from cachebridge.testing.sentinels import SentinelGroup, sentinel_group
from cachebridge.testing.servers import (
    MemcachedServer,
    RedisServer,
    ServerNotFoundError,
    memcached_server,
    redis_server,
)

__all__ = [
    "ChaosBus",
    "ChaosL2",
    "FakeClock",
    "FaultProxy",
    "MemcachedServer",
    "RedisCluster",
    "RedisServer",
    "SentinelGroup",
    "ServerNotFoundError",
    "ServerStartError",
    "memcached_server",
    "redis_cluster",
    "redis_server",
    "sentinel_group",
]
