"""The shared store as threads and as tasks use it, and its bus."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from cachebridge.bus.settings import HOME, channels_of
from cachebridge.codec.messages import messages_for
from cachebridge.engine.servers.logged import Logged
from cachebridge.engine.servers.redis_server import RedisServer
from cachebridge.errors import ConfigError, L2Error
from cachebridge.l2.memory.store import MemoryStore
from cachebridge.l2.resolving import resolve
from cachebridge.l2.store import Lagging
from cachebridge.l2.two_steps import Silence
from cachebridge.stats import NodeHealth
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    from cachebridge.config import EngineOptions
    from cachebridge.core.breaker import Breaker
    from cachebridge.core.keys import KeyPattern
    from cachebridge.engine.messages.outbox import Outbox
    from cachebridge.engine.servers.redis_cluster import RedisCluster
    from cachebridge.engine.servers.redis_server import Hooks
    from cachebridge.engine.servers.replicas import Replicas
    from cachebridge.l2.connections.link import Link
    from cachebridge.l2.location import Location
    from cachebridge.l2.memcached.cluster import Cluster
    from cachebridge.l2.memory.server import MemoryServer
    from cachebridge.l2.store import L2Store
    from cachebridge.l2.two_steps import Outbox as Sends

    BothWays: TypeAlias = tuple[Sends, Sends]
    """What sends messages for threads, and what does for tasks."""

NO_MESSAGES: Final = "takes no messages, they are owed"


class Stores:
    """One location's store for threads and for tasks, and the server of its bus.

    Both stores share connections and breaker.
    """

    threads: L2Store
    tasks: L2Store

    def __init__(
        self,
        location: Location,
        options: EngineOptions,
        *,
        memory: MemoryServer,
        breaker: Breaker,
        make_outbox: Callable[[L2Store], Outbox],
        hooks: Hooks,
    ) -> None:
        self.label = location.label
        self.redis: RedisServer | None = None
        """The server of the keys, if it is a Redis."""
        self.bus: RedisServer | None = None
        """The server of the messages; None where there is no server."""
        self.has_bus = options.bus != "none"
        """Whether messages are published, and listened to."""
        self.switchboard: L2Store | None = None
        """For threads: publishes, and keeps the switch of the fleet."""
        self.bus_cluster: RedisCluster | None = None
        """The masters that take the messages, if a cluster does."""
        self.outbox: Outbox | None = None
        """Publishes what the store cannot publish itself."""
        self.cluster: Cluster | None = None
        """The servers of Memcached, of which there may be several."""
        self.redis_cluster: RedisCluster | None = None
        """The masters of a Redis Cluster."""
        self.replicas: Replicas | None = None
        """Replicas of the server of the keys, one of which is read from."""
        self._links: WeakSet[Link] = WeakSet()
        self._hooks = hooks
        if location.cluster and options.bus_location is None:
            self._open_cluster(location, options, breaker)
        elif location.is_redis and options.bus_location is None:
            server = self._bus_server(location, options, breaker)
            self.redis, self.threads, self.tasks = server, server.threads, server.tasks
        elif location.scheme == "memory":
            if options.bus_location is not None:
                raise ConfigError(
                    "BUS_LOCATION is for redis:// and memcached://, not for "
                    f"{location.label!r}, which no other process shares."
                )
            self.threads = self.tasks = self.switchboard = MemoryStore(memory)
        else:
            outboxes = self._open_bus(location, options, breaker, make_outbox)
            self._open_beside(location, options, breaker, outboxes)
        first = next(iter(self.servers), None)
        if options.credential_provider is not None and first is None:
            raise ConfigError(
                f"CREDENTIAL_PROVIDER is for Redis and Valkey, not for {self.label!r}."
            )
        asks_sentinels = first is not None and first.location.sentinel is not None
        if options.sentinel_kwargs and not asks_sentinels:
            raise ConfigError(
                f"SENTINEL_KWARGS are for redis+sentinel://, not for {self.label!r}."
            )

    def _bus_server(
        self, location: Location, options: EngineOptions, breaker: Breaker
    ) -> RedisServer:
        if location.replicas:
            # Here, because redis-py takes longer to import than everything else.
            from cachebridge.engine.servers.replicas import Replicas  # noqa: PLC0415

            self.replicas = Replicas(
                location.replicas,
                options,
                breaker,
                self._hooks,
            )
        server = self.bus = RedisServer(
            location,
            options,
            breaker,
            self._hooks.leave,
            self._hooks,
            on_new_login=self._hooks.on_new_login,
            near=None if self.replicas is None else self.replicas.near,
        )
        self.switchboard = server.threads
        return server

    def _open_cluster(
        self,
        location: Location,
        options: EngineOptions,
        breaker: Breaker,
        outboxes: tuple[Sends | None, Sends | None] = (None, None),
    ) -> None:
        # Here, because redis-py takes longer to import than everything else.
        from cachebridge.engine.servers.redis_cluster import RedisCluster  # noqa: PLC0415

        cluster = self.redis_cluster = RedisCluster(
            location,
            options,
            breaker,
            self._hooks,
            narrow=messages_for,
            outboxes=outboxes,
        )
        self.threads, self.tasks = cluster.threads, cluster.tasks
        if outboxes[0] is None:
            self.switchboard, self.bus_cluster = cluster.threads, cluster

    def _open_bus(
        self,
        location: Location,
        options: EngineOptions,
        breaker: Breaker,
        make_outbox: Callable[[L2Store], Outbox],
    ) -> BothWays:
        """Return what sends the messages, for threads and for tasks."""
        self.has_bus = self.has_bus and options.bus_location is not None
        if not self.has_bus:
            return Silence(), Silence()
        bus, options = _parse_bus(location, options)
        watcher = Logged(bus.label, away=NO_MESSAGES, back="takes messages again")
        server = self._bus_server(bus, options, breaker.sibling(watcher))
        outbox = self.outbox = make_outbox(server.threads)
        return outbox.over(server.threads), outbox.over(server.tasks)

    def _open_beside(
        self,
        location: Location,
        options: EngineOptions,
        breaker: Breaker,
        outboxes: BothWays,
    ) -> None:
        """Make the stores of keys whose messages another server takes."""
        if location.cluster:
            self._open_cluster(location, options, breaker, outboxes)
            return
        if location.is_redis:
            server = self.redis = RedisServer(
                location,
                options,
                breaker,
                self._leave_keys,
                self._hooks,
                outboxes=outboxes,
            )
            self.threads, self.tasks = server.threads, server.tasks
            return
        if location.driver is not None:
            from cachebridge.engine.servers.driven import open_driver  # noqa: PLC0415 rare

            stores = open_driver(location, options, breaker, outboxes)
            self.threads, self.tasks = stores
            return
        try:
            # Here, because pymemcache is an extra.
            from cachebridge.l2.memcached.cluster import Cluster  # noqa: PLC0415
            from cachebridge.l2.memcached.store import MemcachedStore  # noqa: PLC0415
        except ImportError as exc:
            raise ConfigError(
                f"{location.label!r} needs pymemcache: "
                "pip install 'cachebridge[memcached]'."
            ) from exc
        cluster = self.cluster = Cluster(
            location,
            options,
            breaker=breaker,
            watch=self._watch_link,
            on_late_clear=self._hooks.on_late_clear,
            on_no_room=self._hooks.on_no_room,
        )
        self.threads = MemcachedStore(cluster, outboxes[0], cluster.clients)
        self.tasks = MemcachedStore(cluster, outboxes[1], cluster.task_clients)

    def _leave_keys(self, _reason: str) -> None:
        """Leave the server of the keys alone: L1 is vouched for by that of the bus."""
        self._hooks.on_departure()
        if self.redis is not None:
            self.redis.pool.leave()

    def _watch_link(self, link: Link) -> Link:
        self._links.add(link)
        return link

    @property
    def bus_db(self) -> int:
        """The number of the database that names the channel."""
        return 0 if self.bus is None else self.bus.location.db

    @property
    def switch_key(self) -> str:
        """The name of the key that says whether L1 is on in the fleet."""
        home = HOME if self.bus_cluster is not None else b""
        return channels_of(self.bus_db, b"", home).switch_key

    @property
    def servers(self) -> tuple[RedisServer, ...]:
        """The servers of Redis: those of the keys, then that of the messages."""
        return tuple(dict.fromkeys(filter(None, (*self.key_servers, self.bus))))

    @property
    def key_servers(self) -> tuple[RedisServer, ...]:
        """The servers of Redis that have the keys."""
        if self.redis_cluster is not None:
            return self.redis_cluster.all()
        return () if self.redis is None else (self.redis,)

    def carries_messages(self, server: RedisServer) -> bool:
        """Return whether processes publish and subscribe at the server."""
        return server is self.bus or (
            self.bus_cluster is not None and server in self.bus_cluster.all()
        )

    @property
    def _shards(self) -> Cluster | RedisCluster | None:
        return self.cluster or self.redis_cluster

    @property
    def is_sharded(self) -> bool:
        """Whether the keys are on several servers."""
        return self.redis_cluster is not None or (
            self.cluster is not None and len(self.cluster.nodes) > 1
        )

    def server_of(self, key: str) -> int:
        """Return the number of the server that has the key."""
        shards = self._shards
        return 0 if shards is None else shards.number_of(key)

    @property
    def lists_keys(self) -> bool:
        """Whether keys can be found by any pattern."""
        return self.cluster is None

    def can_find(self, pattern: KeyPattern) -> bool:
        """Return whether exactly the keys of the pattern can be deleted."""
        return self.lists_keys or pattern.is_told_by_prefix

    def split(self, keys: Iterable[str]) -> list[list[str]]:
        """Group keys by their servers, which fail independently."""
        shards = self._shards
        return [list(keys)] if shards is None else shards.split(keys)

    def clears_owed(self) -> int:
        """Count the clears that are owed to single servers."""
        return 0 if self.cluster is None else self.cluster.clears_owed()

    def escalate(self, keys: Sequence[str], pattern: KeyPattern) -> bool:
        """Owe the clear of a cache to the servers of these keys alone, if to any."""
        if not self.is_sharded or self.cluster is None:
            return False
        self.cluster.owe_clear(keys, pattern.prefix)
        return True

    def servers_away(self) -> tuple[str, ...]:
        """Return the names of those of several servers that do not answer now."""
        return () if self._shards is None else tuple(self._shards.away())

    def nodes(self) -> tuple[NodeHealth, ...]:
        """Return how each of several servers is."""
        shards, away = self._shards, self.servers_away()
        if shards is None or not self.is_sharded:
            return ()
        return tuple(
            NodeHealth(label, label in away, slots)
            for label, slots in shards.labels().items()
        )

    def label_of(self, key: str) -> str:
        """Return the URL, without login, of the server that has a full key."""
        shards = self._shards
        return self.label if shards is None else shards.label_of(key)

    def past_replicas(self, store: L2Store) -> L2Store:
        """Return a store whose reads see what any process has written."""
        if self.replicas is not None and isinstance(store, Lagging):
            return store.past_replicas()
        return store

    def is_behind(self) -> bool:
        """Return whether messages or clears are owed, or a server is away."""
        shards = self._shards
        return bool(self.outbox) or (shards is not None and shards.is_behind)

    async def catch_up(self) -> None:
        """Publish what is owed, and clear the servers that are back; for threads."""
        outbox, answers = self.outbox, False
        if (self.is_sharded and self.is_behind()) or (outbox and outbox.doubts):
            with suppress(L2Error):  # then it is not over yet
                await self.threads.ping()
                answers = not self.servers_away()
        if outbox:
            outbox.settle(answers=answers)
            await outbox.flush_if_possible()

    def close(self) -> None:
        """Catch up as far as possible, then close idle connections."""
        for server in self.servers:
            server.stop()
        if self.outbox:
            self.outbox.give_up()
        run(self.catch_up())
        for store in {self.threads, self.switchboard, self.replicas}:
            if store is not None:
                store.close()

    def forget(self) -> None:
        """Close the copies of the parent's connections in the child of a fork.

        Threads of the parent hold some.  In a child the client libraries only close
        their copy of the socket.  Kept open, a connection would outlive the parent, and
        no process would read it.
        """
        if self.outbox is not None:
            self.outbox.reset()
        for store in {self.threads, self.switchboard, self.replicas}:
            if store is not None:
                store.forget()
        for server in self.servers:
            server.forget()
        for link in tuple(self._links):
            link.close()


def _parse_bus(
    location: Location, options: EngineOptions
) -> tuple[Location, EngineOptions]:
    """Return the server of the messages, and the options for it.

    What connections need beside URLs is given for the server of the keys, also if the
    bus is another; for Memcached, sentinels and credentials can only be the bus's.
    """
    options = replace(options, client_kwargs={})
    if location.is_redis:
        options = replace(options, credential_provider=None, sentinel_kwargs={})
    try:
        parsed, options = resolve(options.bus_location, options)
    except ConfigError as exc:
        raise ConfigError(f"BUS_LOCATION: {exc}") from None
    if not parsed.is_redis:
        raise ConfigError(
            f"BUS_LOCATION {parsed.label!r} must be the URL of a Redis server: "
            "redis://, rediss://, redis+sentinel:// or unix://."
        )
    return parsed, options
