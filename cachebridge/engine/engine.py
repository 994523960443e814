"""One engine per process and server: it owns L1, the rules, L2 and the bus."""

from __future__ import annotations

import os
import random
import threading
import time
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from cachebridge.bus.session import channels_of
from cachebridge.codec.messages import Message, MessageType, encode_message
from cachebridge.codec.values import SERIALIZERS
from cachebridge.core.breaker import Breaker
from cachebridge.core.coherence import Coherence
from cachebridge.core.direct import Direct
from cachebridge.core.entry import Entry, is_expired
from cachebridge.core.keys import fits_message
from cachebridge.core.ttl import TtlRule
from cachebridge.engine.arefresh import TaskRefresher
from cachebridge.engine.buses import Bus, make_bus
from cachebridge.engine.flights import Flights
from cachebridge.engine.outage import Outage
from cachebridge.engine.outbox import Outbox
from cachebridge.engine.receiver import Receiver, wall_clock_us
from cachebridge.engine.refresh import Refresher
from cachebridge.engine.slots import make_slots
from cachebridge.engine.stores import Stores
from cachebridge.engine.values import Values
from cachebridge.errors import L2Error, UnsupportedOperationError
from cachebridge.l1.store import LruStore
from cachebridge.l2.memory import MemoryServer
from cachebridge.stats import Counters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cachebridge.codec.values import Serializer
    from cachebridge.config import EngineOptions
    from cachebridge.core.write import Write
    from cachebridge.l2.aredis import AsyncRedisStore
    from cachebridge.l2.base import AsyncL2Store, L2Store
    from cachebridge.l2.location import Location
    from cachebridge.l2.redis import RedisStore

READS_BEFORE_LISTENING: Final = 3
"""L1-worthy reads before a process starts to listen: a short command never does."""

CATCHING_UP: Final = "\0catching up"
"""The name under which an outage is ended in the background."""

UNUSED_S: Final = 60.0
"""Seconds without any adapter after which an engine stops listening."""

_bypassed: ContextVar[bool] = ContextVar("cachebridge_bypassed", default=False)


