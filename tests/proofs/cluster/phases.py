"""What happens to a private Redis Cluster, one phase at a time, while all is used."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from redis.crc import key_slot

from cachebridge.testing.asking import ask, until
from tests.proofs.processes.faults import Lane
from tests.proofs.processes.timeline import SERVER, Fault

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cachebridge.testing import RedisCluster
    from cachebridge.testing.cluster_nodes import ClusterNode
    from tests.proofs.processes.timeline import Timeline

NODE_TIMEOUT_MS: Final = 1500
NO_FAILOVER_MS: Final = 60_000
"""With this node timeout a master that is cut off, or starved, stays one."""
CALM_S: Final = (1.0, 1.5)
"""Load between two phases: L1 is in use again, and holds what the next may spoil."""
MOVED: Final = 10
"""As many slots move in a phase, of those of the load."""
ALL: Final = 100
"""More keys than a slot has."""
DEAL_S: Final = 0.1
DOWN: Final = "take_slots_down"
PHASES: Final = (
    *("move_slots", "kill_master", "fail_over", "cut_bus", "cut_bus_until_failover"),
    *("add_master", DOWN),
)

MOVING: Final = frozenset({"move_slots", "add_master", "take_master_away"})
"""Phases in which slots move with their keys."""


@dataclass(frozen=True, slots=True)
class Phase(Fault):
    """One phase, and what it does to keys."""

    keys: frozenset[str] = frozenset()
    """Those of the master that was lost, if one was; stamps of tags are keys."""
    promoted: float = 0.0
    """When all nodes knew the next master; 0 if there is none."""
    died: float = 0.0
    """When these keys were gone for good; 0 if they were not."""

    @property
    def loses_writes(self) -> bool:
        """Whether writes of these keys are lost that the old master had confirmed."""
        return bool(self.promoted)


class ClusterLane(Lane):
    """The phases."""

    def __init__(
        self,
        timeline: Timeline,
        seed: str,
        cluster: RedisCluster,
        keys: Collection[str],
    ) -> None:
        """``keys`` are all names that the load uses in the store, stamps too."""
        super().__init__(timeline, seed)
        self._cluster = cluster
        self._keys = keys
        self.faults = {
            "move_slots": self._move_slots,
            "kill_master": self._kill_master,
            "fail_over": self._fail_over,
            "cut_bus": self._cut_bus,
            "cut_bus_until_failover": self._cut_bus_until_failover,
            "add_master": self._add_master,
            DOWN: self._take_slots_down,
        }

    def run(self, until: float) -> None:
        """Let L1 fill first; then deal each phase once, in random order."""
        self._set_node_timeout(NO_FAILOVER_MS)
        time.sleep(CALM_S[1])
        super().run(max(until, time.monotonic() + DEAL_S))

    # -- which nodes and keys ----------------------------------------------------------

    def _master(self) -> ClusterNode:
        """Choose a master that has keys of the load."""
        return self._cluster.node_of(self.random.choice(sorted(self._keys)))

    def _keys_of(self, master: ClusterNode) -> frozenset[str]:
        view = master.view()
        return frozenset(
            key
            for key in self._keys
            if view.owner_of(key_slot(key.encode())) == master.id
        )

    def _slots(self) -> list[int]:
        slots = sorted({key_slot(key.encode()) for key in self._keys})
        self.random.shuffle(slots)
        return slots[:MOVED]

    def _others(self, node: ClusterNode) -> list[ClusterNode]:
        return [each for each in self._cluster.masters() if each is not node]

    @contextmanager
    def _after(self) -> Iterator[None]:
        """Wait until all nodes serve again, then let L1 fill."""
        yield
        self._cluster.wait_until_ready()
        time.sleep(self.random.uniform(*CALM_S))

    @contextmanager
    def _electing(self) -> Iterator[None]:
        """Let masters that are silent be replaced; at other times none is.

        On a machine that is busy elsewhere, masters that work are silent for a while.
        """
        self._set_node_timeout(NODE_TIMEOUT_MS)
        with self._after():
            yield
        self._set_node_timeout(NO_FAILOVER_MS)

    def _set_node_timeout(self, timeout_ms: int) -> None:
        for node in self._cluster.nodes:
            if node.is_running:
                ask(node, "CONFIG SET", "cluster-node-timeout", timeout_ms)

    def _note(self, name: str, begin: float, **more: object) -> bool:
        phase = Phase(name, SERVER, begin, time.monotonic(), True, **more)  # type: ignore[arg-type] # fields of it
        self.timeline.faults.append(phase)
        return True

    # -- the phases --------------------------------------------------------------------

    def _move_slots(self) -> bool:
        """Move slots of the load to other masters; some stay open for a while."""
        begin = time.monotonic()
        with self._after():
            for slot in self._slots():
                self._move(
                    slot, self.random.choice(self._others(self._cluster.node_of(slot)))
                )
            self._note("move_slots", begin)
        return True

    def _move(self, slot: int, to: ClusterNode) -> None:
        count = self.random.choice((1, ALL))
        self._cluster.begin_move(slot, to)
        # Again while a node refuses: on a busy machine it may miss the others.
        until(lambda: not self._cluster.move_keys(slot, to, count))
        self._cluster.end_move(slot, to)

    def _kill_master(self) -> bool:
        """Kill it with SIGKILL; its replica takes over, and later it comes back."""
        old = self._master()
        keys = self._keys_of(old)
        with self._electing():
            begin = time.monotonic()
            self._cluster.kill(old)
            self._cluster.await_failover(old)
            self._note("kill_master", begin, keys=keys, promoted=time.monotonic())
            old.restart()
        return True

    def _fail_over(self) -> bool:
        """Let a replica take over by agreement: nothing is lost."""
        with self._electing():
            begin = time.monotonic()
            self._cluster.fail_over(self._master())
            self._note("fail_over", begin)
        return True

    def _cut_bus(self) -> bool:
        """Lose what one master and the others tell each other, messages included."""
        with self._after():
            begin = time.monotonic()
            self._cluster.cut_bus(self._master())
            time.sleep(self.random.uniform(2.0, 3.0))
            self._cluster.restore_bus()
            self._note("cut_bus", begin)
        return True

    def _cut_bus_until_failover(self) -> bool:
        """Cut a master off that clients still reach, for longer than the timeout."""
        old = self._master()
        keys = self._keys_of(old)
        begin = time.monotonic()
        with self._electing():
            self._cluster.cut_bus(old)
            self._cluster.await_failover(old)
            promoted = time.monotonic()
            self._cluster.restore_bus()
            self._cluster.wait_until_ready()
            self._note("cut_bus_until_failover", begin, keys=keys, promoted=promoted)
        return True

    def _add_master(self) -> bool:
        """Give a new master half of the slots, take them away again, and remove it."""
        begin = time.monotonic()
        new = self._cluster.add_master()
        self._set_node_timeout(NO_FAILOVER_MS)
        slots = self._slots()
        slots = slots[: len(slots) // 2]
        with self._after():
            for slot in slots:
                self._move(slot, new)
            self._note("add_master", begin)
        begin = time.monotonic()
        with self._after():
            for slot in slots:
                self._move(slot, self.random.choice(self._others(new)))
            new.kill()
            for node in self._cluster.nodes:
                if node.is_running:
                    ask(node, "CLUSTER FORGET", new.id)
            self._note("take_master_away", begin)
        return True

    def _take_slots_down(self) -> bool:
        """Kill a master without a replica: its slots are served by no node."""
        old = self._master()
        keys = self._keys_of(old)
        replicas = self._cluster.replicas_of(old)
        for replica in replicas:
            replica.kill()
        with self._after():
            begin = time.monotonic()
            self._cluster.kill(old)
            died = time.monotonic()
            time.sleep(self.random.uniform(2.5, 3.5))
            old.restart()  # without its keys
            self._note(DOWN, begin, keys=keys, died=died)
            self._cluster.wait_until_ready()
            for replica in replicas:
                replica.restart()
            self._set_node_timeout(NO_FAILOVER_MS)
        return True
