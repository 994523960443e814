"""A change of L2, and what becomes of L1 around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from cachebridge.core.coherence import NO_TOKEN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cachebridge.core.coherence import Coherence, Flight
    from cachebridge.core.entry import Entry


class Write:
    """A changing call of L2: a context manager.

    Send its ``origin`` and ``id`` in the message.  Call ``store`` for each key whose
    final value and TTL the caller knows; everything else leaves L1, and on any error
    every key does, because the outcome is unknown.
    """

    __slots__ = (
        "_entries",
        "_epoch",
        "_joined",
        "_rules",
        "id",
        "keys",
        "origin",
        "sent_at",
    )

    def __init__(self, rules: Coherence, keys: Sequence[str]) -> None:
        self._rules = rules
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
        """Offer the entry to L1; it is taken at the end if nothing interfered."""
        self._entries[key] = entry

    def __exit__(self, exc_type: object, *_exc: object) -> None:
        rules = self._rules
        offered = {} if exc_type is not None else self._entries
        with rules.lock:
            on = bool(offered) and rules.is_on(rules.clock())
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
