"""The process test over Memcached, with the faults on the bus and on the store.

A change and its message are two steps: a writer that dies between them, or a change
that is carried out after all, leaves peers stale, for no longer than L1_TTL.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self

from pymemcache.client.base import Client

from cachebridge.testing import FaultProxy, memcached_server
from tests.proofs.processes.faults import SOCKET_TIMEOUT_S, Lane, ServerLane
from tests.proofs.processes.run import OPTIONS, Setup
from tests.proofs.processes.timeline import SERVER

if TYPE_CHECKING:
    from collections.abc import Collection

    from cachebridge.testing import RedisServer
    from tests.proofs.processes.timeline import Timeline

L1_TTL_S: Final = 2.0


class MemcachedLane(ServerLane):
    """What happens to the bus, and what happens to the store."""

    def __init__(
        self,
        timeline: Timeline,
        seed: str,
        server: RedisServer,
        beside: MemcachedBeside,
    ) -> None:
        super().__init__(timeline, seed, server)
        self._memcached = beside.memcached
        self._proxy = beside.proxy
        del self.faults["restart_server_empty"]
        self.faults |= {
            "restart_bus": self._restart_bus,
            "pause_memcached": self._pause_memcached,
            "restart_memcached": self._restart_memcached,
            "delay_memcached": self._delay_memcached,
            "cut_memcached": self._cut_memcached,
        }

    def _restart_bus(self) -> bool:
        with self.timeline.fault("restart_bus", SERVER, holds_back=True):
            self._server.kill()
            time.sleep(self.random.choice((0.0, 0.3, 1.2)))
            self._server.restart()
        return True

    def _pause_memcached(self) -> bool:
        """Calls fail, and some are carried out when it goes on."""
        with self.timeline.fault("pause_memcached", SERVER, holds_back=True):
            self._memcached.pause()
            time.sleep(self.random.uniform(0.1, 2 * SOCKET_TIMEOUT_S))
            self._memcached.resume()
        return True

    def _restart_memcached(self) -> bool:
        with self.timeline.fault("restart_memcached", SERVER, holds_back=True):
            self._memcached.kill()
            self.timeline.deaths.append(time.monotonic())
            time.sleep(self.random.choice((0.0, 0.3)))
            self._memcached.restart()
        return True

    def _delay_memcached(self) -> bool:
        return self._through("delay_memcached", "delay", 0.5, 0.03)

    def _cut_memcached(self) -> bool:
        return self._through("cut_memcached", "cut", 0.0)

    def _through(self, name: str, fault: str, seconds: float, *args: float) -> bool:
        """Let the proxy do something; return whether it met traffic."""
        before = self._proxy.fired[fault]
        with self.timeline.fault(name, SERVER, holds_back=True):
            getattr(self._proxy, fault)(*args)
            time.sleep(seconds)
            self._proxy.restore()
        return self._proxy.fired[fault] > before


class MemcachedBeside:
    """A Memcached of its own, which all workers reach through one proxy."""

    def __init__(self, _server: RedisServer) -> None:
        self.memcached = memcached_server()
        self.proxy = FaultProxy(self.memcached.host, self.memcached.port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.proxy.stop()
        self.memcached.stop()

    def location(self, proxy_url: str) -> tuple[str, dict[str, Any]]:
        """The worker's own proxy leads to the bus."""
        ours = f"memcached://{self.proxy.host}:{self.proxy.port}"
        return ours, {"BUS_LOCATION": proxy_url}

    def lane(
        self, _setup: Setup, timeline: Timeline, seed: str, server: RedisServer
    ) -> Lane:
        """Make what happens to the servers."""
        return MemcachedLane(timeline, seed, server, self)

    def peek(self, keys: Collection[str]) -> dict[str, bytes | None]:
        """Read items past the library; those without a value hold a pickled None."""
        client = Client((self.memcached.host, self.memcached.port), timeout=5)
        try:
            found = {key: client.get(key) for key in keys}
        finally:
            client.close()
        return {key: None if raw == b"N." else raw for key, raw in found.items()}


OVER_MEMCACHED: Final = Setup(
    options={**OPTIONS, "L1_TTL": L1_TTL_S},
    left_out=("late_write",),
    store=MemcachedBeside,
    bound_s=L1_TTL_S,
    rest_s=L1_TTL_S + 0.5,
)
LONG_LIVED: Final = replace(OVER_MEMCACHED, options=OPTIONS)
"""With an L1_TTL that heals nothing within the run."""
