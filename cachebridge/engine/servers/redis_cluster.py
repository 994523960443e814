"""A Redis Cluster as an engine uses it: a server for each master, and the map.

A slot that has moved is followed at once, and the map is asked for in the background.
L1 is trusted while each master of the map has a proven session, and no other node has
been sent a request: see ``bus/masters.py``.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from cachebridge.bus.master_watch import MasterWatch
from cachebridge.bus.settings import HOME
from cachebridge.engine.servers.redis_server import RedisServer
from cachebridge.l2.cluster.slots import (
    ASK_FOR_MAP,
    SLOTS,
    SlotMap,
    read_map,
    slot_of,
    tags,
)
from cachebridge.l2.cluster.store import ClusterStore
from cachebridge.l2.connections.group import ServerGroup
from cachebridge.l2.redis.commands import Request
from cachebridge.l2.redis.names import name_of
from cachebridge.waiting.io import TASKS, THREADS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cachebridge.config import EngineOptions
    from cachebridge.core.breaker import Breaker
    from cachebridge.engine.servers.redis_server import Hooks
    from cachebridge.l2.cluster.client import ClusterClient
    from cachebridge.l2.cluster.slots import Address
    from cachebridge.l2.cluster.store import Narrow
    from cachebridge.l2.location import Location
    from cachebridge.l2.redis.store import RedisStore
    from cachebridge.l2.two_steps import Outbox
    from cachebridge.waiting.io import IO

GUEST_S: Final = 2.0
"""How long a node outside of the map keeps L1 untrusted after a request to it."""


class RedisCluster:
    """All masters of one location.  Thread safe."""

    def __init__(
        self,
        location: Location,
        options: EngineOptions,
        breaker: Breaker,
        hooks: Hooks,
        *,
        narrow: Narrow,
        outboxes: tuple[Outbox | None, Outbox | None] = (None, None),
    ) -> None:
        """``outboxes``, for threads and for tasks, if another server takes messages."""
        self.location = location
        self._options = options
        self._hooks = hooks
        self._outboxes = outboxes
        self._group = ServerGroup(breaker)
        self._routers = _Router(self, THREADS), _Router(self, TASKS)
        self._watch = MasterWatch(
            self._ask_again,
            on_move=lambda _reason: None,
            on_tick=hooks.on_tick,
            label=location.label,
        )
        self.on_change: Callable[[str], None] = lambda _reason: None
        """Told of a reason before a node is used that no session has proven."""
        self.on_masters: Callable[[], None] = lambda: None
        """Told that there are others, after their map is in use."""
        self.on_leave: Callable[[RedisServer, str], None] = lambda _server, _reason: (
            None
        )
        """Told that a master is not the right one, with a reason."""
        self._lock = threading.Lock()
        """Held by the thread that changes the map."""
        self.map: SlotMap | None = None
        self._servers: dict[Address, RedisServer] = {}
        self._guests: dict[Address, float] = {}
        """Nodes that are not in the map, and until when they count."""
        self._slots: dict[RedisServer, int] = {}
        """A slot of each master, whose tag the keys of its session have."""
        self._seed = self._make_server(None, breaker)
        self._owners = [self._seed] * SLOTS
        self._masters: tuple[RedisServer, ...] = (self._seed,)
        if location.enforces_slots:
            self._use(SlotMap(0, True, {location.cluster[0]: ((0, SLOTS - 1),)}))
        self.threads = ClusterStore(
            self, side="threads", narrow=narrow, outbox=outboxes[0]
        )
        self.tasks = ClusterStore(self, side="tasks", narrow=narrow, outbox=outboxes[1])

    def _make_server(self, address: Address | None, breaker: Breaker) -> RedisServer:
        """Make the server at an address, or one that stands for any node."""
        location, find = replace(self.location, cluster=()), self._find_node
        if address is not None:
            host, port = address
            known = {**location.connection_kwargs, "host": host, "port": port}
            label = self._label(address)
            location = replace(location, connection_kwargs=known, label=label)

        def leave(reason: str) -> None:
            server.pool.leave()
            self._hooks.on_departure()
            self.on_leave(server, reason)
            self._watch.hurry()

        server = RedisServer(
            location,
            self._options,
            breaker,
            leave,
            self._hooks,
            on_new_login=self._hooks.on_new_login,
            outboxes=self._outboxes,
            routers=self._routers,
            find_node=find if address is None else None,
            on_connect=lambda: None if location.enforces_slots else self._watch.start(),
        )
        return server

    def _label(self, address: Address) -> str:
        host, port = address
        shown = f"[{host}]" if ":" in host else host
        return f"{self.location.scheme}://{shown}:{port}"

    # -- which master has what ---------------------------------------------------------

    def owner(self, slot: int) -> RedisServer:
        """Return the master that has the slot; some node if that is not known."""
        return self._owners[slot]

    def all(self) -> tuple[RedisServer, ...]:
        """Return the masters; before a map is known, what stands for any node."""
        return self._masters

    def split(self, keys: Iterable[str]) -> list[list[str]]:
        """Group keys by their masters, which fail independently."""
        shards: dict[RedisServer, list[str]] = {}
        for key in keys:
            shards.setdefault(self._owners[slot_of(name_of(key))], []).append(key)
        return list(shards.values())

    def labels(self) -> dict[str, int | None]:
        """Return the URLs of the masters, with the number of slots of each."""
        ranges = {} if self.map is None else self.map.ranges
        return {
            self._label(address): sum(
                last - first + 1 for first, last in ranges[address]
            )
            for address in ranges
        }

    def label_of(self, key: str) -> str:
        """Return the URL of the master that has the key, LOCATION if none is known."""
        return self._owners[slot_of(name_of(key))].location.label

    def number_of(self, key: str) -> int:
        """Return a number of the master that has the key."""
        return id(self._owners[slot_of(name_of(key))])

    def away(self) -> list[str]:
        """Name the masters that do not answer at the moment."""
        return [
            server.location.label
            for server in self._masters
            if server.threads.client.breaker.is_open
        ]

    @property
    def is_behind(self) -> bool:
        """Whether a master is away."""
        return bool(self.away())

    # -- the map -----------------------------------------------------------------------

    def _find_node(self) -> Address:
        """Ask for the map, and return the address of a master; blocks.

        Raises what connecting raises if no node answers.
        """
        found = self.refresh()
        return random.choice(list(found.ranges))  # noqa: S311 any will do

    def _ask_again(self) -> str:
        """Ask for the map, for the watch."""
        self.refresh()
        return ""

    def refresh(self) -> SlotMap:
        """Ask for the map, and use it; blocks.

        Raises what connecting raises if no node answers.  The map with the highest
        epoch counts: a node that was cut off does not know of a failover.
        """
        from redis.exceptions import RedisError  # noqa: PLC0415 late, as above

        if self.location.enforces_slots and self.map is not None:
            return self.map
        best: SlotMap | None = None
        failure: Exception = ConnectionError("no node of the cluster has slots")
        known = -1 if self.map is None else self.map.epoch
        for address in self._candidates():
            try:
                found = self._ask(address)
            except (RedisError, OSError) as exc:
                failure = exc
                continue
            if found.ranges and (best is None or found[:2] > best[:2]):
                best = found
            if best is not None and best.is_whole and best.epoch >= known:
                break
        if best is None:
            raise failure
        self._use(best)
        return best

    def _candidates(self) -> Iterator[Address]:
        """Yield nodes to ask: masters in any order, those that are away last."""
        servers = self._servers.copy()
        addresses = random.sample(list(servers), len(servers))
        addresses.sort(
            key=lambda address: servers[address].threads.client.breaker.failures > 0
        )
        yield from dict.fromkeys((*addresses, *self.location.cluster))

    def _ask(self, address: Address) -> SlotMap:
        server = self._server_at(address)
        link = server.pool.take_oldest() or server.pool.open()
        try:
            found = read_map(link.exchange(ASK_FOR_MAP, 2), address)
        except BaseException:
            link.close()
            raise
        server.pool.keep(link)
        return found

    async def look(self, side: Callable[[RedisServer], RedisStore]) -> None:
        """Ask a master for the map, as a caller of that side, and use one as new."""
        at, server = self.map, random.choice(self._masters)  # noqa: S311 any will do
        if at is None or self.location.enforces_slots:
            return
        known = server.location.connection_kwargs
        read = partial(read_map, asked=(known["host"], known["port"]))
        found = await side(server).client.run(Request(ASK_FOR_MAP, 2), read)
        if found.ranges and found[:2] >= at[:2]:
            self._use(found)

    def _server_at(self, address: Address) -> RedisServer:
        server = self._servers.get(address)
        if server is None:
            breaker = self._group.breaker_for(self._label(address))
            server = self._make_server(address, breaker)
            server = self._servers.setdefault(address, server)
        return server

    def _use(self, found: SlotMap) -> None:
        """Use a map from now on; L1 rests first if there are other masters."""
        with self._lock:
            now, old = time.monotonic(), self.map
            guests = {
                address: until
                for address, until in self._guests.items()
                if until > now and address not in found.ranges
            }
            is_same = old is not None and old.ranges == found.ranges
            if is_same and guests.keys() == self._guests.keys():
                self.map = found
                return
            masters = {address: self._server_at(address) for address in found.ranges}
            are_others = old is None or old.ranges.keys() != found.ranges.keys()
            if are_others:
                self.on_change("the cluster has other masters")
            owners = [self._seed] * SLOTS
            for address, ranges in found.ranges.items():
                for first, last in ranges:
                    owners[first : last + 1] = [masters[address]] * (last - first + 1)
            kept = {**masters, **{each: self._server_at(each) for each in guests}}
            gone = [s for s in self._servers.values() if s not in kept.values()]
            self._servers = kept
            self._guests = guests
            self.map, self._owners = found, owners
            self._masters = tuple(masters.values())
        self._group.set_members(map(self._label, masters))
        self._hooks.on_departure()
        for server in gone:
            server.pool.leave()
            server.stop()
        self.on_masters()

    def moved(self, slot: int, address: Address) -> RedisServer:
        """Note that a master has the slot now, and return it."""
        server = self.asked(address)
        self._owners[slot] = server
        self._watch.hurry()
        return server

    def asked(self, address: Address) -> RedisServer:
        """Return a node that is to be asked; one outside of the map ends trust."""
        server = self._server_at(address)
        if server not in self._masters:
            with self._lock:
                is_new = address not in self._guests
                self._guests[address] = time.monotonic() + GUEST_S
            if is_new:
                self.on_change("a node answers that is not in the map")
                self.on_masters()
            self._watch.hurry()
        return server

    # -- for the bus -------------------------------------------------------------------

    def sessions(self) -> dict[RedisServer, bytes]:
        """Return the masters that need a session, each with a hash tag it has.

        One of them has the tag that the whole fleet knows.
        """
        owners, slots = self._owners, {}
        for server in self._masters if self.map is not None else ():
            slot = self._slots.get(server, slot_of(HOME))
            if owners[slot] is not server:
                held = [at for at, owner in enumerate(owners) if owner is server]
                slot = random.choice(held or [slot])  # noqa: S311 any will do
            slots[server] = slot
        self._slots = slots
        home = owners[slot_of(HOME)]
        return {
            server: HOME if server is home else tags()[slot]
            for server, slot in slots.items()
        }

    def has_guests(self) -> bool:
        """Return whether a node is in use that has no session."""
        return bool(self._guests)

    # -- the end, and forks ------------------------------------------------------------

    @property
    def servers(self) -> tuple[RedisServer, ...]:
        """Return every node that may have connections."""
        return (*self._servers.copy().values(), self._seed)

    def close(self) -> None:
        """Close idle connections."""
        self._watch.stop()
        for server in self.servers:
            server.threads.close()

    def forget(self) -> None:
        """Begin anew in the child of a fork, with connections of its own."""
        self._lock = threading.Lock()
        self._watch.reset()
        self.on_change = lambda _reason: None
        self.on_masters = lambda: None
        self.on_leave = lambda _server, _reason: None
        for server in self.servers:
            server.threads.forget()
            server.forget()
        self._group.reset()


class _Router:
    """See ``Router``; for threads or for tasks."""

    def __init__(self, cluster: RedisCluster, io: IO) -> None:
        self._cluster = cluster
        self.io = io
        self.patience_s = cluster._options.socket_timeout  # noqa: SLF001 its own

    def _client(self, server: RedisServer) -> ClusterClient:
        store = server.threads if self.io is THREADS else server.tasks
        return store.client  # type: ignore[return-value] # a node's is one

    def at(self, slot: int) -> ClusterClient:
        """Return the client of the master that has the slot."""
        return self._client(self._cluster.owner(slot))

    def moved(self, slot: int, address: Address) -> ClusterClient:
        """Return that of the master which has the slot now."""
        return self._client(self._cluster.moved(slot, address))

    def asked(self, address: Address) -> ClusterClient:
        """Return that of a node which is being given a slot."""
        return self._client(self._cluster.asked(address))
