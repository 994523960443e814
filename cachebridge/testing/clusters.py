"""A private Redis Cluster for tests: its slots move, its masters are failed over."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from cachebridge.testing.asking import ask, until
from cachebridge.testing.cluster_members import ClusterMembers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cachebridge.testing.bus_proxy import BusProxy
    from cachebridge.testing.cluster_nodes import ClusterNode

__all__ = ["RedisCluster", "redis_cluster"]

_MIGRATE_TIMEOUT_MS: Final = 4_000
_KEYS_PER_STEP: Final = 100
# A replica gives up after five seconds, for want of votes or of its master's answer.
_FAIL_OVER_S: Final = 6.0
_FAIL_OVER_ATTEMPTS: Final = 5


class RedisCluster(ClusterMembers):
    """Masters, and their replicas if it has some, made by redis_cluster().

    Methods raise TimeoutError where they wait for the nodes, and what redis-py raises
    where a node refuses. One thread at a time may change the cluster.
    """

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
            try:
                ask(node, "CLUSTER SETSLOT", slot, "NODE", to.id)
            except Exception as exc:
                # It has heard of the move already, and it was its last slot.
                if node is not source or "only with masters" not in str(exc):
                    raise
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

    def _proxies(self) -> list[tuple[ClusterNode, BusProxy]]:
        if not self._has_proxies:
            raise ValueError("the cluster was made without bus_proxies=True")
        return [(node, node.bus_proxy) for node in self.nodes if node.bus_proxy]


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
