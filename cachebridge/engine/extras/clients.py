"""redis-py's clients of the server of a cache, for commands that no cache has.

What such a client changes is told to no L1: it is for keys that no cache reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.sentinel
import redis.cluster
import redis.sentinel
from redis.connection import SSLConnection

from cachebridge.errors import NO_CLIENT, ConfigError, UnsupportedOperationError
from cachebridge.l2.factory import arguments_of
from cachebridge.l2.redis.sentinels import settled

if TYPE_CHECKING:
    from cachebridge.engine.engine import Engine
    from cachebridge.l2.sentinel import SentinelUrl

_clients: WeakKeyDictionary[Engine, Any] = WeakKeyDictionary()
_ADDRESS = ("host", "port", "db")


def client_for_threads(engine: Engine) -> Any:
    """Return the ``redis.Redis`` or ``redis.RedisCluster`` of an engine, always one.

    Thread safe, also after a fork.  Raises UnsupportedOperationError where there is no
    Redis, ConfigError for arguments that redis-py refuses.
    """
    client = _clients.get(engine)
    if client is None:
        client = _clients[engine] = _make(engine, redis)
    return client


def client_for_tasks(engine: Engine) -> Any:
    """Return a new client of ``redis.asyncio``, for one event loop, to be closed."""
    return _make(engine, redis.asyncio)


def _make(engine: Engine, module: Any) -> Any:
    """Make a client of ``redis`` or of ``redis.asyncio``; it has yet to connect."""
    location, options = engine.location, engine.options
    if not location.is_redis:
        raise UnsupportedOperationError(NO_CLIENT.format(location.scheme))
    kind, arguments = arguments_of(location, options)
    if issubclass(kind, SSLConnection):
        arguments["ssl"] = True
    if location.sentinel is not None:
        return _behind_sentinels(engine, location.sentinel, module, arguments)
    if location.cluster and not location.enforces_slots:
        for name in _ADDRESS:
            arguments.pop(name, None)
        node = module.cluster.ClusterNode
        nodes = [node(host, port) for host, port in location.cluster]
        return module.cluster.RedisCluster(startup_nodes=nodes, **arguments)
    if "path" in arguments:
        arguments["unix_socket_path"] = arguments.pop("path")
    try:
        return module.Redis(**arguments)
    except TypeError as exc:
        raise ConfigError(f"LOCATION {location.label!r}: {exc}") from exc


def _behind_sentinels(
    engine: Engine, url: SentinelUrl, module: Any, arguments: dict[str, Any]
) -> Any:
    options = engine.options
    of_sentinels, own = settled(
        url, options, {**engine.location.connection_kwargs, **options.client_kwargs}
    )
    kind = of_sentinels.pop("connection_class", None)
    of_sentinels |= {
        "ssl": kind is not None,
        "socket_timeout": own.socket_timeout,
        "socket_connect_timeout": own.socket_connect_timeout,
    }
    for name in _ADDRESS[:2]:
        arguments.pop(name, None)
    if module is redis.asyncio:
        arguments["connection_pool_class"] = _Pool
    sentinels = module.sentinel.Sentinel(url.servers, sentinel_kwargs=of_sentinels)
    return sentinels.master_for(url.master, redis_class=module.Redis, **arguments)


class _Pool(redis.asyncio.sentinel.SentinelConnectionPool):
    """Closes the connections to the sentinels, too; redis-py leaves them open."""

    async def aclose(self) -> None:
        """Close all connections of the client."""
        try:
            await super().aclose()
        finally:
            for each in self.sentinel_manager.sentinels:
                await each.aclose()
