"""One engine per process and server: it makes the parts, and owns their life."""

from __future__ import annotations

import os
import random
import threading
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from cachebridge.codec.messages import MessageType
from cachebridge.core.breaker import Breaker
from cachebridge.core.coherence import Coherence
from cachebridge.core.direct import DirectWrite
from cachebridge.core.fill import Fill
from cachebridge.core.write import Write
from cachebridge.engine.batches import Batches
from cachebridge.engine.counting import make_turns
from cachebridge.engine.janitor import JANITOR
from cachebridge.engine.later.write_behind import WriteBehind
from cachebridge.engine.loading.refresh import Refresher
from cachebridge.engine.loading.single_flight import SingleFlight
from cachebridge.engine.loading.slots import LoadSlots
from cachebridge.engine.loading.task_refresh import TaskRefresher
from cachebridge.engine.messages.host_l1 import HostL1
from cachebridge.engine.messages.incoming import Receiver
from cachebridge.engine.messages.listening import Listening, make_bus
from cachebridge.engine.messages.outbox import Outbox
from cachebridge.engine.messages.outgoing import OutgoingMessages
from cachebridge.engine.operations import Operations
from cachebridge.engine.outage.replay import Replay
from cachebridge.engine.outage.state import Outage
from cachebridge.engine.servers.redis_server import Hooks
from cachebridge.engine.servers.stores import Stores
from cachebridge.engine.values import ValuesOfCaches
from cachebridge.engine.warming.automatic import WarmUp
from cachebridge.engine.watching.history import History
from cachebridge.engine.watching.probes import Probes
from cachebridge.errors import L2Error, UnsupportedOperationError
from cachebridge.l1.eviction import POLICIES
from cachebridge.l1.local_get import LocalReads
from cachebridge.l1.pressure import Pressure
from cachebridge.l2.location import MEMCACHED
from cachebridge.l2.memory.server import MemoryServer
from cachebridge.stats import Counters
from cachebridge.waiting.io import TASKS, THREADS
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.codec.values import Serializer
    from cachebridge.codec.wrapping import Wrapping
    from cachebridge.config import EngineOptions
    from cachebridge.engine.messages.listening import Bus
    from cachebridge.engine.values import Values
    from cachebridge.l1.store import L1Store
    from cachebridge.l2.location import Location
    from cachebridge.l2.store import L2Store
    from cachebridge.waiting.io import IO

