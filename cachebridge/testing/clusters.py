"""A private Redis Cluster for tests: its slots move, its masters are failed over."""

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

__all__ = ["RedisCluster", "redis_cluster"]

_SLOTS: Final = 16_384
_MIGRATE_TIMEOUT_MS: Final = 4_000
_KEYS_PER_STEP: Final = 100
# A replica gives up after five seconds, for want of votes or of its master's answer.
_FAIL_OVER_S: Final = 6.0
_FAIL_OVER_ATTEMPTS: Final = 5
_LOCAL: Final = (
    *("--cluster-enabled", "yes", "--cluster-announce-ip", ClusterNode.host),
    *("--repl-diskless-sync-delay", "0", "--repl-timeout", "10"),
)


class RedisCluster:
    """Masters, and their replicas if it has some, made by redis_cluster().

    What it says of roles and slots it asks the nodes at every call. Methods raise
    TimeoutError where they wait for the nodes, and what redis-py raises where a node
    refuses. One thread at a time may change the cluster.
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

    def add_master(self) -> ClusterNode:
        """Add a master without slots; return it when all nodes know it."""
        (node,) = self._launch(1)
        self.wait_until_ready()
        return node

    def move_slot(self, slot: int, to: ClusterNode) -> None:
        """Move a slot with its keys to another master; return when all nodes know."""
        self.begin_move(slot, to)
        while self.move_keys(slot, to):
            pass
        self.end_move(slot, to)

    def begin_move(self, slot: int, to: ClusterNode) -> None:
        """Open a slot: the new master imports it, and the old one migrates it.

        From now on the old master answers ASK for keys that it has not.
        """
        source = self.node_of(slot)
        ask(to, "CLUSTER SETSLOT", slot, "IMPORTING", source.id)
        ask(source, "CLUSTER SETSLOT", slot, "MIGRATING", to.id)

    def move_keys(self, slot: int, to: ClusterNode, count: int = _KEYS_PER_STEP) -> int:
        """Move up to ``count`` keys of an open slot; return how many there were."""
        source = self.node_of(slot)
        keys = ask(source, "CLUSTER GETKEYSINSLOT", slot, count)
        if keys:
            target = (to.host, to.port, "", 0, _MIGRATE_TIMEOUT_MS)
            ask(source, "MIGRATE", *target, "REPLACE", "KEYS", *keys)
        return len(keys)

    def end_move(self, slot: int, to: ClusterNode) -> None:
        """Give an open slot to its new master; return when all nodes know.

        A master without a slot left becomes a replica of the new one, if it is Redis 7
        or Valkey. Raises ValueError if keys are left.
        """
        source = self.node_of(slot)
        if left := ask(source, "CLUSTER COUNTKEYSINSLOT", slot):
            raise ValueError(f"slot {slot} has {left} keys left: move_keys() first")
        others = [each for each in self.masters() if each not in (source, to)]
        for node in (to, source, *others):
            ask(node, "CLUSTER SETSLOT", slot, "NODE", to.id)
        until(lambda: self._owner_for_all(slot, self._up()) is to)

    def fail_over(self, master: ClusterNode) -> ClusterNode:
        """Have a replica of it take over by agreement; return the new master.

        No write is lost, and the old master becomes its replica. The third time in a
        few seconds takes six: masters do not vote that often. Raises ValueError if it
        has no replica.
        """
        replicas = self.replicas_of(master)
        if not replicas:
            raise ValueError(f"{master!r} has no replica")
        new = replicas[0]

        def is_done() -> bool:
            return all(
                master.id in node.view().replicas_of(new.id) and node.is_ready()
                for node in self._up()
            )

        for _ in range(_FAIL_OVER_ATTEMPTS):
            if new not in self.masters():
                ask(new, "CLUSTER FAILOVER")
            with suppress(TimeoutError):
                until(is_done, _FAIL_OVER_S)
                return new
        raise TimeoutError(f"{new!r} did not take over from {master!r}")

    def kill(self, node: ClusterNode) -> None:
        """End a node with SIGKILL; node.restart() brings it back without its keys."""
        self._latest_view()  # for await_failover()
        node.kill()

    def await_failover(self, old: ClusterNode) -> ClusterNode:
        """Wait until all other nodes know who has the slots of ``old``; return it.

        ``old`` is a master that was killed, paused or cut off. The nodes promote a
        replica of it after their timeout, and a second or two for the election. Raises
        ValueError if it had no slots.
        """
        if (slot := self._last_slots.get(old.id)) is None:
            raise ValueError(f"{old!r} had no slots")

        def promoted() -> ClusterNode | None:
            owner = self._owner_for_all(slot, [n for n in self._up() if n is not old])
            return None if owner is old else owner

        return until(promoted)

    def cut_bus(self, node: ClusterNode) -> None:
        """Lose the messages between a node and all others; clients reach it on.

        A master so cut off takes writes until the node timeout, and its replica is
        promoted after it; replication goes on. Raises ValueError without bus_proxies.
        """
        self._latest_view()  # for await_failover()
        for other, proxy in self._proxies():
            if other is node:
                proxy.refuse()
                proxy.cut()
            else:
                proxy.shut_out(node.id)

    def restore_bus(self) -> None:
        """Let all messages pass again; wait_until_ready() waits for their effect."""
        for _, proxy in self._proxies():
            proxy.restore()

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

    def _proxies(self) -> list[tuple[ClusterNode, BusProxy]]:
        if not self._has_proxies:
            raise ValueError("the cluster was made without bus_proxies=True")
        return [(node, node.bus_proxy) for node in self.nodes if node.bus_proxy]

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


def redis_cluster(
    *,
    masters: int = 3,
    replicas: int = 0,
    node_timeout_ms: int = 1500,
    require_full_coverage: bool = True,
    bus_proxies: bool = False,
    args: Sequence[str] = (),
) -> RedisCluster:
    """Start a Redis Cluster with all slots; as a context manager it stops.

    ``replicas`` are those of each master. ``node_timeout_ms`` is how long a node must
    be silent to be held for failed; a failover takes the votes of most masters.
    ``require_full_coverage`` is the servers' setting of that name: whether all of them
    refuse requests while a slot has no master. ``bus_proxies`` is for cut_bus().
    ``args`` are further arguments of each node. Returns when all nodes serve, which
    takes two and a half seconds: masters refuse requests in the first two. Raises
    ValueError, ServerNotFoundError, ServerStartError and TimeoutError.
    """
    if masters < 1 or replicas < 0:
        raise ValueError(
            f"masters is at least 1 and replicas at least 0, not {masters}, {replicas}"
        )
    settings = (
        *("--cluster-node-timeout", str(node_timeout_ms)),
        *("--cluster-require-full-coverage", "yes" if require_full_coverage else "no"),
    )
    return RedisCluster(masters, replicas, (*settings, *args), bus_proxies=bus_proxies)


def _slot_of(key: str | bytes | int) -> int:
    if isinstance(key, int):
        return key
    from redis.crc import key_slot  # noqa: PLC0415 slow to import

    return key_slot(key.encode() if isinstance(key, str) else key)
