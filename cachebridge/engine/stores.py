"""The shared store as threads and as tasks use it, its bus, and all connections."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakSet

from cachebridge.bus.master_watch import MasterWatch
from cachebridge.bus.settings import ELSEWHERE, channels_of
from cachebridge.errors import ConfigError, L2Error
from cachebridge.l2.location import MEMCACHED, connection_factory, resolve
from cachebridge.l2.logins import Logins
from cachebridge.l2.memory.store import MemoryStore
from cachebridge.resp import Hello, pack, read_hello
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from redis.connection import Connection

    from cachebridge.config import EngineOptions
    from cachebridge.core.breaker import Breaker
    from cachebridge.core.keys import KeyPattern
    from cachebridge.engine.messages.outbox import Outbox
    from cachebridge.l2.connections.link import Link
    from cachebridge.l2.connections.pool import Links, Pool
    from cachebridge.l2.location import Location
    from cachebridge.l2.memcached.cluster import Cluster
    from cachebridge.l2.memcached.store import Outbox as MemcachedOutbox
    from cachebridge.l2.memory.store import MemoryServer
    from cachebridge.l2.redis.sentinels import Sentinels
    from cachebridge.l2.store import L2Store

_log = logging.getLogger("cachebridge.engine")


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
        on_late_clear: Callable[[str], None],
        on_no_room: Callable[[], None],
        leave: Callable[[str], None],
        on_move: Callable[[str], None],
        on_tick: Callable[[], None],
        on_new_login: Callable[[], None],
    ) -> None:
        """``on_move``: Sentinel has another master; ``on_tick``: twice a second then.

        Both are called in a thread of their own; ``on_new_login`` in any, when the
        credentials have changed.
        """
        self.label = location.label
        self.leave = leave
        """Called with a reason if the server of the bus turns out to be wrong."""
        self.bus_links: Pool | None = None
        """The connections to the server of the bus, which heartbeats share."""
        self.make_connection: Callable[[], Connection] | None = None
        """Makes a connection for the bus; None where there is no server."""
        self.bus_location: Location | None = location
        self.has_bus = options.bus != "none"
        """Whether messages are published, and listened to."""
        self.switchboard: L2Store | None = None
        """For threads: publishes, and keeps the switch of the fleet."""
        self.outbox: Outbox | None = None
        """Publishes what the store cannot publish itself."""
        self.cluster: Cluster | None = None
        """The servers, where there may be several."""
        self.find_master: Callable[[], tuple[str, int]] | None = None
        """Asks sentinels for the address of the server of the bus."""
        self._sentinels: Sentinels | None = None
        self._watch: MasterWatch | None = None
        self._on_move = on_move
        self._on_tick = on_tick
        self._on_new_login = on_new_login
        self._logins: Logins | None = None
        self._connections: WeakSet[Connection] = WeakSet()
        self._links: WeakSet[Link] = WeakSet()
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
        elif location.scheme == "memory":
            self.threads = self.tasks = self.switchboard = MemoryStore(memory)
        else:
            self.threads, self.tasks = self._redis(location, options, breaker)
            self.switchboard = self.threads
        if options.credential_provider is not None and self.bus_links is None:
            raise ConfigError(
                f"CREDENTIAL_PROVIDER is for Redis and Valkey, not for {self.label!r}."
            )
        if options.sentinel_kwargs and self._sentinels is None:
            raise ConfigError(
                f"SENTINEL_KWARGS are for redis+sentinel://, not for {self.label!r}."
            )

    def _redis(
        self, location: Location, options: EngineOptions, breaker: Breaker
    ) -> tuple[L2Store, L2Store]:
        # Here, because redis-py takes longer to import than everything else.
        from cachebridge.l2.connections.pool import Pool  # noqa: PLC0415
        from cachebridge.l2.connections.task_pool import TaskPool  # noqa: PLC0415
        from cachebridge.l2.redis.client import RedisClient, open_link  # noqa: PLC0415
        from cachebridge.l2.redis.store import RedisStore  # noqa: PLC0415

        if location.sentinel is not None:
            self._follow(location, options)
        if options.credential_provider is not None:
            logins = self._logins = Logins(
                options.credential_provider, location.label, self._on_rotation
            )
            options = replace(options, credential_provider=logins)
        make = connection_factory(location, options, self.find_master)

        def make_connection() -> Connection:
            made = make()
            self._connections.add(made)
            if self._watch is not None:
                self._watch.start()
            return made

        def store_over(links: Links) -> RedisStore:
            client = RedisClient(
                links, label=location.label, breaker=breaker, leave=self.leave
            )
            return RedisStore(client, channel=channels_of(location.db, b"").shared)

        self.make_connection = make_connection
        pool = self.bus_links = Pool(
            lambda: open_link(make_connection()),
            options.max_connections,
            options.socket_timeout,
        )
        pool.on_stray = partial(self.leave, ELSEWHERE)
        return store_over(pool), store_over(TaskPool(pool))

    def _on_rotation(self, login: bytes) -> None:
        """Let every connection log in anew before it is used again."""
        if self.bus_links is not None:
            self.bus_links.login = login
        self._on_new_login()

    def _follow(self, location: Location, options: EngineOptions) -> None:
        from cachebridge.l2.redis.sentinels import Sentinels  # noqa: PLC0415 as above

        sentinels = Sentinels(location, options, on_made=self._connections.add)
        self._sentinels, self.find_master = sentinels, sentinels.master
        self._watch = MasterWatch(
            sentinels.moved,
            on_move=self._on_move,
            on_tick=self._on_tick,
            label=location.label,
        )

    def _use_memcached(
        self, location: Location, options: EngineOptions, breaker: Breaker
    ) -> None:
        try:
            # Here, because pymemcache is an extra.
            from cachebridge.l2.memcached.cluster import Cluster  # noqa: PLC0415
            from cachebridge.l2.memcached.store import MemcachedStore  # noqa: PLC0415
        except ImportError as exc:
            raise ConfigError(
                f"{location.label!r} needs pymemcache: "
                "pip install 'cachebridge[memcached]'."
            ) from exc
        self.bus_location = None
        self.has_bus = self.has_bus and options.bus_location is not None
        for_threads: MemcachedOutbox = _Silence()
        for_tasks = for_threads
        if self.has_bus:
            bus, options_of_bus = _parse_bus(options)
            self.bus_location = bus
            watcher = _BusWatcher(bus.label)
            self.switchboard, task_bus = self._redis(
                bus, options_of_bus, breaker.sibling(watcher)
            )
            self.outbox = self._make_outbox(self.switchboard)
            for_threads = self.outbox.over(self.switchboard)
            for_tasks = self.outbox.over(task_bus)
        cluster = self.cluster = Cluster(
            location,
            options,
            breaker=breaker,
            watch=self._watch_link,
            on_late_clear=self._on_late_clear,
            on_no_room=self._on_no_room,
        )
        self.threads = MemcachedStore(cluster, for_threads, cluster.clients)
        self.tasks = MemcachedStore(cluster, for_tasks, cluster.task_clients)

    def _watch_link(self, link: Link) -> Link:
        self._links.add(link)
        return link

    @property
    def bus_db(self) -> int:
        """The number of the database that names the channel."""
        return 0 if self.bus_location is None else self.bus_location.db

    @property
    def is_sharded(self) -> bool:
        """Whether the keys are on several servers."""
        return self.cluster is not None and len(self.cluster.nodes) > 1

    def server_of(self, key: str) -> int:
        """Return the number of the server that has the key."""
        return self.cluster.place_of(key).node if self.cluster is not None else 0

    def can_find(self, pattern: KeyPattern) -> bool:
        """Return whether exactly the keys of the pattern can be deleted."""
        return self.cluster is None or pattern.is_told_by_prefix

    def split(self, keys: Iterable[str]) -> list[list[str]]:
        """Group keys by their servers, which fail independently."""
        return [list(keys)] if self.cluster is None else self.cluster.split(keys)

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
        return () if self.cluster is None else tuple(self.cluster.away())

    def is_behind(self) -> bool:
        """Return whether messages or clears are owed, or a server is away."""
        return bool(self.outbox) or (
            self.cluster is not None and self.cluster.is_behind
        )

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

    def greet(self) -> tuple[str, Hello]:
        """Return the address of the bus's server, and what it says of itself.

        Both are empty if it does not answer; blocks.
        """
        if self.bus_links is None:
            return "", Hello()
        from redis.exceptions import RedisError  # noqa: PLC0415 late, as above

        try:
            link = self.bus_links.take_oldest() or self.bus_links.open()
            try:
                (reply,) = link.exchange(pack(b"HELLO"), 1)
                address = link.peer()
            except BaseException:
                link.close()
                raise
        except (RedisError, OSError):
            return "", Hello()
        self.bus_links.keep(link)
        return address, read_hello(reply)

    def renew_link(self) -> None:
        """See whether the address of the bus's server leads to another one by now."""
        from redis.exceptions import RedisError  # noqa: PLC0415 late, as above

        if self.bus_links is not None:
            with suppress(RedisError, OSError):  # the connections in use may work
                self.bus_links.renew()

    def close(self) -> None:
        """Catch up as far as possible, then close idle connections."""
        if self._watch is not None:
            self._watch.stop()
        if self.outbox:
            self.outbox.give_up()
        run(self.catch_up())
        for store in {self.threads, self.switchboard}:
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
        for store in {self.threads, self.switchboard}:
            if store is not None:
                store.forget()
        if self._logins is not None:
            self._logins.reset()
        if self._sentinels is not None:
            self._sentinels.forget()
        if self._watch is not None:
            self._watch.reset()
        for connection in tuple(self._connections):
            connection.disconnect()
        for link in tuple(self._links):
            link.close()