RENEWING: Final = "\0renewing"
"""The name under which a connection is replaced in the background."""
RENEW_EVERY_S: Final = 10.0
"""How often the address of the server of the bus is looked up anew, at least."""
_noticing = threading.Lock()
CATCHING_UP: Final = "\0catching up"
"""The name under which an outage is ended in the background."""
MEMCACHED_TICKS_S: Final = 2.0
"""Memcached rounds a lease up to whole seconds, and counts them by its own tick."""


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
        self.location, self.options, self.clock = location, options, clock
        self.pid = os.getpid()
        self.counters = Counters()
        self.departures = 0
        self.random = random.Random()  # noqa: S311 users seed the shared one
        self.chance: Callable[[], float] = self.random.random
        self.server_id = b""
        """What the server of the bus calls itself, once a heartbeat has come back."""
        self.on_server_known: Callable[[Engine], None] = lambda _engine: None
        """Called by the bus's thread, before L1 is trusted."""
        self.memory_server = memory_server or MemoryServer(clock)
        # L1 and its rules
        self.l1: L1Store = POLICIES[options.l1_eviction](
            max_entries=options.l1_max_entries,
            max_bytes=options.l1_max_bytes,
            counters=self.counters,
        )
        self._pressure = Pressure(self.l1, self.counters, location.label)
        self.rules = Coherence(
            self.l1,
            clock=clock,
            counters=self.counters,
            outage_ttl_s=options.outage_ttl,
        )
        self.local_reads = LocalReads(self.l1, self.rules, self.counters)
        self.all_values = ValuesOfCaches(options, self.counters, clock)
        # L2, and what happens while it is away
        self.outage = Outage(
            self.rules,
            self.counters,
            clock=clock,
            label=location.label,
            split=lambda keys: self.stores.split(keys),  # noqa: PLW0108 made later
            escalate=lambda keys, pattern: self.stores.escalate(keys, pattern),  # noqa: PLW0108
            patience_s=options.socket_timeout,
        )
        self.breaker = Breaker(
            threshold=options.breaker_failures,
            retry_s=options.breaker_retry,
            clock=clock,
            jitter=self.random.uniform,
            watcher=self.outage,
        )
        self.stores = Stores(
            location,
            options,
            memory=self.memory_server,
            breaker=self.breaker,
            make_outbox=self._make_outbox,
            hooks=Hooks(
                clock=clock,
                leave=self.leave_server,
                on_departure=self._on_departure,
                on_alive=self._on_heartbeat,
                on_tick=lambda: self.listening.retire_if_unused(),  # noqa: PLW0108 made later
                on_new_login=self._on_new_login,
                on_late_clear=self._on_late_clear,
                on_no_room=self._on_no_room,
                is_connected=lambda: self.rules.connected,
                proven=lambda: self.rules.proven_at(self.options.bus_trust),
            ),
        )
        self.rules.echo_proves_all = not self.stores.bus_cluster
        self.l2, self.l2_for_tasks = self.stores.threads, self.stores.tasks
        self.host_l1 = HostL1(self.rules, self.stores, options, clock)
        # messages
        self.outgoing = OutgoingMessages(
            self.rules,
            self.counters,
            has_bus=self.stores.has_bus,
            publishes=self.stores.switchboard is not None,
            switch_key=self.stores.switch_key,
        )
        self.listening = Listening(
            self._make_bus,
            is_wanted=options.l1_max_entries > 0,
            clock=clock,
            stop_engine=self.stop,
            on_start=lambda: JANITOR.watch(self, options.l1_sweep),
        )
        self.count_turns = make_turns(compares=self.stores.cluster is not None)
        # loading
        self.single_flight = SingleFlight(
            clock, slack_s=MEMCACHED_TICKS_S if location.scheme == MEMCACHED else 0.0
        )
        self.load_slots = LoadSlots(options.max_loads)
        self.refresher = Refresher()
        self.task_refresher = TaskRefresher(self.refresher)
        # what comes in
        self.receiver = Receiver(
            self.rules,
            self.counters,
            trust_s=options.bus_trust,
            on_alive=self._on_heartbeat,
            on_proof=self._on_proof,
            on_keys_changed=self.single_flight.on_keys_changed,
            on_server_known=self._on_server_known,
        )
        self._renew_at = clock() + RENEW_EVERY_S
        own = {io: self._make_operations(io) for io in (THREADS, TASKS)}
        self.replays = {io: Replay(self, *own[io]) for io in own}
        self.batches = Batches(self, lambda io: own[io][0])
        self.write_behind = WriteBehind(self)
        self.warm_up = WarmUp(self, is_on=options.l1_warm)
        self.history, self.probes = History(self), Probes(self)

    # -- how the parts are made --------------------------------------------------------

    def _make_outbox(self, bus: L2Store) -> Outbox:
        return Outbox(
            bus,
            frame=lambda kind, keys: self.outgoing.late(kind, keys),  # noqa: PLW0108 later
            catch_up=self.catch_up_in_background,
            is_away=lambda: self.breaker.is_open,
            settle_s=self.options.socket_timeout,
            clock=self.clock,
        )

    def _make_bus(self) -> Bus:
        return make_bus(
            self.stores,
            self.options,
            self.receiver,
            memory=self.memory_server,
            origin=self.rules.origin,
            test_message=self.outgoing.frame(MessageType.HEARTBEAT),
            on_run=self.host_l1.on_run if self.host_l1.is_possible else None,
            clock=self.clock,
        )

    def _make_operations(self, io: IO) -> tuple[Operations, Operations]:
        """Make the engine's own operations, on coherent and on direct keys."""
        values = self.values_for("pickle")
        fill, count_read = partial(Fill, self.rules), self.listening.count_read
        coherent, direct = (
            Operations(self, values, io, fill=fill, write=write, count_read=count_read)
            for write in (partial(Write, self.rules), partial(DirectWrite, self.rules))
        )
        return coherent, direct

    def values_for(
        self, serializer: str | Serializer, wrapping: Wrapping | None = None
    ) -> Values:
        """Return the values of one serializer and wrapping, for all that use them."""
        return self.all_values.of(serializer, wrapping)

    def shorten_l1_ttl(self, l1_ttl: float) -> None:
        """Let no entry that is made from now on live longer in L1; seconds."""
        if l1_ttl < self.options.l1_ttl:
            self.options = replace(self.options, l1_ttl=l1_ttl)
            self.all_values.limit_ttl(self.options)

    def l2_for(self, io: IO, *, may_lag: bool = True) -> L2Store:
        """Return the store for threads or for tasks; a read ``may_lag`` or must not."""
        store = self.l2 if io is THREADS else self.l2_for_tasks
        return store if may_lag else self.stores.past_replicas(store)

    @property
    def keeps_l1_off(self) -> bool:
        """Whether L2 itself keeps the fleet's switch, and it is off."""
        is_kept = self.stores.switchboard is self.stores.threads
        return is_kept and not self.receiver.l1_is_on()

    def switch_l1(self, *, on: bool) -> None:
        """Turn L1 on or off in every process; the key keeps it for those to come.

        Raises L2Error, and UnsupportedOperationError without a bus.
        """
        switchboard = self.stores.switchboard
        if switchboard is None:
            raise UnsupportedOperationError(
                "without a bus the other processes cannot be told: set BUS_LOCATION."
            )
        run(switchboard.switch(*self.outgoing.switched(on=on)))
        self.receiver.switch(on=on)

    def is_refreshing(self, key: str) -> bool:
        """Return whether this process loads the key anew in the background."""
        return self.refresher.has(key) or self.task_refresher.has(key)

    # -- what L2 and the bus report ----------------------------------------------------

    def _on_late_clear(self, prefix: str) -> None:
        """A server was cleared late: what was read of it meanwhile must go, too."""
        self.rules.on_prefix(prefix)
        if self.stores.outbox is not None:
            self.stores.outbox.owe(self.outgoing.prefix_message(prefix))

    def _on_server_known(self, server_id: bytes) -> None:
        self.server_id = server_id
        self.on_server_known(self)

    def leave_server(self, reason: str) -> None:
        """Use the present connections to Redis no more, those of the bus included.

        For a server that was demoted, replaced or moved.  Trust in L1 ends at once, and
        every later connection looks the address up anew.  Thread safe; does not wait.
        """
        self._on_departure()
        # First: what the next session of the bus has proven must not be forgotten.
        if self.stores.bus is not None:
            self.stores.bus.pool.leave()
        if (bus := self.listening.bus) is not None:
            bus.break_off(reason)

    def _on_no_room(self) -> None:
        self.counters.too_large += 1

    def _on_new_login(self) -> None:
        if (bus := self.listening.bus) is not None:
            bus.renew()

    def _on_departure(self) -> None:
        self.departures += 1

    def _on_heartbeat(self) -> None:
        """Find out whether commands are answered again, now that heartbeats are.

        In the background, so that no caller pays for the half-open trial.  Now and then
        also find out whether the address leads to another server by now.
        """
        pending = self.outage.pending_deletes
        if (bus := self.stores.bus) and self.clock() >= self._renew_at:
            self._renew_at = self.clock() + RENEW_EVERY_S
            self.refresher.submit(RENEWING, bus.renew_link)
        if self.breaker.is_open or pending or self.stores.is_behind():
            self.catch_up_in_background()

    def _on_proof(self) -> None:
        self.listening.retire_if_unused()
        self.warm_up.beat()
        self.history.beat()
        self.probes.beat()

    def catch_up_in_background(self) -> None:
        """End an outage as far as possible, soon, in a thread."""
        self.refresher.submit(CATCHING_UP, lambda: run(self._catch_up()))

    async def _catch_up(self) -> None:
        await self.stores.catch_up()
        with suppress(L2Error):  # then it is not over yet
            if self.breaker.is_open:
                await self.l2.ping()
            if self.outage.pending_deletes:
                await self.replays[THREADS].run()

    # -- what the janitor asks ---------------------------------------------------------

    def begin_sweep(self) -> int:
        """Retire if no adapter is left; return how many entries L1 has."""
        self.listening.retire_if_unused()
        self._pressure.observe(self.clock())
        self.history.beat()
        return len(self.l1)

    def sweep_slice(self, limit: int, start: int) -> int:
        """Let expired entries go, and void their open fills; return how many."""
        return self.rules.sweep(limit, start)

    # -- the end, and forks ------------------------------------------------------------

    def stop(self, *, patience_s: float = 0.0) -> None:
        """Stop listening and close idle connections; a later use starts both again.

        Refreshes that run get ``patience_s`` to end; those that wait are dropped.
        """
        JANITOR.forget(self)
        if patience_s:
            self.warm_up.publish_last()
        self.write_behind.close()
        self.batches.close()
        with self.listening.lock:
            self.listening.stop()
            # Still under the lock: a bus that starts anew must not meet this break.
            self.rules.on_break()
            self.rules.flush("stop")
            self.host_l1.close()
        self.warm_up.reset()
        self.single_flight.end_lost()
        self.task_refresher.stop()
        self.refresher.stop(patience_s)
        self.stores.close()

    def notice_fork(self) -> None:
        """Begin anew if this is another process; asked by each call, before L2.

        Not all forks call Python's hooks.  Where they are called, the first call begins
        anew once more: gevent may have been patched in since, and locks be its own.
        """
        with _noticing:
            if self.pid != os.getpid():
                self.after_fork()
                self.pid = os.getpid()

    def after_fork(self) -> None:
        """Begin anew in a child: the parent's threads and sockets are not ours."""
        self.random.seed()
        self.server_id = b""
        self.listening.reset()
        self.single_flight.reset()
        self.refresher = Refresher()
        self.task_refresher.forget()
        self.task_refresher = TaskRefresher(self.refresher)
        self.load_slots = LoadSlots(self.options.max_loads)
        self.write_behind.reset()
        self.batches.reset()
        self.warm_up.reset()
        self.count_turns = make_turns(compares=self.stores.cluster is not None)
        self.outage.reset()
        self.rules.reset()
        self.counters.reset()
        self.history.reset()
        self.probes.reset()
        self.stores.forget()
