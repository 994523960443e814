"""The servers: which one has a key, the connections to each, and which are away.

If a server is away, so are its keys: no other server takes them over, because old
values would come back with it.  Rendezvous hashing, by pymemcache, places keys where
Django's PyMemcacheCache does; when a server joins or leaves, only its own share moves.

Source: D. Thaler and C. Ravishankar, Using name-based mappings to increase hit rates,
IEEE/ACM Transactions on Networking 6(1), 1998.
"""

from __future__ import annotations

import itertools
import logging
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from pymemcache.client.rendezvous import RendezvousHash

from cachebridge.events import event
from cachebridge.l2.connections.client import Client
from cachebridge.l2.connections.group import ServerGroup
from cachebridge.l2.connections.pool import Pool
from cachebridge.l2.connections.task_pool import TaskPool
from cachebridge.l2.memcached.link import check_client_kwargs, open_link
from cachebridge.l2.memcached.names import MAX_BYTES, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cachebridge.config import EngineOptions
    from cachebridge.core.breaker import Breaker
    from cachebridge.l2.connections.link import Link
    from cachebridge.l2.location import Address, Location
    from cachebridge.l2.memcached.clears import Clears

_log = logging.getLogger("cachebridge.l2")

MAX_PLACES: Final = 50_000
PATIENCE: Final = 3


class _Ring(Protocol):
    """The part of pymemcache's class that it does not annotate."""

    def get_node(self, key: str) -> str:
        """Return the name of the server that has the key."""


class Place(NamedTuple):
    """Where a key's item is, and under which name."""

    key: str
    name: bytes
    is_hashed: bool
    node: int


class Node:
    """One server, with a client for threads and one for tasks on the same breaker."""

    def __init__(self, pool: Pool, *, label: str, breaker: Breaker) -> None:
        self.label = label
        self.breaker = breaker
        self.client = Client(pool, label=label, breaker=breaker)
        self.task_client = Client(TaskPool(pool), label=label, breaker=breaker)
        self.clears: Clears | None = None
        """What has been cleared, as of the last answer."""
        self.seen_at = float("-inf")
        """When a request was sent, the last that was answered by this list of clears;
        monotonic seconds."""
        self.renewed_at = float("-inf")
        """No value in the server is older; monotonic seconds."""
        self.is_silent = False
        """Whether it did not answer the last ping."""
        self.owed_clears: dict[str, int] = {}
        """Prefixes that were cleared while it was away, with the clear's number."""
        self._times = itertools.count(1).__next__

    def owe_clear(self, prefix: str) -> None:
        """Clear the server before it is used again."""
        self.owed_clears[prefix] = self._times()

    def is_paid(self, prefix: str, time: int) -> bool:
        """Note that it was cleared; return False if it has to be cleared again."""
        if self.owed_clears.get(prefix) != time:
            return False
        del self.owed_clears[prefix]
        return True


class Cluster:
    """All servers of a location.  Thread safe."""

    def __init__(
        self,
        location: Location,
        options: EngineOptions,
        *,
        breaker: Breaker,
        watch: Callable[[Link], Link] = lambda link: link,
        on_late_clear: Callable[[str], None] = lambda _prefix: None,
        on_no_room: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_late_clear`` is called with each prefix that was cleared late.

        ``on_no_room`` is called for each value that was too large.
        """
        check_client_kwargs(options.client_kwargs)
        self.label = location.label
        self.patience_s = PATIENCE * options.socket_timeout
        """How long a call repeats what other clients have interfered with."""
        self.on_late_clear = on_late_clear
        self.on_no_room = on_no_room
        self._breaker = breaker
        self._group = ServerGroup(breaker)
        self.nodes = [
            self._make_node(address, options, watch, alone=len(location.servers) == 1)
            for address in location.servers
        ]
        if len(self.nodes) > 1:
            self._group.set_members(node.label for node in self.nodes)
        self.clients = [node.client for node in self.nodes]
        self.task_clients = [node.task_client for node in self.nodes]
        self._numbers = {
            address.name: number for number, address in enumerate(location.servers)
        }
        self._ring: _Ring = RendezvousHash(list(self._numbers))  # type: ignore[no-untyped-call]
        self._places: dict[str, Place] = {}

    def _make_node(
        self,
        address: Address,
        options: EngineOptions,
        watch: Callable[[Link], Link],
        *,
        alone: bool,
    ) -> Node:
        make = partial(open_link, address, options)
        pool = Pool(
            lambda: watch(make()), options.max_connections, options.socket_timeout
        )
        label = f"memcached://{address.name}"
        breaker = self._breaker
        if not alone:
            breaker = self._group.breaker_for(label)
        return Node(pool, label=label, breaker=breaker)

    def place_of(self, key: str) -> Place:
        """Return where the item of a key is."""
        if len(self.nodes) == 1:
            return Place(key, *name_of(key), 0)
        place = self._places.get(key)
        if place is None:
            name, is_hashed = name_of(key)
            # As pymemcache's HashClient places keys, which it has as text.
            text = name.decode("utf-8", "surrogatepass")
            number = self._numbers[self._ring.get_node(text)]
            place = Place(key, name, is_hashed, number)
            if len(self._places) >= MAX_PLACES:
                self._places.clear()
            if len(key) <= MAX_BYTES:
                self._places[key] = place
        return place

    def labels(self) -> dict[str, int | None]:
        """Return the URLs of all servers; none has slots."""
        return dict.fromkeys(node.label for node in self.nodes)

    def label_of(self, key: str) -> str:
        """Return the URL of the server that has the key."""
        return self.nodes[self.place_of(key).node].label

    def number_of(self, key: str) -> int:
        """Return the number of the server that has the key."""
        return self.place_of(key).node

    def split(self, keys: Iterable[str]) -> list[list[str]]:
        """Group keys by their servers."""
        if len(self.nodes) == 1:
            return [list(keys)]
        shards: dict[int, list[str]] = {}
        for key in keys:
            shards.setdefault(self.place_of(key).node, []).append(key)
        return list(shards.values())

    def away(self) -> list[str]:
        """Name the servers that do not answer at the moment."""
        return [
            node.label for node in self.nodes if node.breaker.is_open or node.is_silent
        ]

    @property
    def is_behind(self) -> bool:
        """Whether a server is away, or has to be cleared when it is back."""
        return any(node.breaker.is_open or node.owed_clears for node in self.nodes)

    def owe_clear(self, keys: Iterable[str], prefix: str) -> None:
        """Clear the servers of these keys before they are used again."""
        for shard in self.split(keys):
            self.nodes[self.place_of(shard[0]).node].owe_clear(prefix)

    def clears_owed(self) -> int:
        """Count the clears that are owed to single servers."""
        return sum(len(node.owed_clears) for node in self.nodes)

    def close(self) -> None:
        """Close idle connections."""
        for node in self.nodes:
            node.client.close()
            if node.owed_clears:
                _log.error(
                    "%s was not cleared: it may keep old values of %s",
                    node.label,
                    ", ".join(repr(prefix) for prefix in node.owed_clears),
                    extra=event("clear.lost", location=node.label),
                )

    def forget(self) -> None:
        """Begin anew in the child of a fork, with connections of its own."""
        self._group.reset()
        for node in self.nodes:
            node.client.forget()
            node.owed_clears.clear()
            node.is_silent = False
