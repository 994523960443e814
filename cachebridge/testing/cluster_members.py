"""The nodes of a private Redis Cluster together: how they start, and what they say."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from cachebridge.testing.asking import ask, until
from cachebridge.testing.bus_proxy import BusProxy
from cachebridge.testing.cluster_nodes import ClusterNode
from cachebridge.testing.processes import started
from cachebridge.testing.servers import find_redis_server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cachebridge.testing.cluster_nodes import ClusterView

__all__ = ["ClusterMembers"]

_SLOTS: Final = 16_384
_LOCAL: Final = (
    *("--cluster-enabled", "yes", "--cluster-announce-ip", ClusterNode.host),
    *("--repl-diskless-sync-delay", "0", "--repl-timeout", "10"),
)


class ClusterMembers:
    """Masters, and their replicas if there are some; here they are started and asked.

    Every call asks the nodes for roles and slots.
    """

    def __init__(
        self, masters: int, replicas: int, args: Sequence[str], *, bus_proxies: bool
    ) -> None:
        """Start it; ``args`` are those of each node."""
        self._args = (*_LOCAL, *args)
        self._has_proxies = bus_proxies
        self._running = ExitStack()
        self._last_slots: dict[str, int] = {}
        self.nodes: list[ClusterNode] = []
        """All of them; which ones are masters changes."""
        try:
            self._build(masters, replicas)
        except BaseException:
            self.stop()
            raise
        hosts = ",".join(f"{each.host}:{each.port}" for each in self.nodes[:masters])
        self.url = f"redis+cluster://{hosts}"
        """The addresses of the first masters, as LOCATION wants them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End all nodes. Stopping twice is fine."""
        self._running.close()

    def masters(self) -> list[ClusterNode]:
        """Return the masters that have not failed, with slots or without."""
        return self._named(self._latest_view().masters())

    def replicas_of(self, master: ClusterNode) -> list[ClusterNode]:
        """Return its replicas that have not failed."""
        return self._named(self._latest_view().replicas_of(master.id))

    def node_of(self, key: str | bytes | int) -> ClusterNode:
        """Return the master of a key, or of a slot if it is an int.

        Raises LookupError if no node has the slot.
        """
        slot = _slot_of(key)
        owner = self._latest_view().owner_of(slot)
        if owner is None:
            raise LookupError(f"no node has slot {slot}")
        return self._named([owner])[0]

    def wait_until_ready(self) -> None:
        """Wait until all nodes that run know each other and the slots, and serve."""
        until(self._is_ready)

    def _is_ready(self) -> bool:
        nodes = self._up()
        views = [node.view() for node in nodes]
        ids = [node.id for node in nodes]
        return (
            all(view.is_connected_to(ids) for view in views)
            and all(view.slots() == views[0].slots() for view in views)
            and all(node.is_ready() for node in nodes)
        )

    def _up(self) -> list[ClusterNode]:
        return [node for node in self.nodes if node.is_running]

    def _named(self, ids: Sequence[str]) -> list[ClusterNode]:
        return [node for node in self.nodes if node.id in ids]

    def _latest_view(self) -> ClusterView:
        """Return the view of the node that knows most; a silent one is passed over."""
        views = []
        for node in self._up():
            with suppress(Exception):
                views.append(node.view())
        if not views:
            raise RuntimeError("no node answers")
        latest = max(views, key=lambda view: view.epoch)
        for name, ranges in latest.slots().items():
            self._last_slots[name] = int(ranges[0][0])
        return latest

    def _owner_for_all(
        self, slot: int, nodes: Sequence[ClusterNode]
    ) -> ClusterNode | None:
        """Return the owner of a slot if these nodes agree on it."""
        owners = {node.view().owner_of(slot) for node in nodes}
        found = self._named([each for each in owners if each is not None])
        return found[0] if len(owners) == len(found) == 1 else None

    def _launch(self, count: int) -> list[ClusterNode]:
        """Start nodes and have each meet all the others."""
        program = find_redis_server()
        fresh = []
        for _ in range(count):
            proxy = BusProxy() if self._has_proxies else None
            node = started(ClusterNode(program, self._args, proxy))
            fresh.append(self._running.enter_context(node))
        for node in fresh:
            epoch = len(self.nodes) + 1  # else equal ones are told apart one by one
            ask(node, "CLUSTER SET-CONFIG-EPOCH", epoch)
            for other in self._up():
                ask(node, "CLUSTER MEET", other.host, other.port, other.bus_port)
            self.nodes.append(node)
        return fresh

    def _build(self, masters: int, replicas: int) -> None:
        nodes = self._launch(masters * (1 + replicas))
        for number, master in enumerate(nodes[:masters]):
            first = _SLOTS * number // masters
            last = _SLOTS * (number + 1) // masters
            ask(master, "CLUSTER ADDSLOTS", *range(first, last))
        for number, replica in enumerate(nodes[masters:]):
            master = nodes[number % masters]
            until(partial(ask, replica, "CLUSTER REPLICATE", master.id))
        self.wait_until_ready()
        self._latest_view()


def _slot_of(key: str | bytes | int) -> int:
    if isinstance(key, int):
        return key
    from redis.crc import key_slot  # noqa: PLC0415 slow to import

    return key_slot(key.encode() if isinstance(key, str) else key)
