"""The servers: which one has a key, the connections to each, and who is away.

A server that is away takes its keys along; no other takes them over, lest old values
come back with it.  Rendezvous hashing, by pymemcache, places keys where Django's
PyMemcacheCache does; when a server joins or leaves, only its own share moves.

Source: D. Thaler and C. Ravishankar, Using name-based mappings to increase hit rates,
IEEE/ACM Transactions on Networking 6(1), 1998.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from pymemcache.client.rendezvous import RendezvousHash

from cachebridge.errors import L2Error
from cachebridge.l2.acarrier import AsyncCarrier
from cachebridge.l2.carrier import Carrier
from cachebridge.l2.commands import Request
from cachebridge.l2.memcached import protocol
from cachebridge.l2.memcached.link import check_client_kwargs, open_link
from cachebridge.l2.memcached.names import name_of
from cachebridge.l2.pool import Pool
from cachebridge.l2.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cachebridge.config import EngineOptions
    from cachebridge.core.breaker import Breaker
    from cachebridge.l2.location import Address, Location
    from cachebridge.l2.memcached.clears import Clears
    from cachebridge.l2.pool import Link

_log = logging.getLogger("cachebridge.l2")

MAX_PLACES: Final = 50_000


class _Ring(Protocol):
    """What pymemcache does not annotate."""

    def get_node(self, key: str) -> str:
        """Return the name of the server that has the key."""


class Node:
    """One server, with a client for threads and one for tasks."""

    def __init__(self, pool: Pool, *, label: str, breaker: Breaker) -> None:
        self.label = label
        self.breaker = breaker
        server = Server(pool, label=label, breaker=breaker)
        self.carrier = Carrier(server)
        self.async_carrier = AsyncCarrier(server)
        self.clears: Clears | None = None
        """What has been cleared, as of the last answer."""
        self.is_silent = False
        """Whether it has not answered the last ping."""
        self.owed_clears: dict[str, None] = {}
        """Prefixes that were cleared while it was away."""


class Cluster:
    """All servers of a location.  Thread safe."""

    def __init__(
        self,
        location: Location,
        options: EngineOptions,
        *,
        breaker: Breaker,
        watch: Callable[[Link], Link] = lambda link: link,
    ) -> None:
        check_client_kwargs(options.client_kwargs)
        self.label = location.label
        self._breaker = breaker
        """Open while no server answers."""
        self.nodes = [
            self._make_node(address, options, watch, alone=len(location.servers) == 1)
            for address in location.servers
        ]
        self._numbers = {
            address.name: number for number, address in enumerate(location.servers)
        }
        self._ring: _Ring = RendezvousHash(list(self._numbers))  # type: ignore[no-untyped-call]
        self._places: dict[bytes, int] = {}

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
            breaker = breaker.sibling(_NodeWatcher(self, label))
        return Node(pool, label=label, breaker=breaker)

    def number_of(self, name: bytes) -> int:
        """Return which server has the item of that name."""
        if len(self.nodes) == 1:
            return 0
        number = self._places.get(name)
        if number is None:
            # As pymemcache's HashClient places keys, which it has as text.
            text = name.decode("utf-8", "surrogatepass")
            number = self._numbers[self._ring.get_node(text)]
            if len(self._places) >= MAX_PLACES:
                self._places.clear()
            self._places[name] = number
        return number

    def split(self, keys: Iterable[str]) -> list[list[str]]:
        """Sort keys by their servers."""
        if len(self.nodes) == 1:
            return [list(keys)]
        shards: dict[int, list[str]] = {}
        for key in keys:
            shards.setdefault(self.number_of(name_of(key)[0]), []).append(key)
        return list(shards.values())

    def ping(self) -> None:
        """Ask every server; raises L2UnavailableError if none answers."""
        failures: list[L2Error] = []
        for node in self.nodes:
            node.is_silent = False
            try:
                node.carrier.run(Request(protocol.PING), is_probe=True)
            except L2Error as exc:
                node.is_silent = True
                failures.append(exc)
        if len(failures) == len(self.nodes):
            raise failures[0]

    def away(self) -> list[str]:
        """Name the servers that do not answer at the moment."""
        return [
            node.label for node in self.nodes if node.breaker.is_open or node.is_silent
        ]

    @property
    def is_behind(self) -> bool:
        """Whether a server is away, or has to be cleared when it is back."""
        return any(node.breaker.is_open or node.owed_clears for node in self.nodes)

    def on_node_away(self, reason: str) -> None:
        """A server has gone; without any left there is an outage."""
        if all(node.breaker.is_open for node in self.nodes):
            self._breaker.trip(reason)

    def on_node_back(self) -> None:
        """A server has answered again: whatever else, L2 is there."""
        self._breaker.succeed()


class _NodeWatcher:
    """Logs what happens to one server of several, and tells the cluster."""

    def __init__(self, cluster: Cluster, label: str) -> None:
        self._cluster = cluster
        self._label = label

    def on_open(self, reason: str) -> Callable[[], None]:
        """See ``BreakerWatcher``."""

        def report() -> None:
            _log.warning("%s is away, its keys are degraded: %s", self._label, reason)
            self._cluster.on_node_away(reason)

        return report

    def on_close(self) -> Callable[[], None]:
        """See ``BreakerWatcher``."""
        self._cluster.on_node_back()
        return partial(_log.warning, "%s is back", self._label)
