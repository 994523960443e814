"""The shared store as threads and as tasks use it, its bus, and all connections."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakSet

from cachebridge.bus.session import channels_of
from cachebridge.errors import ConfigError, L2Error
from cachebridge.l2.aclient import AsyncClient
from cachebridge.l2.amemory import AsyncMemoryStore
from cachebridge.l2.aredis import AsyncRedisStore
from cachebridge.l2.client import Client
from cachebridge.l2.location import MEMCACHED, connection_factory, parse_location
from cachebridge.l2.memory import MemoryStore
from cachebridge.l2.pool import Pool, open_link
from cachebridge.l2.redis import RedisStore
from cachebridge.l2.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from redis.connection import Connection

    from cachebridge.config import EngineOptions
    from cachebridge.core.breaker import Breaker
    from cachebridge.core.keys import KeyPattern
    from cachebridge.engine.outbox import Outbox
    from cachebridge.l2.base import AsyncL2Store, L2Store
    from cachebridge.l2.location import Location
    from cachebridge.l2.memcached.cluster import Cluster
    from cachebridge.l2.memory import MemoryServer
    from cachebridge.l2.pool import Link

_log = logging.getLogger("cachebridge.engine")


class Stores:
    """Both colours of one location's store, and the server of its bus.

    They share connections and breaker.
    """

    def __init__(
        self,
        location: Location,
        options: EngineOptions,
        *,
        memory: MemoryServer,
        breaker: Breaker,
        make_outbox: Callable[[RedisStore, AsyncRedisStore], Outbox],
        on_late_clear: Callable[[str], None],
        on_no_room: Callable[[], None],
    ) -> None:
        self.label = location.label
        self.make_connection: Callable[[], Connection] | None = None
        """Makes one for the bus; None where there is no server."""
        self.bus_location: Location | None = location
        self.has_bus = options.bus != "none"
        """Whether messages are published, and listened to."""
        self.switchboard: L2Store | None
        """Keeps the switch of the fleet, where the bus looks for it."""
        self.outbox: Outbox | None = None
        """Publishes what the store cannot publish itself."""
        self.cluster: Cluster | None = None
        """The servers, where there may be several."""
        self._connections: WeakSet[Connection] = WeakSet()
        self._links: WeakSet[Link] = WeakSet()
        self.for_threads: L2Store
        self.for_tasks: AsyncL2Store
        self._make_outbox = make_outbox
        self._on_late_clear = on_late_clear
        self._on_no_room = on_no_room
        if options.bus_location is not None and location.scheme != MEMCACHED:
            raise ConfigError(
                f"BUS_LOCATION is for memcached:// alone: {location.label!r} publishes "
                "its messages itself, in one step with each change."
            )
        if location.scheme == MEMCACHED:
            self._use_memcached(location, options, breaker)
            return
        if location.scheme == "memory":
            store = MemoryStore(memory)
            self.for_threads, self.for_tasks = store, AsyncMemoryStore(store)
        else:
            self.for_threads, self.for_tasks = self._redis(location, options, breaker)
        self.switchboard = self.for_threads

    def _redis(
        self, location: Location, options: EngineOptions, breaker: Breaker
    ) -> tuple[RedisStore, AsyncRedisStore]:
        make = connection_factory(location, options)

        def make_connection() -> Connection:
            made = make()
            self._connections.add(made)
            return made

        self.make_connection = make_connection
        pool = Pool(
            lambda: open_link(make_connection()),
            options.max_connections,
            options.socket_timeout,
        )
        channel = channels_of(location.db, b"").shared
        server = Server(pool, label=location.label, breaker=breaker)
        return (
            RedisStore(Client(server), channel=channel),
            AsyncRedisStore(AsyncClient(server), channel=channel),
        )

    def _use_memcached(
        self, location: Location, options: EngineOptions, breaker: Breaker
    ) -> None:
        try:
            # Here, because pymemcache is an extra.
            from cachebridge.l2.memcached.astore import (  # noqa: PLC0415
                AsyncMemcachedStore,
            )
            from cachebridge.l2.memcached.cluster import Cluster  # noqa: PLC0415
            from cachebridge.l2.memcached.store import MemcachedStore  # noqa: PLC0415
        except ImportError as exc:
            raise ConfigError(
                f"{location.label!r} needs pymemcache: "
                "pip install 'cachebridge[memcached]'."
            ) from exc
        self.bus_location = self.switchboard = None
        self.has_bus = self.has_bus and options.bus_location is not None
        if self.has_bus:
            bus = self.bus_location = _parse_bus(options.bus_location)
            watcher = _BusWatcher(bus.label)
            bus_stores = self._redis(
                bus, replace(options, client_kwargs={}), breaker.sibling(watcher)
            )
            self.switchboard = bus_stores[0]
            self.outbox = self._make_outbox(*bus_stores)
        outbox = _Silence() if self.outbox is None else self.outbox
        self.cluster = Cluster(
            location,
            options,
            breaker=breaker,
            watch=self._watch,
            on_late_clear=self._on_late_clear,
            on_no_room=self._on_no_room,
        )
        self.for_threads = MemcachedStore(self.cluster, outbox)
        self.for_tasks = AsyncMemcachedStore(self.cluster, outbox)

    def _watch(self, link: Link) -> Link:
        self._links.add(link)
        return link

    @property
    def bus_db(self) -> int:
        """The number of the database that names the channel."""
        return 0 if self.bus_location is None else self.bus_location.db

    @property
    def publishes(self) -> bool:
        """Whether a message goes anywhere at all."""
        return self.switchboard is not None

    @property
    def is_sharded(self) -> bool:
        """Whether the keys are on several servers."""
        return self.cluster is not None and len(self.cluster.nodes) > 1

    def can_find(self, pattern: KeyPattern) -> bool:
        """Tell whether all keys of the pattern can be deleted, and no others."""
        return self.cluster is None or pattern.is_told_by_prefix

    def split(self, keys: Iterable[str]) -> list[list[str]]:
        """Sort keys by what fails together: the servers that have them."""
        return [list(keys)] if self.cluster is None else self.cluster.split(keys)

    def clears_owed(self) -> int:
        """Count the clears that are owed to single servers."""
        return 0 if self.cluster is None else self.cluster.clears_owed()

    def spill(self, keys: Sequence[str], pattern: KeyPattern) -> bool:
        """Owe the clear of a cache to the servers of these keys alone, if to any."""
        if not self.is_sharded or self.cluster is None:
            return False
        self.cluster.owe_clear(keys, pattern.prefix)
        return True

    def servers_away(self) -> tuple[str, ...]:
        """Name those of several servers that do not answer at the moment."""
        return () if self.cluster is None else tuple(self.cluster.away())

    def is_behind(self) -> bool:
        """Tell whether there are messages or clears to catch up on, or lost servers."""
        return bool(self.outbox) or (
            self.cluster is not None and self.cluster.is_behind
        )

    def catch_up(self) -> None:
        """Publish what is owed, and look after the servers that were away."""
        if self.outbox:
            self.outbox.flush_if_possible()
        if self.is_sharded and self.is_behind():
            with suppress(L2Error):  # then it is not over yet
                self.for_threads.ping()

    def close(self) -> None:
        """Close idle connections, after having caught up as far as possible."""
        self.catch_up()
        for store in {self.for_threads, self.switchboard}:
            if store is not None:
                store.close()

    def forget(self) -> None:
        """Close the copies of the parent's connections in the child of a fork.

        Threads that are no more hold some.  In a child the client libraries only close
        their copy of the socket; kept open it would outlive the parent, read by nobody.
        """
        if self.outbox is not None:
            self.outbox.reset()
        for store in {self.for_threads, self.switchboard}:
            if store is not None:
                store.forget()
        for connection in tuple(self._connections):
            connection.disconnect()
        for link in tuple(self._links):
            link.close()


def _parse_bus(location: object) -> Location:
    try:
        parsed = parse_location(location)
    except ConfigError as exc:
        raise ConfigError(f"BUS_LOCATION: {exc}") from None
    if not parsed.is_redis:
        raise ConfigError(
            f"BUS_LOCATION {parsed.label!r} must be the URL of a Redis server: "
            "redis://, rediss:// or unix://."
        )
    return parsed


class _BusWatcher:
    """Logs what happens to the server that messages are published on."""

    def __init__(self, label: str) -> None:
        self._label = label

    def on_open(self, reason: str) -> Callable[[], None]:
        """See ``BreakerWatcher``."""
        return partial(
            _log.warning, "%s takes no messages, they are owed: %s", self._label, reason
        )

    def on_close(self) -> Callable[[], None]:
        """See ``BreakerWatcher``."""
        return partial(_log.warning, "%s takes messages again", self._label)


class _Silence:
    """Publishes nothing: where there is no bus no message is made."""

    def send(self, message: bytes) -> None:
        """Do nothing."""

    async def send_async(self, message: bytes) -> None:
        """Do nothing."""

    def owe(self, message: bytes) -> None:
        """Do nothing."""
