"""One Redis or Valkey as an engine uses it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakSet

from cachebridge.bus.master_watch import MasterWatch
from cachebridge.bus.settings import ELSEWHERE, channels_of
from cachebridge.l2.factory import connection_factory
from cachebridge.l2.logins import Logins
from cachebridge.resp import Hello, pack, read_hello

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.connection import Connection

    from cachebridge.config import EngineOptions
    from cachebridge.core.breaker import Breaker
    from cachebridge.l2.cluster.client import Router
    from cachebridge.l2.connections.pool import Links
    from cachebridge.l2.location import Location
    from cachebridge.l2.redis.client import RedisClient
    from cachebridge.l2.redis.names import Names
    from cachebridge.l2.redis.near import NearClient
    from cachebridge.l2.redis.sentinels import Sentinels
    from cachebridge.l2.redis.store import RedisStore
    from cachebridge.l2.two_steps import Outbox


@dataclass(frozen=True, slots=True)
class Hooks:
    """What an engine is told of its servers, by any thread."""

    clock: Callable[[], float]
    leave: Callable[[str], None]
    """With a reason: the server of the bus turns out to be the wrong one."""
    on_departure: Callable[[], None]
    """The server of the keys is left for another, while that of the bus stays."""
    on_alive: Callable[[], None]
    """A server may answer again."""
    on_tick: Callable[[], None]
    """Twice a second, where sentinels are asked."""
    on_new_login: Callable[[], None]
    """The credentials for the server of the bus have changed."""
    on_late_clear: Callable[[str], None]
    on_no_room: Callable[[], None]
    is_connected: Callable[[], bool]
    """Returns whether a session of the bus hears all messages."""
    proven: Callable[[], float]
    """Returns when the last heartbeat was sent that has come back, by the engine's
    clock; minus infinity while L1 may not answer."""


class RedisServer:
    """One Redis or Valkey: its stores for threads and for tasks, and connections."""

    find_master: Callable[[], tuple[str, int]] | None = None
    """Asks sentinels for the address of the server, if they know it."""
    _sentinels: Sentinels | None = None
    _watch: MasterWatch | None = None
    _logins: Logins | None = None

    def __init__(
        self,
        location: Location,
        options: EngineOptions,
        breaker: Breaker,
        leave: Callable[[str], None],
        hooks: Hooks,
        *,
        on_new_login: Callable[[], None] = lambda: None,
        outboxes: tuple[Outbox | None, Outbox | None] = (None, None),
        routers: tuple[Router, Router] | None = None,
        find_node: Callable[[], tuple[str, int]] | None = None,
        on_connect: Callable[[], None] = lambda: None,
        near: Callable[[RedisClient, bool], NearClient] | None = None,
    ) -> None:
        """``leave`` is called with a reason if the server turns out to be wrong.

        ``on_new_login`` is called when the credentials have changed, by any thread.
        ``outboxes``, for threads and for tasks, if another server takes the messages.
        For a node of a cluster ``routers`` know the others; ``find_node`` returns the
        address, if the location has none; ``on_connect`` is called before each opening.
        ``near`` lets a client, for threads if True, read from a replica.
        """
        # Here, because redis-py takes longer to import than everything else.
        from cachebridge.l2.connections.pool import Pool  # noqa: PLC0415
        from cachebridge.l2.connections.task_pool import TaskPool  # noqa: PLC0415
        from cachebridge.l2.redis.client import RedisClient, open_link  # noqa: PLC0415
        from cachebridge.l2.redis.names import PLAIN  # noqa: PLC0415
        from cachebridge.l2.redis.store import RedisStore  # noqa: PLC0415

        self.location, self.options, self.leave = location, options, leave
        self._on_new_login = on_new_login
        self._connections: WeakSet[Connection] = WeakSet()
        self.find_master = find_node
        if location.sentinel is not None:
            self._follow(hooks)
        if options.credential_provider is not None and not isinstance(
            options.credential_provider, Logins
        ):  # else it is that of all nodes of a cluster
            logins = self._logins = Logins(
                options.credential_provider, location.label, self._on_rotation
            )
            options = replace(options, credential_provider=logins)
        make = connection_factory(location, options, self.find_master)

        def make_connection() -> Connection:
            made = make()
            on_connect()
            self._connections.add(made)
            if self._watch is not None:
                self._watch.start()
            return made

        def store_over(
            links: Links, outbox: Outbox | None, router: Router | None
        ) -> RedisStore:
            make_client: Callable[..., RedisClient] = RedisClient
            names: Names = PLAIN
            if router is not None:
                from cachebridge.l2.cluster.client import ClusterClient  # noqa: PLC0415
                from cachebridge.l2.cluster.names import SLOT_NAMES  # noqa: PLC0415

                host = str(location.connection_kwargs.get("host", "localhost"))
                make_client = partial(ClusterClient, router=router, host=host)
                names = SLOT_NAMES
            client = make_client(
                links, label=location.label, breaker=breaker, leave=leave
            )
            return RedisStore(
                client if near is None else near(client, links is pool),
                channel=channels_of(location.db, b"").shared,
                outbox=outbox,
                names=names,
            )

        self.make_connection = make_connection
        pool = self.pool = Pool(
            lambda: open_link(make_connection()),
            options.max_connections,
            options.socket_timeout,
        )
        pool.on_stray = partial(leave, ELSEWHERE)
        ways = routers or (None, None)
        self.threads = store_over(pool, outboxes[0], ways[0])
        self.tasks = store_over(TaskPool(pool), outboxes[1], ways[1])

    def _on_rotation(self, login: bytes) -> None:
        """Let every connection log in anew before it is used again."""
        self.pool.login = login
        self._on_new_login()

    def _follow(self, hooks: Hooks) -> None:
        from cachebridge.l2.redis.sentinels import Sentinels  # noqa: PLC0415 as above

        def on_move(reason: str) -> None:
            self.leave(reason)
            hooks.on_alive()  # the new master may answer at once

        sentinels = Sentinels(
            self.location, self.options, on_made=self._connections.add
        )

        def moved() -> str:
            names = ", ".join(f"{host}:{port}" for host, port in sentinels.moved())
            return names and f"the sentinels name another master than {names}"

        self._sentinels, self.find_master = sentinels, sentinels.master
        self._watch = MasterWatch(
            moved,
            on_move=on_move,
            on_tick=hooks.on_tick,
            label=self.location.label,
        )

    def greet(self) -> tuple[str, Hello]:
        """Return the server's address, and what it says of itself.

        Both are empty if it does not answer; blocks.
        """
        from redis.exceptions import RedisError  # noqa: PLC0415 late, as above

        try:
            link = self.pool.take_oldest() or self.pool.open()
            try:
                (reply,) = link.exchange(pack(b"HELLO"), 1)
                address = link.peer()
            except BaseException:
                link.close()
                raise
        except (RedisError, OSError):
            return "", Hello()
        self.pool.keep(link)
        return address, read_hello(reply)

    def renew_link(self) -> None:
        """See whether the address leads to another server by now."""
        from redis.exceptions import RedisError  # noqa: PLC0415 late, as above

        with suppress(RedisError, OSError):  # the connections in use may work
            self.pool.renew()

    def stop(self) -> None:
        """Stop watching for failovers."""
        if self._watch is not None:
            self._watch.stop()

    def forget(self) -> None:
        """Close the copies of the parent's connections in the child of a fork."""
        if self._logins is not None:
            self._logins.reset()
        if self._sentinels is not None:
            self._sentinels.forget()
        if self._watch is not None:
            self._watch.reset()
        for connection in tuple(self._connections):
            connection.disconnect()
