"""Tools for tests and demos: private Redis servers, and faults on the way to them."""

from __future__ import annotations

from cachebridge.testing.proxy import FaultProxy
from cachebridge.testing.servers import (
    RedisServer,
    ServerNotFoundError,
    ServerStartError,
    redis_server,
)

__all__ = [
    "FaultProxy",
    "RedisServer",
    "ServerNotFoundError",
    "ServerStartError",
    "redis_server",
]
