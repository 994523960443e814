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
from cachebridge.engine.servers.map_search import find_map
from cachebridge.engine.servers.node_router import NodeRouter
from cachebridge.engine.servers.redis_server import RedisServer
from cachebridge.engine.servers.session_tags import SessionTags
from cachebridge.l2.cluster.slots import (
    ASK_FOR_MAP,
    SLOTS,
    SlotMap,
    read_map,
    slot_of,
)
from cachebridge.l2.cluster.store import ClusterStore
from cachebridge.l2.connections.group import ServerGroup
from cachebridge.l2.logins import Logins
from cachebridge.l2.redis.commands import Request
from cachebridge.l2.redis.names import name_of
from cachebridge.waiting.io import TASKS, THREADS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cachebridge.config import EngineOptions
    from cachebridge.core.breaker import Breaker
    from cachebridge.engine.servers.redis_server import Hooks
    from cachebridge.l2.cluster.slots import Address
    from cachebridge.l2.cluster.store import Narrow
    from cachebridge.l2.location import Location
    from cachebridge.l2.redis.store import RedisStore
    from cachebridge.l2.two_steps import Outbox

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
        self.patience_s = options.socket_timeout
        self._routers = NodeRouter(self, THREADS), NodeRouter(self, TASKS)
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
        """Held while the map or the servers change."""
        self.map: SlotMap | None = None
        self._servers: dict[Address, RedisServer] = {}
        self._guests: dict[Address, float] = {}
        """Nodes that are not in the map, and until when they count."""
        self._random = random.Random()  # noqa: S311 users seed the shared one
        self._tags: SessionTags[RedisServer] = SessionTags(self._random)
        self._silent: set[Address] = set()
        """Nodes that have not said what they know of the map: they are asked last."""
        self._is_overruled = False
        """Whether a node has told of a slot that has moved since the map was made."""
        self.changes = 0
        """How often the masters have become others."""
        self._logins: Logins | None = None
        if options.credential_provider is not None:
            self._logins = Logins(
                options.credential_provider, location.label, self._on_rotation
            )
            self._options = replace(options, credential_provider=self._logins)
        self._seed = self._make_server(None, breaker)
        self._owners = [self._seed] * SLOTS
        self._masters: tuple[RedisServer, ...] = (self._seed,)
        if location.enforces_slots:
            known = SlotMap(0, True, {location.cluster[0]: ((0, SLOTS - 1),)})
            self._use(known)
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
            outboxes=self._outboxes,
            routers=self._routers,
            find_node=find if address is None else None,
            on_connect=lambda: None if location.enforces_slots else self._watch.start(),
        )
        return server

    def _on_rotation(self, login: bytes) -> None:
        """Let the connections to every node log in anew before they are used again."""
        for server in self.servers:
            server.pool.login = login
        self._hooks.on_new_login()

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
        masters = [(each.location.label, each.threads.client) for each in self._masters]
        return [label for label, client in masters if client.breaker.is_open]

    @property
    def is_behind(self) -> bool:
        """Whether a master is away."""
        return bool(self.away())

    # -- the map -----------------------------------------------------------------------

    def _find_node(self) -> Address:
        """Return the address of a master; blocks until there is a map.

        Raises what connecting raises if no node answers.
        """
        found = self.map or self.refresh()
        return self._random.choice(list(found.ranges))

    def _ask_again(self) -> str:
        self.refresh()
        return ""

    def refresh(self) -> SlotMap:
        """Ask for the map, use it, and return the one in use; blocks.

        Raises what connecting raises if no node answers.
        """
        before = self.map
        if self.location.enforces_slots and before is not None:
            return before
        known = -1 if before is None else before.epoch
        found = find_map(self._candidates(), self._ask, self._silent, known)
        return self._use(found, before)

    def _candidates(self) -> list[Address]:
        """Return the nodes to ask: masters in any order, those that are away last."""
        servers = self._servers.copy()

        def is_away(address: Address) -> bool:
            known = servers.get(address)
            return address in self._silent or (
                known is not None and known.threads.client.breaker.failures > 0
            )

        addresses = self._random.sample(list(servers), len(servers))
        return sorted(dict.fromkeys((*addresses, *self.location.cluster)), key=is_away)

    def _ask(self, address: Address) -> SlotMap:
        with self._lock:
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
        at, server = self.map, self._random.choice(self._masters)
        if at is None or self.location.enforces_slots:
            return
        known = server.location.connection_kwargs
        read = partial(read_map, asked=(known["host"], known["port"]))
        found = await side(server).client.run(Request(ASK_FOR_MAP, 2), read)
        if found.ranges and found[:2] >= at[:2]:
            self._use(found, at)

    def _server_at(self, address: Address) -> RedisServer:
        """Return the server at an address, made if need be; under the lock."""
        server = self._servers.get(address)
        if server is None:
            breaker = self._group.breaker_for(self._label(address))
            server = self._servers[address] = self._make_server(address, breaker)
        return server

    def _use(self, found: SlotMap, before: SlotMap | None = None) -> SlotMap:
        """Use a map from now on; return the one in use.

        L1 rests first if there are other masters.  ``before`` is the map that was in
        use when this one was asked for.
        """
        with self._lock:
            old = self.map
            if old is not None and found.epoch < old.epoch:
                # Another thread has found a newer one meanwhile, or a node was asked
                # that is cut off from the others.
                is_old = old is not before or not found.is_whole
                found = old if is_old else found
            gone = self._replace_by(found)
        # Also if nothing has changed: what follows may have been interrupted.
        self._group.set_members(
            [server.location.label for server in self._masters], self.away()
        )
        self.on_masters()
        for server in gone:
            server.pool.leave()
            server.stop()
        return found

    def _replace_by(self, found: SlotMap) -> list[RedisServer]:
        """Replace the map; return the servers that have left.  Under the lock."""
        now, old = time.monotonic(), self.map
        guests = {
            address: until
            for address, until in self._guests.items()
            if until > now and address not in found.ranges
        }
        is_same = old is not None and old.ranges == found.ranges
        if is_same and guests.keys() == self._guests.keys() and not self._is_overruled:
            self.map = found
            return []
        masters = {address: self._server_at(address) for address in found.ranges}
        if old is None or old.ranges.keys() != found.ranges.keys():
            self.on_change("the cluster has other masters")
        owners = [self._seed] * SLOTS
        for address, ranges in found.ranges.items():
            for first, last in ranges:
                owners[first : last + 1] = [masters[address]] * (last - first + 1)
        kept = {**masters, **{each: self._server_at(each) for each in guests}}
        gone = [server for at, server in self._servers.items() if at not in kept]
        self._servers, self._guests, self._is_overruled = kept, guests, False
        self._silent &= {*kept, *self.location.cluster}
        self.map, self._owners = found, owners
        if self._masters != (now_masters := tuple(masters.values())):
            self._masters = now_masters
            self.changes += 1
        self._hooks.on_departure()
        return gone

    def moved(self, slot: int, address: Address) -> RedisServer:
        """Note that a master has the slot now, and return it."""
        server = self.asked(address)
        with self._lock:
            if self._owners[slot] is not server:
                self._owners[slot], self._is_overruled = server, True
        self._watch.hurry()
        return server

    def asked(self, address: Address) -> RedisServer:
        """Return a node that is to be asked; one outside of the map ends trust."""
        with self._lock:
            server = self._server_at(address)
            is_guest = server not in self._masters
            is_new = is_guest and address not in self._guests
            if is_new:
                self.on_change("a node answers that is not in the map")
            if is_guest:
                self._guests[address] = time.monotonic() + GUEST_S
        if is_new:
            self.on_masters()
        if is_guest:
            self._watch.hurry()
        return server

    # -- for the bus -------------------------------------------------------------------

    def watch(self) -> None:
        """Ask for the map from now on, though no connection has been opened yet."""
        if not self.location.enforces_slots:
            self._watch.start()
            self._watch.hurry()

    def sessions(self) -> dict[RedisServer, bytes]:
        """Return the masters that need a session, each with a hash tag it has.

        One of them has the tag that the whole fleet knows.
        """
        with self._lock:
            masters = () if self.map is None else self._masters
            return self._tags.of(masters, self._owners)

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
        self._random.seed()
        if self._logins is not None:
            self._logins.reset()
        self._watch.reset()
        self.on_change = lambda _reason: None
        self.on_masters = lambda: None
        self.on_leave = lambda _server, _reason: None
        for server in self.servers:
            server.threads.forget()
            server.forget()
        self._group.reset()
