"""The nodes of a private Redis Cluster, and what they say of each other."""

from __future__ import annotations

import os
import signal
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final

from cachebridge.testing.asking import ask, client_of
from cachebridge.testing.ports import free_port
from cachebridge.testing.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from cachebridge.testing.bus_proxy import BusProxy

__all__ = ["ClusterNode", "ClusterView"]

# The bus listens this much above the port; every version of the servers does that.
_BUS_OFFSET: Final = 10_000
_VIEW_TIMEOUT_S: Final = 1.0


class ClusterNode(RedisServer):
    """A running node of our own, made by redis_cluster().

    Its nodes.conf stands in its directory: after restart() it has lost its keys, and
    still knows its slots and the other nodes.
    """

    # It has nothing to save, and would wait for replicas that lag behind.
    _stop_signal: ClassVar = signal.SIGKILL

    def __init__(
        self, program: Path, args: Sequence[str], bus_proxy: BusProxy | None
    ) -> None:
        """``bus_proxy``, if any, ends with the node."""
        self.bus_proxy = bus_proxy
        if bus_proxy is not None:
            args = (*args, "--cluster-announce-bus-port", str(bus_proxy.port))
        super().__init__(program, None, args)

    @cached_property
    def id(self) -> str:
        """The name that the nodes call it by; stays the same over restart()."""
        name: bytes = ask(self, "CLUSTER MYID")
        return name.decode("ascii")

    @property
    def bus_port(self) -> int:
        """The port that other nodes send their messages to."""
        return self.bus_proxy.port if self.bus_proxy else self.port + _BUS_OFFSET

    def stop(self) -> None:
        """End the node and its proxy, remove its directory. Stopping twice is fine."""
        super().stop()
        if self.bus_proxy is not None and os.getpid() == self._owner:
            self.bus_proxy.stop()

    def view(self) -> ClusterView:
        """Ask it what it knows of the cluster; raises what redis-py raises."""
        with client_of(self, _VIEW_TIMEOUT_S) as client:
            return ClusterView(client.execute_command("CLUSTER NODES").values())

    def is_ready(self) -> bool:
        """Ask it whether it serves and, if it is a replica, has its master's keys."""
        with client_of(self, _VIEW_TIMEOUT_S) as client:
            if client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                return False
            link = client.info("replication").get("master_link_status", "up")
            return bool(link == "up")

    def _new_port(self) -> int:
        # The bus's port must not be an ephemeral one: the other nodes dial it.
        return free_port() - _BUS_OFFSET

    def _start(self) -> None:
        super()._start()
        if self.bus_proxy is not None:
            self.bus_proxy.lead_to(self.host, self.port + _BUS_OFFSET)


class ClusterView:
    """The cluster as one of its nodes sees it; nodes are named by their ids."""

    def __init__(self, nodes: Iterable[Mapping[str, Any]]) -> None:
        """``nodes`` are what redis-py makes of the lines."""
        self._nodes = {node["node_id"]: node for node in nodes}
        self.epoch = max(int(node["epoch"]) for node in self._nodes.values())
        """The view of the highest epoch is the latest."""

    def is_connected_to(self, ids: Iterable[str]) -> bool:
        """Whether it knows all of these, and holds none for failed."""
        return all(
            node is not None
            and node["connected"]
            and not {"handshake", "fail", "fail?"} & _flags(node)
            for node in map(self._nodes.get, ids)
        )

    def masters(self) -> list[str]:
        """Return those that have not failed, with slots or without."""
        return [
            name
            for name, node in self._nodes.items()
            if "master" in _flags(node) and "fail" not in _flags(node)
        ]

    def replicas_of(self, master: str) -> list[str]:
        """Return those that have not failed."""
        return [
            name
            for name, node in self._nodes.items()
            if node["master_id"] == master and "fail" not in _flags(node)
        ]

    def owner_of(self, slot: int) -> str | None:
        """Return the master that has the slot, failed or not; None if there is none."""
        return next(
            (
                name
                for name, node in self._nodes.items()
                if any(int(each[0]) <= slot <= int(each[-1]) for each in node["slots"])
            ),
            None,
        )

    def slots(self) -> dict[str, list[list[str]]]:
        """Return the first and last slots of the ranges of every master with slots."""
        return {
            name: node["slots"] for name, node in self._nodes.items() if node["slots"]
        }


def _flags(node: Mapping[str, Any]) -> set[str]:
    return set(node["flags"].split(","))
