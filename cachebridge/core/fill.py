"""A read of L2 whose values may enter L1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from cachebridge.core.coherence import NO_TOKEN
from cachebridge.core.entry import capped, is_expired

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cachebridge.core.coherence import Coherence, Flight
    from cachebridge.core.entry import Entry


def differs(_entry: Entry) -> bool:
    """Say that no two values are known to be the same."""
    return False


class Fill:
    """A read of distinct keys of L2, whose values may be stored in L1.

    A context manager.  Take ``sent_at`` as the time from which TTLs count.  Call
    ``store`` or ``refuse`` once per key that was read, then leave.  A fill that is not
    ``storable`` still tells the others what it has seen.
    """

    __slots__ = (
        "_epoch",
        "_joined",
        "_keys",
        "_rules",
        "_serves_outage",
        "_storable",
        "sent_at",
    )

    def __init__(
        self,
        rules: Coherence,
        keys: Sequence[str],
        *,
        storable: bool = True,
        serves_outage: bool = False,
    ) -> None:
        self._rules = rules
        self._keys = keys
        self._storable = storable
        self._serves_outage = serves_outage

    def __enter__(self) -> Self:
        rules = self._rules
        self.sent_at = now = rules.clock()
        joined: dict[str, tuple[Flight, int]] = {}
        with rules.lock:
            self._epoch = rules.epoch
            may_store = self._storable and self._is_open(now)
            for key in self._keys:
                flight = rules.join(key)
                entry = rules.l1.peek(key)
                if entry is not None and is_expired(entry, now):
                    rules.drop(key)
                token = rules.fill_token(flight) if may_store else NO_TOKEN
                joined[key] = (flight, token)
        self._joined = joined
        return self

    def _is_open(self, now: float) -> bool:
        """Tell whether L1 takes anything: while trusted, or as an outage entry."""
        rules = self._rules
        return rules.is_on(now) or (self._serves_outage and rules.takes_outage_entry())

    def _is_doubted(self, key: str) -> bool:
        """Tell whether L2 is owed a delete of the key: what it answers is old."""
        doubts = self._rules.doubts
        return bool(doubts) and doubts.concern((key,))

    def store(
        self, key: str, entry: Entry, same: Callable[[Entry], bool] = differs
    ) -> None:
        """Store what L2 answered, if nothing happened meanwhile.

        ``same`` tells whether an entry that is already there holds this very value;
        two fills with different values cannot be ordered, so neither stays.
        """
        rules = self._rules
        flight, token = self._joined[key]
        with rules.lock:
            now = rules.clock()
            if not rules.is_on(now):
                entry = capped(entry, self.sent_at + rules.outage_ttl_s)
            if token == NO_TOKEN or not self._is_open(now) or self._is_doubted(key):
                rules.close_straggler(key, same)
                rules.counters.fills_refused_off += 1
            elif not rules.token_holds(flight, self._epoch, token):
                rules.close_straggler(key, same)
                rules.counters.fills_refused_token += 1
            elif (present := rules.l1.peek(key)) is None:
                rules.store(key, entry)
            elif not same(present):
                rules.drop(key)
                rules.counters.fills_refused_conflict += 1

    def keep_for_outage(
        self, key: str, entry: Entry, same: Callable[[Entry], bool] = differs
    ) -> None:
        """Store what L2 knows nothing of: only in an outage, whose end flushes it.

        Otherwise L1 would be trusted with it.  What was known before must go in any
        case: the caller has seen something newer.
        """
        if self._rules.takes_outage_entry():
            self.store(key, entry, same)
        else:
            self.refuse(key)

    def refuse(self, key: str) -> None:
        """Note that L2 gave nothing to store: what was known before may be older."""
        rules = self._rules
        with rules.lock:
            rules.drop(key)

    def __exit__(self, *_exc: object) -> None:
        rules = self._rules
        with rules.lock:
            for key, (flight, _) in self._joined.items():
                rules.leave(key, flight)
