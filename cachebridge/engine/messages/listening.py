"""Which bus an engine listens to, when it starts, and when it retires."""

from __future__ import annotations

import logging
import random
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol
from weakref import WeakSet, ref

from cachebridge.bus.listener import Listener
from cachebridge.bus.local import LocalBus
from cachebridge.bus.masters import MastersBus
from cachebridge.bus.settings import HOME, ListenerSettings, channels_of
from cachebridge.engine.messages.hosting import NO_THREADS, freezes_threads, only_forks
from cachebridge.events import event

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from redis.connection import Connection

    from cachebridge.bus.settings import Commands
    from cachebridge.bus.settings import Receiver as SessionReceiver
    from cachebridge.config import EngineOptions
    from cachebridge.engine.messages.incoming import Receiver
    from cachebridge.l2.memory.server import MemoryServer

_log = logging.getLogger("cachebridge.engine")

READS_BEFORE_LISTENING: Final = 3
"""L1-worthy reads before a process starts to listen: a short command never does."""

UNUSED_S: Final = 60.0
"""Seconds without any adapter after which an engine stops listening."""


class Bus(Protocol):
    """The engine's view of its bus."""

    def start(self) -> None:
        """Begin to listen."""

    def stop(self) -> None:
        """End soon, without waiting."""

    def renew(self) -> None:
        """Replace the connection of the subscription, without a gap."""

    def break_off(self, reason: str) -> None:
        """End trust at once, and begin anew."""

    def join(self, timeout_s: float) -> None:
        """Wait until it has ended, for at most ``timeout_s``."""

    def is_alive(self) -> bool:
        """Return whether it listens."""


class Subscribes(Protocol):
    """What makes the connection of a subscription."""

    def make_connection(self) -> Connection:
        """Make a connection, not connected yet."""


class BusServer(Protocol):
    """What a bus needs to know of its server."""

    make_connection: Callable[[], Connection]
    leave: Callable[[str], None]

    @property
    def pool(self) -> Commands:
        """The connections that commands use."""


class BusCluster(Protocol):
    """What a bus needs to know of a cluster."""

    on_change: Callable[[str], None]
    on_masters: Callable[[], None]
    on_leave: Callable[[Any, str], None]

    def watch(self) -> None:
        """Have the masters become known, also if no caller asks for anything."""

    def sessions(self) -> Mapping[Any, bytes]:
        """Return the masters that need a session, each with a hash tag it has."""

    def has_guests(self) -> bool:
        """Return whether a node is in use that has no session."""


class Messaging(Protocol):
    """What a bus needs to know of the stores."""

    label: str
    has_bus: bool

    @property
    def bus(self) -> BusServer | None:
        """The server of the messages; None in memory, and in a cluster."""

    @property
    def bus_cluster(self) -> BusCluster | None:
        """The masters that take the messages, if a cluster does."""

    @property
    def replicas(self) -> Subscribes | None:
        """The replicas, if one of them is subscribed at."""

    @property
    def bus_db(self) -> int:
        """The number of the database that names the channel."""


class _Starter:
    """Stands for a call of ``Listening.start``."""


