"""The rules of one L1 per host: bytes of L2 that processes share, between L1 and L2.

Only fills store into it, and nothing in it belongs to a living process.  Each process
that reads it applies every message to it first and to its own L1 afterwards, and so
depends on no other process but for what came before its own subscription: a *guardian*
has proven that this was applied.  ``docs/decisions/0025-host-l1.md`` has the fifteen
rules with what goes wrong without each.

Every method is thread safe.  What has to take the store's lock waits for it for
``PATIENCE_S`` at most; a process that keeps it longer has been stopped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cachebridge.core.entry import L1
    from cachebridge.core.fence import Gate
    from cachebridge.core.outage import PendingKeys

PATIENCE_S: Final = 0.05
SLICE: Final = 32
"""Keys that are dropped before other processes may have the lock."""
REMEMBERED: Final = 4096
"""Keys of which a first read is remembered, a power of two."""
LOCAL_CAUSES: Final = frozenset({"subscribe", "stop", "switch", "outage"})
"""Why a process empties its own L1 alone."""

Found = tuple[float, bytes]
"""When the bytes expire, by the monotonic clock, and the bytes of L2."""
Token = tuple[int, int]


class Held(Protocol):
    """A guard that takes the lock of the store, if that can be had in time."""

    @property
    def is_held(self) -> bool:
        """Whether it could be had."""

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: object, error: BaseException | None, traceback: object
    ) -> None: ...


class MayBePending(Protocol):
    """Knows of such deletes."""

    @property
    def pending_deletes(self) -> PendingKeys | None:
        """Return them."""


class OwnL1(Protocol):
    """What is needed of the rules of this process's own L1."""

    l1: L1
    gate: Gate
    clock: Callable[[], float]

    @property
    def outage(self) -> MayBePending:
        """What an outage has left."""

    def is_active(self, key: str) -> bool:
        """Return whether a fill or a write of the key is running."""


class SharedBytes(Protocol):
    """What the rules need of the store; the second half is called under its lock."""

    @property
    def epoch(self) -> int:
        """How often everything was dropped."""

    @property
    def proven_at(self) -> float:
        """Every message for writes before this time was applied here."""

    def look(self, key: str) -> Found | None:
        """Return the entry, expired or not."""

    def token(self, key: str) -> Token:
        """Return what changes when the key is dropped, or everything is."""

    def hold(self, patience_s: float) -> Held:
        """Return a guard that takes the lock."""

    def prove(self, sent_at: float) -> None:
        """Raise ``proven_at``; needs no lock, since too low a value does no harm."""

    def put(self, key: str, value: bytes, expires: float) -> bool:
        """Store bytes in place of the present ones."""

    def drop(self, key: str) -> None:
        """Remove the entry, and void the open fills of the key."""

    def flush(self) -> None:
        """Remove everything, and void all open fills."""


