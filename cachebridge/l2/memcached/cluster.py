"""The servers: which one has a key, the connections to each, and who is away.

A server that is away takes its keys along; no other takes them over, lest old values
come back with it.  Rendezvous hashing, by pymemcache, places keys where Django's
PyMemcacheCache does; when a server joins or leaves, only its own share moves.

Source: D. Thaler and C. Ravishankar, Using name-based mappings to increase hit rates,
IEEE/ACM Transactions on Networking 6(1), 1998.
"""

from __future__ import annotations

import logging
import threading
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
    from typing import TypeAlias

    from cachebridge.config import EngineOptions
    from cachebridge.core.breaker import Breaker
    from cachebridge.l2.location import Address, Location
    from cachebridge.l2.memcached.clears import Clears
    from cachebridge.l2.pool import Link

    Report: TypeAlias = Callable[[], None]

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
        on_late_clear: Callable[[str], None] = lambda _prefix: None,
        on_no_room: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_late_clear`` hears of the prefixes of clears that were owed.

        ``on_no_room`` hears of each value that was too large.
        """
        check_client_kwargs(options.client_kwargs)
        self.label = location.label
        self.on_late_clear = on_late_clear
        self.on_no_room = on_no_room
        self._breaker = breaker
        """Open while no server answers."""
        self._lock = threading.Lock()
        self._away: set[str] = set()
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

    def on_node_away(self, label: str, reason: str) -> Report | None:
        """A server has gone; without any left there is an outage."""
        with self._lock:
            self._away.add(label)
            is_last = len(self._away) == len(self.nodes)
            return self._breaker.trip(reason) if is_last else None

    def on_node_back(self, label: str) -> Report | None:
        """A server has answered again: whatever else, L2 is there."""
        with self._lock:
            self._away.discard(label)
            return self._breaker.close()

    def owe_clear(self, keys: Iterable[str], prefix: str) -> None:
        """Clear the servers of these keys before they are used again."""
        for shard in self.split(keys):
            number = self.number_of(name_of(shard[0])[0])
            self.nodes[number].owed_clears[prefix] = None

    def clears_owed(self) -> int:
        """Count the clears that are owed to single servers."""
        return sum(len(node.owed_clears) for node in self.nodes)

    def close(self) -> None:
        """Close idle connections."""
        for node in self.nodes:
            node.carrier.close()
            if node.owed_clears:
                _log.error(
                    "%s was not cleared: it may keep old values of %s",
                    node.label,
                    ", ".join(repr(prefix) for prefix in node.owed_clears),
                )

    def forget(self) -> None:
        """Begin anew in the child of a fork, with connections of its own."""
        self._lock = threading.Lock()
        self._away.clear()
        self._breaker.reset()
        for node in self.nodes:
            node.carrier.forget()
            node.owed_clears.clear()
            node.is_silent = False


class _NodeWatcher:
    """Logs what happens to one server of several, and tells the cluster."""

    def __init__(self, cluster: Cluster, label: str) -> None:
        self._cluster = cluster
        self._label = label

    def on_open(self, reason: str) -> Report:
        """See ``BreakerWatcher``."""
        report = self._cluster.on_node_away(self._label, reason)
        text = "%s is away, its keys are degraded: %s"
        return partial(_say, report, text, self._label, reason)

    def on_close(self) -> Report:
        """See ``BreakerWatcher``."""
        report = self._cluster.on_node_back(self._label)
        return partial(_say, report, "%s is back", self._label)


def _say(report: Report | None, text: str, *args: str) -> None:
    """Log, now that nothing is locked, and let others do so."""
    _log.warning(text, *args)
    if report is not None:
        report()
