"""Two servers and one address that leads to the first, then to the second."""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import redis

from cachebridge.testing import FaultProxy, redis_server
from tests.rig import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from cachebridge.testing import RedisServer

ADDRESSES = ["name", "proxy"]
"""What leads to a server: a name that is looked up, or something in between."""
HOST = "primary.test"


class Pair:
    """A primary and its successor behind one address."""

    def __init__(self, kind: str, old: RedisServer, new: RedisServer) -> None:
        self.old, self.new = old, new
        self.target = old
        self.proxy = FaultProxy(old.host, old.port) if kind == "proxy" else None
        self.url = self.proxy.url if self.proxy else f"redis://{HOST}:6379/0"
        self.at_old = redis.Redis(old.host, old.port)
        self.at_new = redis.Redis(new.host, new.port)

    def replicate(self) -> None:
        """Make the new server a replica of the old one."""
        self.follow(self.at_new, self.old)

    def promote(self) -> None:
        """Make the new server a primary; the old one stays what it is."""
        self.at_new.replicaof("NO", "ONE")

    def demote(self) -> None:
        """Make the old server a replica of the new one; all connections stay."""
        self.follow(self.at_old, self.new)

    def move(self) -> None:
        """Let the address lead to the new server from now on."""
        self.target = self.new
        if self.proxy is not None:
            self.proxy.lead_to(self.new.host, self.new.port)

    def fail_over(self) -> None:
        """Do as managed services do: the old primary stays up, as a replica."""
        self.promote()
        self.demote()
        self.move()

    @staticmethod
    def follow(replica: redis.Redis, master: RedisServer) -> None:
        replica.replicaof(master.host, master.port)
        eventually(
            lambda: replica.info("replication").get("master_link_status") == "up"
        )

    def callers(self, client: redis.Redis) -> list[dict[str, Any]]:
        """Return the connections to a server but those of this rig and of replicas."""
        own = client.client_id()
        return [
            each
            for each in client.client_list()
            if each["id"] != str(own) and not set(each["flags"]) & set("SM")
        ]


@contextmanager
def two_servers(kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """Start both; the address leads to the first."""
    with ExitStack() as running:
        quick = ("--repl-diskless-sync-delay", "0")
        pair = Pair(
            kind,
            running.enter_context(redis_server(args=quick)),
            running.enter_context(redis_server(args=quick)),
        )
        for server, client in ((pair.old, pair.at_old), (pair.new, pair.at_new)):
            running.callback(server.kill)  # in good order it waits for its replicas
            running.callback(client.close)
        if pair.proxy is not None:
            running.enter_context(pair.proxy)
        look_up = socket.getaddrinfo

        def resolve(host: object, port: object, *args: Any, **kwargs: Any) -> Any:
            if host == HOST:
                host, port = pair.target.host, pair.target.port
            return look_up(host, port, *args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        yield pair
