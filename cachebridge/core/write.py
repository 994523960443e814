"""A change of L2, and what becomes of L1 around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from cachebridge.core.coherence import NO_TOKEN
from cachebridge.core.entry import capped
from cachebridge.errors import L2Error

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cachebridge.core.coherence import Coherence, Flight
    from cachebridge.core.entry import Entry


class Write:
    """A changing call of L2: a context manager.

    Send its ``origin`` and ``id`` in the message.  Call ``store`` for each key whose
    final value and TTL the caller knows; everything else leaves L1, and on any error
    every key does, because the outcome is unknown.  If that error is an outage, and the
    cache ``serves_outage``, what was offered serves this process until L2 is back.
    """

    __slots__ = (
        "_entries",
        "_epoch",
        "_joined",
        "_rules",
        "_serves_outage",
        "id",
        "keys",
        "origin",
        "sent_at",
    )

    def __init__(
        self, rules: Coherence, keys: Sequence[str], *, serves_outage: bool = False
    ) -> None:
        self._rules = rules
        self._serves_outage = serves_outage
        self.keys = keys
        self._entries: dict[str, Entry] = {}

    def __enter__(self) -> Self:
        rules = self._rules
        joined: list[tuple[Flight, int]] = []
        with rules.lock:
            self.sent_at = rules.clock()
            self.id = rules.next_write_id()
            self.origin = rules.origin
            self._epoch = rules.epoch
            for key in self.keys:
                flight = rules.join(key)
                alone = not flight.writes
                rules.begin_write(key, flight, self.id)
                joined.append((flight, flight.generation if alone else NO_TOKEN))
        self._joined = joined
        return self

    def store(self, key: str, entry: Entry) -> None:
        """Offer the entry to L1; it is taken at the end if nothing interfered.

        Offered before the call of L2, it is there for an outage to take.
        """
        self._entries[key] = entry

    def forgo_outage(self) -> None:
        """If L2 fails, leave nothing: another write may be newer than this."""
        self._serves_outage = False

    def withdraw(self, keys: Iterable[str] | None = None) -> None:
        """Take back what was offered, or these keys: they have not been written."""
        for key in list(self._entries) if keys is None else keys:
            self._entries.pop(key, None)

    def __exit__(self, exc_type: type[BaseException] | None, *_exc: object) -> None:
        rules = self._rules
        offered = self._entries
        with rules.lock:
            if exc_type is None:
                on = bool(offered) and rules.is_on(rules.clock())
            elif on := self._leaves_outage_entries(exc_type):
                latest = self.sent_at + rules.outage_ttl_s
                offered = {key: capped(offered[key], latest) for key in offered}
            for key, (flight, token) in zip(self.keys, self._joined, strict=True):
                flight.writes.discard(self.id)
                entry = offered.get(key) if on and not flight.writes else None
                clean = rules.token_holds(flight, self._epoch, token)
                rules.end_write(flight)
                if entry is not None and clean:
                    rules.store(key, entry)
                else:
                    rules.remove(key)
                rules.leave(key, flight)

    def _leaves_outage_entries(self, exc_type: type[BaseException]) -> bool:
        return (
            self._serves_outage
            and issubclass(exc_type, L2Error)
            and self._rules.takes_outage_entry()
        )
