"""Which bus an engine listens to."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Protocol

from cachebridge.bus.local import LocalBus, NoBus
from cachebridge.bus.pubsub import Listener
from cachebridge.bus.session import ListenerSettings, channels_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.config import EngineOptions
    from cachebridge.engine.receiver import Receiver
    from cachebridge.engine.stores import Stores
    from cachebridge.l2.memory import MemoryServer

_log = logging.getLogger("cachebridge.engine")


class Bus(Protocol):
    """What the engine does with its bus."""

    def start(self) -> None:
        """Begin to listen."""

    def stop(self) -> None:
        """End soon, without waiting."""

    def is_alive(self) -> bool:
        """Tell whether it listens."""


def make_bus(
    stores: Stores,
    options: EngineOptions,
    receiver: Receiver,
    *,
    memory: MemoryServer,
    origin: bytes,
    probe: bytes,
    clock: Callable[[], float],
) -> Bus:
    """Make the bus that goes with the stores; it does not listen yet."""
    if not stores.has_bus:
        _log.warning("%s, %s", stores.label, why_no_bus(options))
        return NoBus(receiver)
    if stores.make_connection is None:
        return LocalBus(memory.subscribers, receiver)
    settings = ListenerSettings(
        make_connection=stores.make_connection,
        channels=channels_of(stores.bus_db, origin),
        receiver=receiver,
        probe=probe,
        heartbeat_s=options.bus_heartbeat,
        trust_s=options.bus_trust,
        clock=clock,
        jitter=random.Random().uniform,  # noqa: S311 users seed the shared one
    )
    return Listener(settings)


def why_no_bus(options: EngineOptions) -> str:
    """Say why there are no messages, and what follows from it."""
    why = "BUS is 'none'" if options.bus == "none" else "there is no BUS_LOCATION"
    return (
        f"{why}: other processes' writes are seen after at most L1_TTL "
        f"({options.l1_ttl} s)"
    )