class Listening:
    """Starts the bus with the first reads, and stops it when no adapter is left.

    Thread safe.
    """

    def __init__(
        self,
        make_bus: Callable[[], Bus],
        *,
        is_wanted: bool,
        clock: Callable[[], float],
        stop_engine: Callable[[], None],
        on_start: Callable[[], object],
    ) -> None:
        """``is_wanted`` is False if there is no L1 to keep coherent."""
        self._make_bus = make_bus
        self._is_wanted = is_wanted
        self._clock = clock
        self._stop_engine = stop_engine
        self._on_start = on_start
        self.users: WeakSet[object] = WeakSet()
        """The adapters in use; without any for a while the bus stops."""
        self._used_at = clock()
        self.bus: Bus | None = None
        """The bus, once it was started."""
        self.reset()

    def reset(self) -> None:
        """Begin without a bus, also in the child of a fork."""
        self._starter: Callable[[], _Starter | None] = lambda: None
        self.lock = threading.Lock()
        """Held by the caller that starts or stops the bus."""
        self.bus = None
        self._reads = 0
        self._is_warned = False

    def register_adapter(self, adapter: object) -> None:
        """Keep the bus alive, even if the adapter dies before the next heartbeat."""
        self._used_at = self._clock()
        self.users.add(adapter)

    def unregister_adapter(self, adapter: object) -> bool:
        """Forget an adapter that is closed; return whether none is left."""
        self.users.discard(adapter)
        return not self.users

    def count_read(self) -> None:
        """Count a read that L1 could have answered; the first few start the bus."""
        bus = self.bus
        if bus is not None:
            if not bus.is_alive():
                self._stop_engine()
            return
        self._reads += 1
        if self._reads >= READS_BEFORE_LISTENING:
            self.start()

    def start(self) -> None:
        """Start the bus now, unless it runs or there is no L1 to keep coherent.

        Never where its thread could do harm, or could not run.
        """
        if not self._is_wanted or only_forks():
            return
        if freezes_threads():
            self._warn()
            return
        # Not waited for: starting a thread lets other greenlets run.
        if self._starter() is not None:
            return  # another caller starts it
        mine = _Starter()
        self._starter = ref(mine)  # until this call ends, however it ends
        with self.lock:
            self._used_at = self._clock()  # LocalBus asks whether to retire at once
            if self.bus is None:
                bus = self._make_bus()
                try:
                    self._on_start()
                    bus.start()
                    self.bus = bus
                except RuntimeError:  # no thread: at exit, or at the limit
                    return
                except BaseException:  # no thread may run that no caller knows
                    bus.stop()
                    raise

    def _warn(self) -> None:
        if not self._is_warned:
            self._is_warned = True
            _log.warning(NO_THREADS, extra=event("bus.no_threads"))

    def is_running(self) -> bool:
        """Return whether the bus runs."""
        return self.bus is not None and self.bus.is_alive()

    def stop(self) -> None:
        """Stop the bus; for the caller that holds the lock."""
        bus, self.bus = self.bus, None
        self._reads = 0
        if bus is not None:
            bus.stop()

    def retire_if_unused(self) -> None:
        """Stop the engine if no adapter has existed for a while."""
        now = self._clock()
        if self.users:
            self._used_at = now
        elif now - self._used_at > UNUSED_S:
            self._stop_engine()


def make_bus(
    stores: Messaging,
    options: EngineOptions,
    receiver: Receiver,
    *,
    memory: MemoryServer,
    origin: bytes,
    test_message: bytes,
    on_run: Callable[[str], None] | None,
    clock: Callable[[], float],
) -> Bus:
    """Make the bus that goes with the stores; it does not listen yet."""
    if not stores.has_bus:
        told = event("bus.none", location=stores.label)
        _log.warning("%s, %s", stores.label, why_no_bus(options), extra=told)
        return LocalBus([], receiver)

    def make_listener(
        server: BusServer, tag: bytes, receiver: SessionReceiver
    ) -> Listener:
        settings = ListenerSettings(
            make_connection=(stores.replicas or server).make_connection,
            commands=server.pool,
            hears_itself=stores.replicas is None,
            leave=server.leave,
            channels=channels_of(stores.bus_db, origin, tag),
            receiver=receiver,
            test_message=test_message,
            on_run=on_run,
            is_asked=options.fleet_ask and tag in {b"", HOME},
            heartbeat_s=options.bus_heartbeat,
            trust_s=options.bus_trust,
            clock=clock,
            jitter=random.Random().uniform,  # noqa: S311 users seed the shared one
        )
        return Listener(settings)

    if (cluster := stores.bus_cluster) is not None:
        bus = MastersBus(
            receiver,
            watch=cluster.watch,
            masters=cluster.sessions,
            is_whole=lambda: not cluster.has_guests(),
            make_listener=make_listener,
            home=HOME,
        )
        cluster.on_change, cluster.on_masters = bus.on_change, bus.follow
        cluster.on_leave = bus.on_leave
        return bus
    if (server := stores.bus) is None:
        return LocalBus(memory.subscribers, receiver)
    return make_listener(server, b"", receiver)


def why_no_bus(options: EngineOptions) -> str:
    """Return why there are no messages, and the consequence."""
    why = "BUS is 'none'" if options.bus == "none" else "there is no BUS_LOCATION"
    return (
        f"{why}: other processes' writes are seen after at most L1_TTL "
        f"({options.l1_ttl} s)"
    )
