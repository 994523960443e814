"""The coherence rules: which call may put what into L1, and when it must leave.

Every step happens under one lock that is never held over I/O.  An operation wraps its
one call of L2 in a ``Fill`` (``core/fill.py``) or a ``Write`` (``core/write.py``),
which call the single rules at the end of this file; the listener of the bus calls the
methods that begin with ``on_``.  The protocol, its invariants and the traces of what
goes wrong without each rule stand in ``docs/decisions/0002-coherence-protocol.md``.

While L2 is away, an *outage*, L1 may serve what it was last vouched for and what this
process has loaded or written meanwhile; all of that goes before L2's first answer is
used (``docs/decisions/0008-outage.md``).

A key has a ``KeyActivity`` while fills or writes of it are running.  Its generation
counts everything that makes an open fill unsafe to store; the engine-wide *epoch* does
the same for all keys at once.  Together they are the *fill token*.
"""

from __future__ import annotations

import itertools
import os
import threading
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from cachebridge.core.dropping.emptying import Emptying
from cachebridge.core.dropping.tags import TagIndex, stamps_among
from cachebridge.core.dropping.trail import EVICTED, MESSAGE, OWN_WRITE, Trail
from cachebridge.core.entry import WRITE_ID, grown
from cachebridge.core.fence import NO_TOKEN, NONE, Fence, Fences, Gate, KeyActivity
from cachebridge.core.outage import FOREVER, NEVER, SLICE, OutageEntries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cachebridge.core.dropping.tags import Tagging
    from cachebridge.core.entry import L1, Entry
    from cachebridge.core.host.sharing import Sharing
    from cachebridge.stats import Counters

ORIGIN_BYTES: Final = 8
STORES_PER_SWEEP: Final = 64


