"""The replicas of one primary: which one is read from, and subscribed at."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from cachebridge.core.outage import NEVER
from cachebridge.engine.servers.logged import Logged
from cachebridge.engine.servers.redis_server import RedisServer
from cachebridge.l2.redis.near import Marks, NearClient
from cachebridge.resp import pack

if TYPE_CHECKING:
    from redis.connection import Connection

    from cachebridge.config import EngineOptions
    from cachebridge.core.breaker import Breaker
    from cachebridge.engine.servers.redis_server import Hooks
    from cachebridge.l2.location import Location
    from cachebridge.l2.redis.client import RedisClient


class Replicas:
    """See ``REPLICAS``.  Thread safe."""

    def __init__(
        self,
        locations: tuple[Location, ...],
        options: EngineOptions,
        breaker: Breaker,
        hooks: Hooks,
    ) -> None:
        self._proven = hooks.proven
        self._is_connected = hooks.is_connected
        self._marks = Marks(hooks.clock, hooks.proven)
        self._servers = [
            self._make_server(location, options, breaker, hooks)
            for location in locations
        ]
        self._current: RedisServer | None = None

    def _make_server(
        self,
        location: Location,
        options: EngineOptions,
        breaker: Breaker,
        hooks: Hooks,
    ) -> RedisServer:
        watcher = Logged(
            location.label,
            away="is away, the primary is read instead",
            back="is read again",
        )

        def leave(_reason: str) -> None:
            server.pool.leave()

        server = RedisServer(location, options, breaker.sibling(watcher), leave, hooks)
        return server

    def near(self, primary: RedisClient, for_threads: bool) -> NearClient:
        """Let the reads of this client go to the replica, where they may."""
        return NearClient(primary, partial(self._client, for_threads), self._marks)

    def _client(self, for_threads: bool) -> RedisClient | NearClient | None:
        server = self._current
        if server is None:
            return None
        return server.threads.client if for_threads else server.tasks.client

    @property
    def label(self) -> str:
        """The replica that is read from; empty while none is proven."""
        server = self._current
        return (
            "" if server is None or self._proven() == NEVER else server.location.label
        )

    def make_connection(self) -> Connection:
        """Make the connection of a subscription; reads follow it.

        While a session hears the present replica, that one stays.  Else the nearest is
        taken: that which answers a PING first of all that answer.  Blocks; raises what
        connecting raises.
        """
        server = self._current
        if server is None or not self._is_connected():
            server = self._current = self._nearest()
        return server.make_connection()

    def _nearest(self) -> RedisServer:
        from redis.exceptions import RedisError  # noqa: PLC0415 it takes long to import

        times: dict[RedisServer, float] = {}
        failure: Exception | None = None
        for server in self._servers:
            try:
                link = server.pool.take_oldest() or server.pool.open()
                began = time.monotonic()
                link.exchange(pack(b"PING"), 1)
                times[server] = time.monotonic() - began
                server.pool.keep(link)
            except (RedisError, OSError) as exc:
                failure = exc
        if not times:
            raise failure or ConnectionError("there is no replica")
        return min(times, key=times.__getitem__)

    @property
    def servers(self) -> tuple[RedisServer, ...]:
        """All of them."""
        return tuple(self._servers)

    def close(self) -> None:
        """Close idle connections."""
        for server in self._servers:
            server.stop()
            server.threads.close()

    def forget(self) -> None:
        """Begin anew in the child of a fork, with connections of its own."""
        self._current = None
        self._marks.reset()
        for server in self._servers:
            server.threads.forget()
            server.forget()
