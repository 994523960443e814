"""Tools for tests and demos: private Redis servers, and faults on the way to them."""

from __future__ import annotations

from cachebridge.testing.servers import (
    RedisServer,
    ServerNotFoundError,
    ServerStartError,
    redis_server,
)

__all__ = [
    "RedisServer",
    "ServerNotFoundError",
    "ServerStartError",
    "redis_server",
]