def _parse_bus(options: EngineOptions) -> tuple[Location, EngineOptions]:
    """Return the server of the messages, and the options for it."""
    try:
        # CLIENT_KWARGS are given for Memcached.
        parsed, options = resolve(
            options.bus_location, replace(options, client_kwargs={})
        )
    except ConfigError as exc:
        raise ConfigError(f"BUS_LOCATION: {exc}") from None
    if not parsed.is_redis:
        raise ConfigError(
            f"BUS_LOCATION {parsed.label!r} must be the URL of a Redis server: "
            "redis://, rediss://, redis+sentinel:// or unix://."
        )
    return parsed, options


class _BusWatcher:
    """Logs what happens to the server that messages are published on."""

    def __init__(self, label: str) -> None:
        self._label = label

    def on_open(self, reason: str, since: float) -> Callable[[], None]:  # noqa: ARG002
        """See ``BreakerWatcher``."""
        return partial(
            _log.warning, "%s takes no messages, they are owed: %s", self._label, reason
        )

    def on_close(self) -> Callable[[], None]:
        """See ``BreakerWatcher``."""
        return partial(_log.warning, "%s takes messages again", self._label)


class _Silence:
    """Publishes nothing: without a bus no message is made."""

    async def send(self, message: bytes) -> None:
        """Do nothing."""

    def doubt(self, message: bytes) -> None:
        """Do nothing."""
