"""The process test with the messages beside the store, and faults on both servers.

A change and its message are two steps: a writer that dies between them, or a change
that is carried out after all, leaves peers stale, for no longer than L1_TTL.
"""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Self

import redis
from pymemcache.client.base import Client

from cachebridge.core.dropping.tags import TAG_PREFIX
from cachebridge.testing import FaultProxy, memcached_server, redis_server
from tests.proofs.processes.faults import SOCKET_TIMEOUT_S, Lane, ServerLane
from tests.proofs.processes.run import OPTIONS, Setup
from tests.proofs.processes.timeline import SERVER

if TYPE_CHECKING:
    from collections.abc import Collection

    from cachebridge.testing import MemcachedServer, RedisServer
    from tests.proofs.processes.timeline import Timeline

L1_TTL_S: Final = 2.0
SPENT: Final = 400_000
"""CAS numbers, more than a life of a minute takes."""


class BesideLane(ServerLane):
    """What happens to the bus, and what happens to the store."""

    def __init__(
        self,
        timeline: Timeline,
        seed: str,
        server: RedisServer,
        beside: Beside,
    ) -> None:
        super().__init__(timeline, seed, server)
        self._store = beside.store
        self._proxy = beside.proxy
        self._restart = beside.restart
        del self.faults["restart_server_empty"]
        self.faults |= {
            "restart_bus": self._restart_bus,
            "pause_store": self._pause_store,
            "restart_store": self._restart_store,
            "delay_store": self._delay_store,
            "cut_store": self._cut_store,
        }

    def _restart_bus(self) -> bool:
        with self.timeline.fault("restart_bus", SERVER, holds_back=True):
            self._server.kill()
            time.sleep(self.random.choice((0.0, 0.3, 1.2)))
            self._server.restart()
        return True

    def _pause_store(self) -> bool:
        """Calls fail, and some are carried out when it goes on."""
        with self.timeline.fault("pause_store", SERVER, holds_back=True):
            self._store.pause()
            time.sleep(self.random.uniform(0.1, 2 * SOCKET_TIMEOUT_S))
            self._store.resume()
        return True

    def _restart_store(self) -> bool:
        with self.timeline.fault("restart_store", SERVER, holds_back=True):
            self._store.kill()
            self.timeline.deaths.append(time.monotonic())
            time.sleep(self.random.choice((0.0, 0.3)))
            self._restart()
        return True

    def _delay_store(self) -> bool:
        return self._through("delay_store", "delay", 0.5, 0.03)

    def _cut_store(self) -> bool:
        return self._through("cut_store", "cut", 0.0)

    def _through(self, name: str, fault: str, seconds: float, *args: float) -> bool:
        """Let the proxy do something; return whether it met traffic."""
        before = self._proxy.fired[fault]
        with self.timeline.fault(name, SERVER, holds_back=True):
            getattr(self._proxy, fault)(*args)
            time.sleep(seconds)
            self._proxy.restore()
        return self._proxy.fired[fault] > before


class Beside:
    """A store of its own, which all workers reach through one proxy."""

    store: MemcachedServer | RedisServer

    def __init__(self, _server: RedisServer) -> None:
        self.proxy = FaultProxy(self.store.host, self.store.port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.proxy.stop()
        self.store.stop()

    def restart(self) -> None:
        """Start the store again."""
        self.store.restart()

    def lane(
        self, _setup: Setup, timeline: Timeline, seed: str, server: RedisServer
    ) -> Lane:
        """Make what happens to the servers."""
        return BesideLane(timeline, seed, server, self)


class MemcachedBeside(Beside):
    """Memcached, which knows no messages."""

    def __init__(self, server: RedisServer) -> None:
        self.store = memcached_server()
        self._lives = 0
        super().__init__(server)

    def restart(self) -> None:
        """Start the store again, with CAS numbers that its last life has not had.

        They begin anew.  One that a load has kept over the restart, and that another
        item has got since, would delete that item.  Where a server lives for hours,
        the numbers are too far apart; here every other life begins at a high one.
        """
        self.proxy.refuse()
        self.store.restart()
        self._lives += 1
        if self._lives % 2:
            with socket.create_connection((self.store.host, self.store.port)) as link:
                link.sendall(b"set spent 0 0 1 noreply\r\n1\r\n" * SPENT + b"mn\r\n")
                assert link.recv(16) == b"MN\r\n"
        self.proxy.restore()

    def location(self, proxy_url: str) -> tuple[str, dict[str, Any]]:
        """The worker's own proxy leads to the bus."""
        ours = f"memcached://{self.proxy.host}:{self.proxy.port}"
        return ours, {"BUS_LOCATION": proxy_url}

    def peek(self, keys: Collection[str]) -> dict[str, bytes | None]:
        """Read items past the library; those without a value hold a pickled None."""
        client = Client((self.store.host, self.store.port), timeout=5)
        try:
            found = {
                key: _stamp(client, key)
                if key.startswith(TAG_PREFIX)
                else client.get(key)
                for key in keys
            }
        finally:
            client.close()
        return {key: None if raw == b"N." else raw for key, raw in found.items()}


def _stamp(client: Client, key: str) -> bytes | None:
    """Read a stamp, whose name is hashed: its item has the key before it."""
    name = f"cachebridge-key:{sha256(key.encode()).hexdigest()}"
    raw: bytes | None = client.get(name)
    return None if raw is None else raw[-8:]


class RedisBeside(Beside):
    """A Redis that lets the workers neither publish nor subscribe."""

    def __init__(self, server: RedisServer) -> None:
        rules = "shop on >secret ~* resetchannels +@all -publish -subscribe -ping"
        self.store = redis_server(args=("--user", *rules.split()))
        super().__init__(server)

    def location(self, proxy_url: str) -> tuple[str, dict[str, Any]]:
        """The worker's own proxy leads to the bus."""
        ours = f"redis://shop:secret@{self.proxy.host}:{self.proxy.port}"
        return ours, {"BUS_LOCATION": proxy_url}

    def peek(self, keys: Collection[str]) -> dict[str, bytes | None]:
        """Read values past the library."""
        with redis.Redis(port=self.store.port, socket_timeout=5) as client:
            return {key: client.get(key) for key in keys}  # type: ignore[misc]


OVER_MEMCACHED: Final = Setup(
    options={**OPTIONS, "L1_TTL": L1_TTL_S},
    left_out=("late_write",),
    store=MemcachedBeside,
    bound_s=L1_TTL_S,
    rest_s=L1_TTL_S + 0.5,
)
OVER_REDIS: Final = replace(OVER_MEMCACHED, store=RedisBeside)
LONG_LIVED: Final = replace(OVER_MEMCACHED, options=OPTIONS)
"""With an L1_TTL that heals nothing within the run."""