class Sharing:
    """What one engine may do with the shared store, and has to."""

    def __init__(self, rules: OwnL1, *, patience_s: float) -> None:
        """``patience_s``: how long a process waits for a proof of another's."""
        self._rules = rules
        self._patience_s = patience_s
        self._first_reads = [0] * REMEMBERED
        self.store: SharedBytes | None = None
        """None while there is none, or the server is not known."""
        self.is_guardian = False
        """Whether the store has heard all that came before the own subscription."""
        self._owes = False
        """Whether a drop could not be carried out: then all must go."""
        self._joined_at = 0.0
        self._epoch = 0

    @property
    def is_trusted(self) -> bool:
        """Whether this process may read the store, as far as the store is concerned."""
        return self.is_guardian and not self._owes and self.store is not None

    # -- the subscription --------------------------------------------------------------

    def use(self, store: SharedBytes | None) -> None:
        """Use the store of another server from now on, or none."""
        self.is_guardian = False
        self._owes = False
        self.store = store

    def on_subscribed(self) -> None:
        """Messages are heard from now on; what came before is not known."""
        self.is_guardian = False
        if (store := self.store) is not None:
            self._epoch = store.epoch
            self._joined_at = self._rules.clock()

    def on_break(self) -> None:
        """Messages may be missed: the others go on with the store (rule 8)."""
        self.is_guardian = False

    def on_proof(self, sent_at: float) -> None:
        """Every message for writes before ``sent_at`` has been handled here."""
        store = self.store
        if store is None:
            return
        if self._owes:
            self._begin_anew(store)
        elif self.is_guardian:
            store.prove(sent_at)
        elif store.epoch != self._epoch:
            self.is_guardian = True  # emptied since the subscription
        elif store.proven_at > self._joined_at:
            self.is_guardian = True
        elif self._is_alone(store):
            self._begin_anew(store)

    def _is_alone(self, store: SharedBytes) -> bool:
        """Return whether there is no guardian who could prove anything."""
        joined_at, patience_s = self._joined_at, self._patience_s
        was_alone = store.proven_at + patience_s <= joined_at
        return was_alone or self._rules.clock() >= joined_at + patience_s

    def _begin_anew(self, store: SharedBytes) -> None:
        """Empty the store, and be its first guardian (rule 11)."""
        now = self._rules.clock()
        self._owes = False
        if self._flush(store):
            self._epoch = store.epoch
            store.prove(now)
            self.is_guardian = True

    # -- reading -----------------------------------------------------------------------

    def look(self, key: str) -> Found | None:
        """Return what may answer a read without a flight (rule 6)."""
        rules = self._rules
        hit_until = rules.gate.until  # before the entry, as in ``local_get``
        found = self.look_for_fill(key)
        if found is None or rules.clock() >= hit_until or self._is_open(key):
            return None
        return found

    def _is_open(self, key: str) -> bool:
        """Return whether this process may know something newer than the store.

        First a running fill or write, then what it has left.
        """
        rules = self._rules
        pending = rules.outage.pending_deletes
        return (
            rules.is_active(key)
            or rules.l1.look(key) is not None
            or (pending is not None and pending.may_be)
        )

    def look_for_fill(self, key: str) -> Found | None:
        """Return what may take the place of L2's answer in a fill that is open."""
        rules, store = self._rules, self.store
        if store is None or not self.is_trusted:
            return None
        now = rules.clock()
        if now >= rules.gate.until:
            return None
        found = store.look(key)
        return None if found is None or now >= found[0] else found

    def is_second(self, key: str) -> bool:
        """Return whether the key was read here a while ago: L1 should have it."""
        name = hash(key)
        index = name & REMEMBERED - 1
        if self._first_reads[index] == name:
            return True
        self._first_reads[index] = name
        return False

    # -- fills -------------------------------------------------------------------------

    def tokens(self, keys: Iterable[str]) -> dict[str, Token]:
        """Return by what the fills of these keys may store, before L2 is asked."""
        store = self.store
        return {} if store is None else {key: store.token(key) for key in keys}

    def settle(
        self, key: str, raw: bytes | None, expires: float, token: Token | None
    ) -> None:
        """Store what L2 answered, if nothing has happened since the token was taken.

        Without ``raw`` or ``token`` it must not be stored, whatever has happened.
        """
        store = self.store
        if store is None:
            return
        with (hold := store.hold(self._own_patience_s())), hold:
            if hold.is_held:
                self._settle(store, key, raw, expires, token)
            else:
                self._owes = True

    def _settle(
        self,
        store: SharedBytes,
        key: str,
        raw: bytes | None,
        expires: float,
        token: Token | None,
    ) -> None:
        """See ``settle``; under the lock of the store (rules 2 and 3)."""
        present = store.look(key)
        if raw is None or token is None or token != store.token(key):
            if present is None or present[1] != raw:
                store.drop(key)
        elif present is None:
            store.put(key, raw, expires)
        elif present[1] != raw:  # which is newer cannot be known
            store.drop(key)
        elif present[0] <= self._rules.clock():
            store.put(key, raw, expires)

    # -- what removes ------------------------------------------------------------------

    def drop(self, keys: Sequence[str]) -> None:
        """Remove the keys and void their open fills: for messages and own writes.

        If the lock cannot be had, this process trusts the store no more until it has
        emptied it (rule 14).
        """
        store = self.store
        if store is None:
            return
        for start in range(0, len(keys), SLICE):
            with (hold := store.hold(self._own_patience_s())), hold:
                if hold.is_held:
                    for key in keys[start : start + SLICE]:
                        store.drop(key)
                else:
                    self._owes = True

    def _own_patience_s(self) -> float:
        """Return how long to wait: not again, as long as the lock cannot be had."""
        return 0.0 if self._owes else PATIENCE_S

    def flush(self, cause: str) -> None:
        """Remove everything, unless the cause concerns this process's L1 alone."""
        store = self.store
        if store is not None and cause not in LOCAL_CAUSES:
            self._flush(store)

    def _flush(self, store: SharedBytes) -> bool:
        with (hold := store.hold(PATIENCE_S)), hold:
            if hold.is_held:
                store.flush()
                return True
        self._owes = True
        return False
