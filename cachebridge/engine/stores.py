"""The shared store as threads and as tasks use it, and all connections to it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakSet

from cachebridge.bus.session import channels_of
from cachebridge.l2.aclient import AsyncClient
from cachebridge.l2.amemory import AsyncMemoryStore
from cachebridge.l2.aredis import AsyncRedisStore
from cachebridge.l2.client import Client
from cachebridge.l2.location import connection_factory
from cachebridge.l2.memory import MemoryStore
from cachebridge.l2.pool import Pool
from cachebridge.l2.redis import RedisStore
from cachebridge.l2.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.connection import Connection

    from cachebridge.config import EngineOptions
    from cachebridge.core.breaker import Breaker
    from cachebridge.l2.base import AsyncL2Store, L2Store
    from cachebridge.l2.location import Location
    from cachebridge.l2.memory import MemoryServer


class Stores:
    """Both colours of one server's store: they share connections and breaker."""

    def __init__(
        self,
        location: Location,
        options: EngineOptions,
        *,
        memory: MemoryServer,
        breaker: Breaker,
    ) -> None:
        self.make_connection: Callable[[], Connection] | None = None
        """Makes one for the bus; None where there is no server."""
        self._connections: WeakSet[Connection] = WeakSet()
        self.for_threads: L2Store
        self.for_tasks: AsyncL2Store
        if location.scheme == "memory":
            store = MemoryStore(memory)
            self.for_threads, self.for_tasks = store, AsyncMemoryStore(store)
            return
        self._make = connection_factory(location, options)
        self.make_connection = self._connection
        pool = Pool(self._connection, options.max_connections, options.socket_timeout)
        channel = channels_of(location.db, b"").shared
        server = Server(pool, label=location.label, breaker=breaker)
        self.for_threads = RedisStore(Client(server), channel=channel)
        self.for_tasks = AsyncRedisStore(AsyncClient(server), channel=channel)

    def _connection(self) -> Connection:
        made = self._make()
        self._connections.add(made)
        return made

    def forget(self) -> None:
        """Close the copies of the parent's connections in the child of a fork.

        Threads that are no more hold some.  In a child redis-py only closes its copy of
        the socket; kept open it would outlive the parent, read by nobody.
        """
        self.for_threads.forget()
        for connection in tuple(self._connections):
            connection.disconnect()
