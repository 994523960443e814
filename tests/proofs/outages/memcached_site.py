"""Memcached as the store, with a Redis bus beside it or without one.

The faults are those of ``site``, on Memcached or on the bus.  There is a Memcached for
each of the two caches under test, since it has no databases.
"""

from __future__ import annotations

import pickle
from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from pymemcache.client.base import Client

from cachebridge.l2.memcached.items import PICKLE
from cachebridge.testing import FaultProxy, memcached_server, redis_server
from tests.proofs.outages.site import BUS_AWAY, FAULTS, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

L1_TTL_S: Final = 8.0
"""Longer than a phase takes, and waited for: only then is L1 no older than L2."""
RETRY_S: Final = 3.0
"""Without heartbeats of a bus only a trial finds that the store is back."""
DATABASES: Final = 4
BUS: Final = "bus"
"""Begins the name of a fault that strikes the bus, not the store."""


class Each:
    """Hands a call to each of several."""

    def __init__(self, targets: Iterable[Any]) -> None:
        self._targets = tuple(targets)

    def __getattr__(self, name: str) -> Callable[..., None]:
        def call(*args: Any) -> None:
            for target in self._targets:
                getattr(target, name)(*args)

        return call


class MemcachedSite:
    """Servers of the test's own, reached through proxies; see ``Site``."""

    def __init__(self, *, has_bus: bool) -> None:
        self._ending = enter = ExitStack()
        start = enter.enter_context
        self._stores = [start(memcached_server()) for _ in range(2)]
        self._ways = [
            start(FaultProxy("127.0.0.1", self._stores[db % 2].port))
            for db in range(DATABASES)
        ]
        self.server, self.proxy = Each(self._stores), Each(self._ways)
        self.bus: SimpleNamespace | None = None
        if has_bus:
            server = start(redis_server())
            way = start(FaultProxy(server.host, server.port))
            self.bus = SimpleNamespace(server=server, proxy=way)

    def location(self, db: int, *, direct: bool = False) -> str:
        """Return an address of the store, by way of a proxy or past it."""
        port = (self._stores[db % 2] if direct else self._ways[db]).port
        return f"memcached://127.0.0.1:{port}"

    def options(self, db: int, *, direct: bool = False) -> dict[str, Any]:
        """Return what a cache has to be told besides."""
        options: dict[str, Any] = {"l1_ttl": L1_TTL_S, "breaker_retry": RETRY_S}
        if self.bus is not None:
            port = (self.bus.server if direct else self.bus.proxy).port
            options["bus_location"] = f"redis://127.0.0.1:{port}/{db}"
        return options

    def overwrite(self, db: int, key: str, value: Any) -> None:
        """Write past the library."""
        client = Client(("127.0.0.1", self._stores[db % 2].port), default_noreply=False)
        try:
            assert client.set(key, pickle.dumps(value), flags=PICKLE)
        finally:
            client.close()

    def truth(self, _db: int, _full_key: str, key: str, peer: Any) -> Any:
        """Return what the store has; only the library knows what was cleared."""
        with peer.bypass_l1():
            return peer.get(key)

    def close(self) -> None:
        """End everything."""
        self._ending.close()


def _on_the_bus(fault: Fault) -> Fault:
    return replace(
        fault,
        name=f"{BUS}: {fault.name}",
        kind=BUS_AWAY,
        works=lambda site: fault.works(site.bus),
    )


_OF_THE_STORE: Final = (
    "connections refused",
    "silence",
    "answers after the timeout",
    "`kill -9`",
    "`SIGSTOP`",
    "connections cut",
    "half-closed",
)
STORE_FAULTS: Final = {name: FAULTS[name] for name in _OF_THE_STORE}
BUS_FAULTS: Final = {
    fault.name: fault for fault in map(_on_the_bus, list(STORE_FAULTS.values())[:5])
}
