"""From a slot, or a node that a reply has named, to the client that asks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from cachebridge.waiting.io import THREADS

if TYPE_CHECKING:
    from cachebridge.engine.servers.redis_server import RedisServer
    from cachebridge.l2.cluster.client import ClusterClient
    from cachebridge.l2.cluster.slots import Address
    from cachebridge.waiting.io import IO


class Nodes(Protocol):
    """The nodes of a cluster."""

    patience_s: float
    """How long a request is repeated while its slot is under way."""

    def owner(self, slot: int) -> RedisServer:
        """Return the master that has the slot; some node if that is not known."""

    def moved(self, slot: int, address: Address) -> RedisServer:
        """Note that a master has the slot now, and return it."""

    def asked(self, address: Address) -> RedisServer:
        """Return a node that is to be asked."""


class NodeRouter:
    """See ``Router``; for threads or for tasks."""

    def __init__(self, nodes: Nodes, io: IO) -> None:
        self._nodes = nodes
        self.io = io
        self.patience_s = nodes.patience_s

    def _client(self, server: RedisServer) -> ClusterClient:
        store = server.threads if self.io is THREADS else server.tasks
        return store.client  # type: ignore[return-value] # a node's is one

    def at(self, slot: int) -> ClusterClient:
        """Return the client of the master that has the slot."""
        return self._client(self._nodes.owner(slot))

    def moved(self, slot: int, address: Address) -> ClusterClient:
        """Return that of the master which has the slot now."""
        return self._client(self._nodes.moved(slot, address))

    def asked(self, address: Address) -> ClusterClient:
        """Return that of a node which is being given a slot."""
        return self._client(self._nodes.asked(address))
