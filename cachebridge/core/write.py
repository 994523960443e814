"""A change of L2, and what becomes of L1 around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cachebridge.core.coherence import Coherence
    from cachebridge.core.entry import Entry


class Write:
    """A changing call of L2: a context manager.

    Send its ``origin`` and ``id`` in the message.  Call ``store`` for each key whose
    final value and TTL the caller knows; everything else leaves L1, and on any error
    every key does, because the outcome is unknown.
    """

    __slots__ = (
        "_alone",
        "_entries",
        "_epoch",
        "_rules",
        "_tokens",
        "id",
        "keys",
        "origin",
        "sent_at",
    )

    published = True

    def __init__(self, rules: Coherence, keys: Sequence[str]) -> None:
        self._rules = rules
        self.keys = keys

    def __enter__(self) -> Write:
        rules = self._rules
        self._entries: dict[str, Entry] = {}
        self._tokens: dict[str, int] = {}
        self._alone: set[str] = set()
        with rules.lock:
            self.sent_at = rules.clock()
            self.id = rules.next_write_id()
            self.origin = rules.origin
            self._epoch = rules.epoch
            for key in self.keys:
                flight = rules.join(key)
                if not flight.writes:
                    self._alone.add(key)
                rules.begin_write(key, flight, self.id)
                self._tokens[key] = flight.generation
        return self

    def store(self, key: str, entry: Entry) -> None:
        """Offer the entry to L1; it is taken at the end if nothing interfered."""
        self._entries[key] = entry

    def __exit__(self, exc_type: object, *_exc: object) -> None:
        rules = self._rules
        entries = {} if exc_type is not None else self._entries
        with rules.lock:
            on = bool(entries) and rules.is_on(rules.clock())
            for key in self.keys:
                flight = rules._flights[key]
                flight.writes.discard(self.id)
                clean = (
                    on
                    and key in entries
                    and key in self._alone
                    and not flight.writes
                    and rules.token_holds(flight, self._epoch, self._tokens[key])
                )
                rules.end_write(key)
                if clean:
                    rules.store(key, entries[key])
                else:
                    rules.l1.pop(key)
                rules.leave(key)