class Coherence(Emptying):
    """State and rules of one engine's L1.  Thread safe; never blocks on I/O."""

    def __init__(
        self,
        l1: L1,
        *,
        clock: Callable[[], float],
        counters: Counters,
        outage_ttl_s: float = 0.0,
    ) -> None:
        self.l1 = l1
        self.clock = clock
        self.counters = counters
        self.enabled = True
        self.epoch = 0
        self.trusted_until = NEVER
        self.gate = Gate()
        """``trusted_until``; NEVER while L1 is off, flushing, bypassed or fenced."""
        self.outage_gate = Gate()
        """The same for caches that degrade: also what an outage allows."""
        self.outage = OutageEntries(self, outage_ttl_s)
        self.tags = TagIndex()
        self.trail = Trail(clock)
        self.siblings: tuple[Coherence, ...] = ()
        """The rules of this process's other engines on the same server and database."""
        self.fences = Fences()
        self.echo_proves_all = True
        """Whether all earlier messages come before an echo: of one server, they do."""
        self.sharing: Sharing | None = None
        """What the processes of this host share, where they do."""
        self.reset()

    def reset(self) -> None:
        """Begin anew: empty, untrusted, with another origin (also after a fork)."""
        self.lock = threading.Lock()
        self.origin = os.urandom(ORIGIN_BYTES)
        self.epoch += 1
        self.connected = False
        self._activities: dict[str, KeyActivity] = {}
        self.next_write_id = itertools.count(1).__next__
        self.resting: set[object] = set()
        self._bypassing: WeakSet[object] = WeakSet()
        """Weak: ``with bypass_l1()`` may be interrupted at its very end."""
        self._stores = 0
        self.tags.clear()
        self.trail.reset()
        self.siblings = ()
        self.fences.reset()
        if self.sharing is not None:
            self.sharing.use(None)
        self.outage.reset()
        self.vouched_until = NEVER
        """Until when the bus has vouched for what L1 holds."""
        self.trusted_until = self.gate.until = self.outage_gate.until = NEVER
        while self.l1.discard_some(SLICE):
            pass

    # -- what operations use -----------------------------------------------------

    def is_on(self, now: float) -> bool:
        """Return whether L1 may hit and store at ``now``."""
        return (
            now < self.trusted_until
            and self.connected
            and self.enabled
            and not self.resting
        )

    def proven_at(self, trust_s: float) -> float:
        """Return when the heartbeat was sent by which L1 is trusted for so long.

        NEVER while L1 may not answer: also during a fence, and past a bypass.
        """
        if not self.is_on(self.clock()) or self.fences.up or self._bypassing:
            return NEVER
        return self.trusted_until - trust_s

    def is_active(self, key: str) -> bool:
        """Return whether a fill or a write of the key is running."""
        return key in self._activities

    def is_idle(self) -> bool:
        """Return whether no fill and no write is running (I16)."""
        return not self._activities

    def enter_bypass(self, owner: object) -> None:
        """Send every look-up of the process past the fast path, while the owner is."""
        with self.lock:
            self._bypassing.add(owner)
            self.update_gate()

    def leave_bypass(self, owner: object) -> None:
        """Undo ``enter_bypass``; may be repeated."""
        with self.lock:
            self._bypassing.discard(owner)
            self.update_gate()

    def raise_fence(self, number: int, *, is_announced: bool) -> None:
        """Allow no hit until the echo of this number has been handled (I23)."""
        with self.lock:
            if self.connected and number in self.fences.awaited:
                self.fences.up[number] = Fence(self.clock(), is_announced=is_announced)
                self.update_gate()

    def switch(self, *, on: bool) -> None:
        """Turn L1 on or off; off means empty at once."""
        with self.lock:
            if self.enabled == on:
                return
            self.enabled = on
            self.update_gate()
        self.flush("switch")

    # -- what the bus reports ----------------------------------------------------

    def on_subscribed(self) -> None:
        """All subscribe acknowledgements are handled: flush, then be connected."""
        self.flush("subscribe")
        with self.lock:
            self.connected = True
            self.fences.end_before(FOREVER)  # L1 holds nothing from before
            self.update_gate()
        if self.sharing is not None:
            self.sharing.on_subscribed()

    def on_break(self) -> None:
        """Messages may be lost from now on: trust ends, open fills may not store.

        Entries stay, unusable for hits, until the next acknowledgement flushes them.
        Told again while there is no connection, nothing more can be lost: what is being
        loaded during an outage may be kept.
        """
        if self.sharing is not None:
            self.sharing.on_break()
        with self.lock:
            if self.connected or self.trusted_until != NEVER:
                self.connected = False
                self._end_trust()

    def on_heartbeat(self, sent_at: float) -> None:
        """Every message for writes before ``sent_at`` has been handled."""
        if self.fences.up:
            with self.lock:
                self.fences.end_before(sent_at)
                self.update_gate()

    def extend_trust(self, until: float) -> None:
        """Trust L1 until ``until``: every message for earlier writes was handled."""
        with self.lock:
            if self.connected and until > self.trusted_until:
                self.trusted_until = self.vouched_until = until
                self.update_gate()

    def end_trust(self) -> None:
        """Stop trusting L1 until the next proof; open fills may not store."""
        with self.lock:
            self._end_trust()

    def _end_trust(self) -> None:
        self.vouched_until = min(self.vouched_until, self.clock())
        self.trusted_until = NEVER
        self.epoch += 1
        self.update_gate()

    def on_keys(self, origin: bytes, write_id: int, keys: Sequence[str]) -> None:
        """Drop what a writer changed, unless it is the echo of an own known write."""
        own = origin == self.origin
        self.drop_shared(keys)
        with self.lock:
            if own:
                keys = self._not_of_own(write_id, keys)
            look, activities = self.l1.look, self._activities
            for key in keys:
                if look(key) is not None or key in activities:
                    self.trail.note(key, MESSAGE, origin, write_id)
                self.drop(key)
            ends = own and self.echo_proves_all and self.fences
            if ends and self.fences.end(write_id):
                self.update_gate()
        if self.tags.is_used and (stamps := stamps_among(keys)):
            self.on_stamps(stamps)

    def drop_shared(self, keys: Sequence[str]) -> None:
        """Drop keys from what the processes of the host share, and void their fills.

        Always before they leave L1: no read may find there what L1 has lost.
        """
        if self.sharing is not None:
            self.sharing.drop(keys)

    def everywhere(self) -> tuple[Coherence, ...]:
        """Return these rules and their siblings: all whose L1 a change concerns."""
        return (self, *self.siblings)

    # -- single rules, under the lock --------------------------------------------

    def update_gate(self) -> None:
        """Recompute the figures that the hit path compares with the clock."""
        usable = self.enabled and not self.resting and not self._bypassing
        hits = usable and self.connected and not self.fences.up
        trusted_until = self.trusted_until if hits else NEVER
        in_outage = self.outage.is_active
        outage_until = self.outage.until if usable and in_outage else NEVER
        # What L1 takes during an outage is not for caches that raise.
        self.gate.until = NEVER if in_outage else trusted_until
        self.outage_gate.until = max(trusted_until, outage_until)

    def join(self, keys: Iterable[str], member: object) -> list[KeyActivity]:
        """Take part in the keys' activities, opening those that there are not."""
        activities, joined = self._activities, []
        alone = frozenset((member,))
        for key in keys:
            activity = activities.get(key)
            if activity is None:
                activity = activities[key] = KeyActivity(alone)
            else:
                activity.members |= alone
            joined.append(activity)
        return joined

    def leave(self, keys: Iterable[str], member: object) -> None:
        """Part from the keys' activities; the last closes one.  May be repeated."""
        activities = self._activities
        for key in keys:
            activity = activities.get(key)
            if activity is None:
                continue
            members = activity.members
            if member in members:
                activity.members = NONE if len(members) == 1 else members - {member}
            if not activity.members:
                del activities[key]

    def forget_write(self, key: str, write_id: int) -> None:
        """Undo a ``begin_write`` that may have been broken off."""
        self.drop(key)
        activity = self._activities.get(key)
        if activity is not None:
            activity.writes -= {write_id}

    def bump(self, key: str) -> None:
        """Close the open fills of ``key``."""
        activity = self._activities.get(key)
        if activity is not None:
            activity.generation += 1

    def bump_all(self, keys: Iterable[str]) -> None:
        """Close the open fills of all ``keys``."""
        for key in keys:
            self.bump(key)

    def drop(self, key: str) -> None:
        """Remove the entry and close the open fills of the key."""
        if self.l1.look(key) is not None:
            self.l1.pop(key)
        activity = self._activities.get(key)
        if activity is not None:
            activity.generation += 1

    def store_tagged(self, key: str, entry: Entry, tagging: Tagging) -> None:
        """Store an entry that leaves with the stamps that it hangs on."""
        self.tags.note(key, tagging, self.l1.look, len(self.l1))
        self.store(key, grown(entry, len(tagging.stamps)))

    def store(self, key: str, entry: Entry) -> None:
        """Store; what is evicted for it takes its open fills along (I4)."""
        if self.outage.is_active:
            self.outage.note_stored(key)
        evicted = self.l1.put(key, entry)
        if evicted:
            self.bump_all(evicted)
            self.trail.note_all(evicted, EVICTED)
        self._stores += 1
        if not self._stores % STORES_PER_SWEEP:
            self.bump_all(self.l1.sweep(self.clock(), STORES_PER_SWEEP))

    def _not_of_own(self, write_id: int, keys: Iterable[str]) -> list[str]:
        """Return the keys of an echo but those of which L1 reflects this write (I8).

        By write id, never by origin alone: a command that timed out may execute late.
        """
        look, activity_of, others = self.l1.look, self._activities.get, []
        own = {write_id}
        for key in keys:
            entry = look(key)
            if entry is None or entry[WRITE_ID] != write_id:
                activity = activity_of(key)
                if activity is None or activity.writes != own:
                    others.append(key)
        return others

    def fill_token(self, activity: KeyActivity) -> int:
        """Return the token for a fill of the key, none during an own write of it."""
        return NO_TOKEN if activity.writes else activity.generation

    def token_holds(self, activity: KeyActivity, epoch: int, token: int) -> bool:
        """Return whether nothing has happened since the token was taken (I6)."""
        return token == activity.generation and epoch == self.epoch

    def close_straggler(self, key: str, same: Callable[[Entry], bool]) -> None:
        """Handle a fill without its token: drop an entry that is not what it read."""
        entry = self.l1.look(key)
        if entry is not None and not same(entry):
            self.l1.pop(key)
        self.bump(key)

    def begin_write(
        self,
        keys: Iterable[str],
        activities: Iterable[KeyActivity],
        own: frozenset[int],
    ) -> list[tuple[KeyActivity, int]]:
        """While an own write is running L1 has no entry for its keys (I7).

        ``own`` has its id alone.  Returns each activity with the token by which the
        write may store at its end.
        """
        l1, joined = self.l1, []
        look = l1.look
        for key, activity in zip(keys, activities, strict=True):
            if look(key) is not None:
                l1.pop(key)
                self.trail.note(key, OWN_WRITE)
            activity.generation += 1
            if activity.writes:
                activity.writes |= own
                joined.append((activity, NO_TOKEN))
            else:
                activity.writes = own
                joined.append((activity, activity.generation))
        return joined

    def end_write(self, joined: Iterable[tuple[KeyActivity, int]]) -> None:
        """Void fills that began during the write: they may have read either value."""
        for activity, _ in joined:
            activity.generation += 1
