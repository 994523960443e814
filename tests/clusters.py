"""What tests need of a private cluster: its keys by node, its messages, its end."""

from __future__ import annotations

import itertools
from contextlib import ExitStack, closing
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import redis

from cachebridge.codec.messages import Message, MessageType, encode_message
from cachebridge.engine import registry
from cachebridge.engine.servers.redis_server import Hooks
from cachebridge.l2.cluster.slots import slot_of
from cachebridge.testing.asking import ask
from tests.rig import PATIENCE_S, eventually, lone_cache, messages_in, stores_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cachebridge import Cache
    from cachebridge.testing import RedisCluster
    from cachebridge.testing.cluster_nodes import ClusterNode

CHANNEL = "cachebridge:0"


def empty(cluster: RedisCluster) -> None:
    """Retire the engines of a cluster, and delete its keys: it has one database."""
    for engine, _ in list(registry._engines.values()):
        if engine.location.cluster:
            registry.retire(engine)
    for node in cluster.masters():
        ask(node, "FLUSHALL")


def key_at(node: ClusterNode, prefix: str = "key") -> str:
    """Return a key whose slot the node has."""
    return next(keys_at(node, prefix))


def keys_at(node: ClusterNode, prefix: str = "key") -> Iterator[str]:
    """Yield keys whose slots the node has."""
    slots = {slot for first, last in slots_of(node) for slot in range(first, last + 1)}
    for number in itertools.count():
        if slot_of(f"{prefix}:{number}".encode()) in slots:
            yield f"{prefix}:{number}"


def slots_of(node: ClusterNode) -> list[tuple[int, int]]:
    """Return first and last slots of what a node has."""
    ranges = node.view().slots().get(node.id, [])
    return [(int(each[0]), int(each[-1])) for each in ranges]


def node_in(cluster: RedisCluster, label: str) -> ClusterNode:
    """Return the node that a label of ours means."""
    port = int(label.rpartition(":")[2])
    return next(node for node in cluster.nodes if node.port == port)


def open_cluster(url: str, **options: Any) -> tuple[Cache, Any]:
    """Return a cache with an engine of its own, and the cluster as that knows it."""
    cache = lone_cache(url, **options)
    return cache, stores_of(cache).redis_cluster


def masters_of(cache: Cache) -> list[str]:
    """Return the labels of the masters that an engine knows."""
    return [each.location.label for each in stores_of(cache).redis_cluster.all()]


def knows(cache: Cache, *nodes: ClusterNode) -> None:
    """Wait until the engine has exactly these masters."""
    ports = {str(node.port) for node in nodes}
    eventually(lambda: {at.rpartition(":")[2] for at in masters_of(cache)} == ports)


def make_hooks() -> Hooks:
    """Return hooks for a cluster without an engine."""
    return Hooks(*[lambda *_: None for _ in fields(Hooks)])


class ClusterSpy:
    """Reads the channel of a cluster at one of its masters."""

    def __init__(self, cluster: RedisCluster) -> None:
        self._running = ExitStack()
        masters = cluster.masters()
        self._clients = [
            self._running.enter_context(redis.Redis(port=node.port)) for node in masters
        ]
        self._pubsub = self._running.enter_context(self._clients[0].pubsub())
        self._pubsub.subscribe(CHANNEL)
        assert self._pubsub.get_message(timeout=PATIENCE_S)["type"] == "subscribe"
        self._marks = itertools.count(1)

    def frames(self) -> list[bytes]:
        """Return every frame published anywhere since the last call.

        The nodes pass messages on in order: those of a master end with its mark.
        """
        marks = set()
        for client in self._clients:
            mark = Message(MessageType.HEARTBEAT, b"\0" * 8, next(self._marks), 0)
            marks.add(encode_message(mark))
            client.publish(CHANNEL, encode_message(mark))
        frames = []
        while marks:
            message = self._pubsub.get_message(timeout=PATIENCE_S)
            assert message is not None, "the marks did not arrive"
            if message["data"] in marks:
                marks.discard(message["data"])
            else:
                frames.append(message["data"])
        return frames

    def messages(self) -> list[Message]:
        """Return every message but the probes of starting listeners."""
        return messages_in(self.frames())

    def close(self) -> None:
        self._running.close()


def spying_on(cluster: RedisCluster) -> closing[ClusterSpy]:
    """Read along at a cluster, for the time of a ``with``."""
    return closing(ClusterSpy(cluster))
