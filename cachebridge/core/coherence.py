"""The coherence rules: who may put what into L1, and when it must leave again.

Every step happens under one lock that is never held over I/O.  An operation wraps its
one call of L2 in a ``Fill`` (``core/fill.py``) or a ``Write`` (``core/write.py``),
which call the single rules at the end of this file; the listener of the bus calls the
methods that begin with ``on_``.  The protocol, its invariants and the traces of what
goes wrong without each rule stand in ``docs/decisions/0002-coherence-protocol.md``.

While L2 is away, an *outage*, L1 may serve what it was last vouched for and what this
process has loaded or written meanwhile; all of that goes before L2's first answer is
used (``docs/decisions/0008-outage.md``).

A *flight* exists while a fill or a write of its key is running.  Its generation counts
everything that makes an open fill unsafe to store; the engine-wide *epoch* does the
same for all keys at once.  Together they are the *fill token*.
"""

from __future__ import annotations

import itertools
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from cachebridge.core.entry import WRITE_ID
from cachebridge.core.outage import (
    NEVER,
    OUTAGE_KEYS,
    SLICE,
    Doubts,
    NoDoubts,
    OutageRules,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cachebridge.core.entry import Entry
    from cachebridge.core.l1 import L1
    from cachebridge.stats import Counters

NO_TOKEN: Final = -1
"""The token of a fill that may not store whatever happens."""
ORIGIN_BYTES: Final = 8
STORES_PER_SWEEP: Final = 64


class Flight:
    """The running fills and writes of one key."""

    __slots__ = ("generation", "members", "writes")

    def __init__(self) -> None:
        self.members = 0
        self.generation = 0
        self.writes: set[int] = set()


class Gate:
    """Until when a look-up may hit: the one figure that the hit path compares."""

    __slots__ = ("until",)

    def __init__(self) -> None:
        self.until = NEVER


class Coherence(OutageRules):
    """State and rules of one engine's L1.  Thread safe; never blocks on I/O."""

    def __init__(
        self,
        l1: L1,
        *,
        clock: Callable[[], float],
        counters: Counters,
        outage_ttl_s: float = 0.0,
    ) -> None:
        self.outage_ttl_s = outage_ttl_s
        self.doubts: Doubts = NoDoubts()
        """Deletes that L2 is owed: what it answers for these keys is old."""
        self.l1 = l1
        self.clock = clock
        self.counters = counters
        self.enabled = True
        self.epoch = 0
        self.trusted_until = NEVER
        self.gate = Gate()
        """``trusted_until``; NEVER while L1 is off, flushing or bypassed somewhere."""
        self.outage_gate = Gate()
        """The same for caches that degrade: also what an outage allows."""
        self.reset()

    def reset(self) -> None:
        """Begin anew: empty, untrusted, with another origin (also after a fork)."""
        self.lock = threading.Lock()
        self.origin = os.urandom(ORIGIN_BYTES)
        self.epoch += 1
        self.connected = False
        self._flights: dict[str, Flight] = {}
        self.next_write_id = itertools.count(1).__next__
        self._resting = 0
        self._bypassing = 0
        self._stores = 0
        self.in_outage = False
        self._outage_keys: set[str] = set()
        """Keys of what L1 has taken during the outage."""
        self._vouched_until = self._outage_until = NEVER
        self.trusted_until = self.gate.until = self.outage_gate.until = NEVER
        while self.l1.discard_some(SLICE):
            pass

    # -- what operations use -----------------------------------------------------

    def is_on(self, now: float) -> bool:
        """Tell whether L1 may hit and store at ``now``."""
        return (
            now < self.trusted_until
            and self.connected
            and self.enabled
            and not self._resting
        )

    def is_idle(self) -> bool:
        """Tell whether no fill and no write is running (I16)."""
        return not self._flights

    def enter_bypass(self) -> None:
        """Send every look-up of the process past the fast path (counted)."""
        with self.lock:
            self._bypassing += 1
            self._update_gate()

    def leave_bypass(self) -> None:
        """Undo one ``enter_bypass``."""
        with self.lock:
            self._bypassing -= 1
            self._update_gate()

    def switch(self, *, on: bool) -> None:
        """Turn L1 on or off; off means empty at once."""
        with self.lock:
            if self.enabled == on:
                return
            self.enabled = on
            self._update_gate()
        self.flush("switch")

    # -- what the bus reports ----------------------------------------------------

    def on_subscribed(self) -> None:
        """All subscribe acknowledgements are handled: flush, then be connected."""
        self.flush("subscribe")
        with self.lock:
            self.connected = True
            self._update_gate()

    def on_break(self) -> None:
        """Messages may be lost from now on: trust ends, open fills may not store.

        Entries stay, unusable for hits, until the next acknowledgement flushes them.
        Told again while there is no connection, nothing more can be lost: what is being
        loaded during an outage may be kept.
        """
        with self.lock:
            if self.connected or self.trusted_until != NEVER:
                self.connected = False
                self._end_trust()

    def extend_trust(self, until: float) -> None:
        """Trust L1 until ``until``: every message for earlier writes was handled."""
        with self.lock:
            if self.connected and until > self.trusted_until:
                self.trusted_until = self._vouched_until = until
                self._update_gate()

    def end_trust(self) -> None:
        """Stop trusting L1 until the next proof; open fills may not store."""
        with self.lock:
            self._end_trust()

    def _end_trust(self) -> None:
        self._vouched_until = min(self._vouched_until, self.clock())
        self.trusted_until = NEVER
        self.epoch += 1
        self._update_gate()

    def on_keys(self, origin: bytes, write_id: int, keys: Iterable[str]) -> None:
        """Drop what somebody changed, unless it is the echo of an own known write."""
        own = origin == self.origin
        with self.lock:
            for key in keys:
                if not (own and self._is_own_echo(key, write_id)):
                    self.drop(key)

    def on_prefix(self, prefix: str) -> None:
        """Drop every key that begins with ``prefix``; open fills may not store."""
        with self._at_rest():
            with self.lock:
                keys = self.l1.all_keys()
            for start in range(0, len(keys), SLICE):
                with self.lock:
                    for key in keys[start : start + SLICE]:
                        if key.startswith(prefix):
                            self.drop(key)

    def flush(self, cause: str) -> None:
        """Empty L1 and void all open fills."""
        with self._at_rest():
            more = True
            while more:
                with self.lock:
                    more = self.l1.discard_some(SLICE)
        self.counters.flushed(cause)

    @contextmanager
    def _at_rest(self) -> Iterator[None]:
        """Void all open fills, and let nobody hit or store while the context is open.

        What is done inside may so release the lock between slices and stall nobody.
        """
        with self.lock:
            self.epoch += 1
            self._resting += 1
            self._update_gate()
        try:
            yield
        finally:
            with self.lock:
                self._resting -= 1
                self._update_gate()

    def sweep(self, limit: int) -> None:
        """Let up to ``limit`` expired entries go without having been read."""
        with self.lock:
            self.bump_all(self.l1.sweep(self.clock(), limit))

    # -- single rules, under the lock --------------------------------------------

    def _update_gate(self) -> None:
        """Recompute the figures that the hit path compares with the clock."""
        usable = self.enabled and not self._resting and not self._bypassing
        trusted_until = self.trusted_until if usable and self.connected else NEVER
        outage_until = self._outage_until if usable and self.in_outage else NEVER
        # What L1 takes during an outage is not for caches that raise.
        self.gate.until = NEVER if self.in_outage else trusted_until
        self.outage_gate.until = max(trusted_until, outage_until)

    def join(self, key: str) -> Flight:
        """Take part in the key's flight, opening it if there is none."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = Flight()
        flight.members += 1
        return flight

    def leave(self, key: str, flight: Flight) -> None:
        """Part from the flight; the last one closes it."""
        flight.members -= 1
        if not flight.members and self._flights.get(key) is flight:
            del self._flights[key]

    def bump(self, key: str) -> None:
        """Close the open fills of ``key``."""
        flight = self._flights.get(key)
        if flight is not None:
            flight.generation += 1

    def bump_all(self, keys: Iterable[str]) -> None:
        """Close the open fills of all ``keys``."""
        for key in keys:
            self.bump(key)

    def remove(self, key: str) -> None:
        """Remove the entry if there is one."""
        self.l1.pop(key)

    def drop(self, key: str) -> None:
        """Remove the entry and close the open fills of the key."""
        self.l1.pop(key)
        self.bump(key)

    def store(self, key: str, entry: Entry) -> None:
        """Store; whoever has to leave takes its open fills along (I4)."""
        if self.in_outage and len(self._outage_keys) < OUTAGE_KEYS:
            self._outage_keys.add(key)
        evicted = self.l1.put(key, entry)
        if evicted:
            self.bump_all(evicted)
        self._stores += 1
        if not self._stores % STORES_PER_SWEEP:
            self.bump_all(self.l1.sweep(self.clock(), 2 * STORES_PER_SWEEP))

    def _is_own_echo(self, key: str, write_id: int) -> bool:
        """Tell whether the message is about the very write that L1 reflects (I8).

        By write id, never by origin alone: a command that timed out may execute late.
        """
        entry = self.l1.peek(key)
        if entry is not None and entry[WRITE_ID] == write_id:
            return True
        flight = self._flights.get(key)
        return flight is not None and flight.writes == {write_id}

    def fill_token(self, flight: Flight) -> int:
        """Return the token for a fill of the key, none during an own write of it."""
        return NO_TOKEN if flight.writes else flight.generation

    def token_holds(self, flight: Flight, epoch: int, token: int) -> bool:
        """Tell whether nothing has happened since the token was taken (I6)."""
        return token == flight.generation and epoch == self.epoch

    def close_straggler(self, key: str, same: Callable[[Entry], bool]) -> None:
        """A fill that may not store has seen something: nothing else may outlive it."""
        entry = self.l1.peek(key)
        if entry is not None and not same(entry):
            self.l1.pop(key)
        self.bump(key)

    def begin_write(self, key: str, flight: Flight, write_id: int) -> None:
        """While an own write is in flight L1 has no entry for the key (I7)."""
        self.l1.pop(key)
        flight.generation += 1
        flight.writes.add(write_id)

    def end_write(self, flight: Flight) -> None:
        """A write has ended: fills that began during it saw who knows what."""
        flight.generation += 1