class Engine:
    """Shared by every cache of the process on one server and database.  Thread safe."""

    def __init__(
        self,
        location: Location,
        options: EngineOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
        memory_server: MemoryServer | None = None,
    ) -> None:
        self.location = location
        self.options = options
        self.clock = clock
        self.counters = Counters()
        self.l1 = LruStore(
            max_entries=options.l1_max_entries,
            max_bytes=options.l1_max_bytes,
            counters=self.counters,
        )
        self.rules = Coherence(
            self.l1,
            clock=clock,
            counters=self.counters,
            outage_ttl_s=options.outage_ttl,
        )
        self.flights = Flights()
        self.receiver = Receiver(
            self.rules,
            self.counters,
            trust_s=options.bus_trust,
            on_alive=self._notice_answer,
            on_proof=self._retire_if_unused,
            on_news=self.flights.on_keys,
        )
        self._random = random.Random()  # noqa: S311 users seed the shared one
        self.chance: Callable[[], float] = self._random.random
        self.refresher = Refresher()
        self.task_refresher = TaskRefresher(self.refresher)
        self.load_slots = make_slots(options.max_loads)
        self.outage = Outage(
            self.rules,
            self.counters,
            clock=clock,
            label=location.label,
            split=lambda keys: self.stores.split(keys),  # noqa: PLW0108 made later
        )
        self.breaker = Breaker(
            threshold=options.breaker_failures,
            retry_s=options.breaker_retry,
            clock=clock,
            jitter=self._random.uniform,
            watcher=self.outage,
        )
        self.users: WeakSet[object] = WeakSet()
        """The adapters in use; without any for a while the bus stops."""
        self._values: dict[str | Serializer, Values] = {}
        self._memory_server = memory_server or MemoryServer(clock)
        self.stores = Stores(
            location,
            options,
            memory=self._memory_server,
            breaker=self.breaker,
            make_outbox=self._make_outbox,
        )
        self.has_bus = self.stores.has_bus
        """Whether messages are published, and listened to."""
        self.l2: L2Store = self.stores.for_threads
        self.async_l2: AsyncL2Store = self.stores.for_tasks
        self._listening = threading.Lock()
        self._bus: Bus | None = None
        self._reads = 0
        self._used_at = clock()
        self._pid = os.getpid()

    def _make_outbox(self, bus: RedisStore, async_bus: AsyncRedisStore) -> Outbox:
        return Outbox(
            bus,
            async_bus,
            frame=lambda kind, keys: self._frame(kind, keys=keys),
            submit=self.refresher.submit,
        )

    @property
    def keeps_switch(self) -> bool:
        """Whether the fleet's switch is kept in L2 itself."""
        return self.stores.switchboard is self.l2

    def bound_memory(self, max_entries: int) -> None:
        """Let the store of ``memory://`` hold so many keys, the latest."""
        self._memory_server.max_entries = max_entries

    def values_for(self, serializer: str | Serializer) -> Values:
        """Return the values of one serializer, shared by all caches that use it."""
        values = self._values.get(serializer)
        if values is None:
            values = Values(
                SERIALIZERS[serializer] if isinstance(serializer, str) else serializer,
                ttl_rule=TtlRule(self.options.l1_ttl, self.options.l1_ttl_ratio),
                max_entry_bytes=self.options.l1_max_entry_bytes,
                counters=self.counters,
            )
            values = self._values.setdefault(serializer, values)
        return values

    # -- the life of the bus ---------------------------------------------------

    def notice_read(self) -> None:
        """Count a read that L1 could have answered; the first few start the bus."""
        bus = self._bus
        if bus is not None and self._pid == os.getpid():
            if not bus.is_alive():
                self.stop()
            return
        self._reads += 1
        if self._reads >= READS_BEFORE_LISTENING:
            self.listen()

    def listen(self) -> None:
        """Start the bus now, unless it runs or there is no L1 to keep coherent."""
        if self._pid != os.getpid():
            self.after_fork()
        if self.options.l1_max_entries == 0:
            return
        with self._listening:
            self._used_at = self.clock()  # LocalBus asks whether to retire at once
            if self._bus is None:
                bus = self._make_bus()
                with suppress(RuntimeError):  # no thread: at exit, or at the limit
                    bus.start()
                    self._bus = bus

    def _make_bus(self) -> Bus:
        return make_bus(
            self.stores,
            self.options,
            self.receiver,
            memory=self._memory_server,
            origin=self.rules.origin,
            probe=self._frame(MessageType.HEARTBEAT),
            clock=self.clock,
        )

    def is_listening(self) -> bool:
        """Tell whether the bus runs."""
        return self._bus is not None and self._bus.is_alive()

    def welcome(self, adapter: object) -> None:
        """Note an adapter in use, also one that lives only from beat to beat."""
        self._used_at = self.clock()
        self.users.add(adapter)

    @property
    def bus(self) -> Bus | None:
        """The bus, once it was started."""
        return self._bus

    def _notice_answer(self) -> None:
        """A heartbeat has come back: find out whether commands are answered, too.

        Behind everybody, so that no caller has to be the probe.
        """
        outbox = self.stores.outbox
        if self.breaker.is_open or self.outage.debts or outbox:
            self.refresher.submit(CATCHING_UP, self._catch_up)

    def _catch_up(self) -> None:
        if self.stores.outbox:
            self.stores.outbox.flush_if_possible()
        with suppress(L2Error):  # then it is not over yet
            if self.breaker.is_open:
                self.l2.ping()
            if (payer := self.outage.debts.payer) is not None:
                payer()

    def _retire_if_unused(self) -> None:
        """Stop listening when no adapter has existed for a while."""
        now = self.clock()
        if self.users:
            self._used_at = now
        elif now - self._used_at > UNUSED_S:
            self.stop()

    def stop(self, *, patience_s: float = 0.0) -> None:
        """Stop listening and close idle connections; a later use starts both again.

        Refreshes that run get ``patience_s`` to end; those that wait are dropped.
        """
        with self._listening:
            bus, self._bus = self._bus, None
            self._reads = 0
            if bus is not None:
                bus.stop()
            # Still under the lock: a bus that starts anew must not meet this break.
            self.rules.on_break()
            self.rules.flush("stop")
        self.task_refresher.stop()
        self.refresher.stop(patience_s)
        self.stores.close()

    def after_fork(self) -> None:
        """Begin anew in a child: the parent's threads and sockets are not ours."""
        self._pid = os.getpid()
        self._listening = threading.Lock()
        self._bus = None
        self._reads = 0
        self.flights.reset()
        self.refresher = Refresher()
        self.task_refresher.forget()
        self.task_refresher = TaskRefresher(self.refresher)
        self.load_slots = make_slots(self.options.max_loads)
        self.outage.reset()
        self.rules.reset()
        self.counters.reset()
        self.stores.forget()

    # -- reading L1 --------------------------------------------------------------

    def usable_entry(self, key: str, *, in_outage: bool = False) -> Entry | None:
        """Return the entry that may answer a read right now in this context.

        Also one that only an outage makes usable, if so wanted.
        """
        if _bypassed.get():
            return None
        now = self.clock()
        rules = self.rules
        # Before the entry: one read while L1 was off must not become usable meanwhile.
        if rules.in_outage:
            usable = in_outage and (rules.is_on(now) or rules.may_serve_past_trust(now))
        else:
            usable = rules.is_on(now)
        if not usable:
            return None
        return self._entry_within_ttl(key, now)

    def entry_past_trust(self, key: str) -> Entry | None:
        """Return the entry that may answer a read which L2 has failed to answer."""
        now = self.clock()
        if _bypassed.get() or not self.rules.may_serve_past_trust(now):
            return None
        entry = self._entry_within_ttl(key, now)
        if entry is not None:
            self.counters.outage_hits += 1
        return entry

    def _entry_within_ttl(self, key: str, now: float) -> Entry | None:
        entry = self.l1.entries.get(key)
        return None if entry is None or is_expired(entry, now) else entry

    @contextmanager
    def bypass_l1(self) -> Iterator[None]:
        """Let reads of this thread or task go to L2 while the context is open."""
        token = _bypassed.set(True)
        self.rules.enter_bypass()
        try:
            yield
        finally:
            self.rules.leave_bypass()
            _bypassed.reset(token)

    # -- messages ----------------------------------------------------------------

    def message_of(self, write: Write | Direct, keys: Sequence[str]) -> bytes | None:
        """Encode the message that names what a write changes; None if nobody cares."""
        if isinstance(write, Direct) or not self.has_bus:
            return None
        self.counters.messages_sent += 1
        return encode_message(
            Message(
                MessageType.KEYS, write.origin, write.id, wall_clock_us(), tuple(keys)
            )
        )

    def has_messages(self) -> bool:
        """Tell whether messages of other processes arrive at this moment."""
        return self.rules.connected and self.has_bus

    def new_token(self) -> bytes:
        """Return a name for one load that no other load anywhere has."""
        return b"%b:%d" % (self.rules.origin, self.rules.next_write_id())

    def news_of(self, key: str) -> bytes | None:
        """Encode a message that wakes whoever waits for a load of the key."""
        if not self.has_bus or not fits_message(key):
            return None
        self.counters.messages_sent += 1
        return self._frame(MessageType.KEYS, keys=(key,))

    def retract_message(self, write: Write | Direct) -> None:
        """Uncount the message of a write that changed nothing and so told nobody."""
        if not isinstance(write, Direct) and self.has_bus:
            self.counters.messages_sent -= 1

    def prefix_message(self, prefix: str) -> bytes:
        """Encode the message that all keys which begin with ``prefix`` have changed."""
        self.counters.messages_sent += self.stores.publishes
        return self._frame(MessageType.PREFIX, keys=(prefix,))

    def clear_message(self) -> bytes:
        """Encode the message that every key has changed."""
        self.counters.messages_sent += self.stores.publishes
        return self._frame(MessageType.CLEAR)

    def switched_off(self) -> tuple[list[tuple[str, bytes]], None, bytes]:
        """Return what to store in L2, and its message, for L1 to be off everywhere."""
        key = channels_of(self.stores.bus_db, b"").switch_key
        self.counters.messages_sent += 1
        return [(key, b"off")], None, self._frame(MessageType.SWITCH, on=False)

    def switch_l1(self, *, on: bool) -> None:
        """Turn L1 on or off in every process; the key keeps it for those to come."""
        switchboard = self.stores.switchboard
        if switchboard is None:
            raise UnsupportedOperationError(
                "without a bus the other processes cannot be told: set BUS_LOCATION."
            )
        if on:
            key = channels_of(self.stores.bus_db, b"").switch_key
            self.counters.messages_sent += 1
            switchboard.delete([key], self._frame(MessageType.SWITCH, on=on))
        else:
            switchboard.store(*self.switched_off())
        self.rules.switch(on=on)

    def _frame(
        self, kind: MessageType, *, keys: tuple[str, ...] = (), on: bool = False
    ) -> bytes:
        return encode_message(
            Message(kind, self.rules.origin, 0, wall_clock_us(), keys, on)
        )
