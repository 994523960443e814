"""A change of L2, and what becomes of L1 around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from cachebridge.core.coherence import NO_TOKEN
from cachebridge.core.entry import capped
from cachebridge.errors import L2Error
from cachebridge.waiting.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cachebridge.core.coherence import Coherence, KeyActivity
    from cachebridge.core.entry import Entry


class Write(Guard):
    """A changing call of L2, a guard: ``with write, write``.

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
        self._is_taken = self._is_over = False
        self._rules = rules
        self.id = 0
        self._serves_outage = serves_outage
        self.keys = keys
        self._entries: dict[str, Entry] = {}

    def __enter__(self) -> Self:
        """See ``Guard``: every write comes here, and a further call costs time."""
        if self._is_taken:
            return self
        try:
            rules = self._rules
            joined: list[tuple[KeyActivity, int]] = []
            with rules.lock:
                self.sent_at = rules.clock()
                self.id = rules.next_write_id()
                self.origin = rules.origin
                self._epoch = rules.epoch
                activities = rules.join(self.keys, self)
                for key, activity in zip(self.keys, activities, strict=True):
                    alone = not activity.writes
                    rules.begin_write(key, activity, self.id)
                    token = activity.generation if alone else NO_TOKEN
                    joined.append((activity, token))
            self._joined = joined
        except BaseException:
            self._undo()
            raise
        self._is_taken = True
        return self

    def stage(self, key: str, entry: Entry) -> None:
        """Offer the entry to L1; it is taken at the end if nothing interfered.

        Offered before the call of L2, it is there for an outage to take.
        """
        self._entries[key] = entry

    def discard_on_outage(self) -> None:
        """If L2 fails, leave nothing: another write may be newer than this."""
        self._serves_outage = False

    def unstage(self, keys: Iterable[str] | None = None) -> None:
        """Take back what was offered, or these keys: they have not been written."""
        for key in list(self._entries) if keys is None else keys:
            self._entries.pop(key, None)

    def __exit__(self, _kind: object, error: BaseException | None, _tb: object) -> None:
        """See ``Guard``."""
        if self._is_over:
            return
        rules = self._rules
        offered = self._entries
        with rules.lock:
            if error is None:
                on = bool(offered) and rules.is_on(rules.clock())
            elif on := self._leaves_outage_entries(error):
                latest = self.sent_at + rules.outage.ttl_s
                offered = {key: capped(offered[key], latest) for key in offered}
            l1, write_id, epoch = rules.l1, self.id, self._epoch
            for key, (activity, token) in zip(self.keys, self._joined, strict=True):
                activity.writes.discard(write_id)
                entry = offered.get(key) if on and not activity.writes else None
                clean = rules.token_holds(activity, epoch, token)
                rules.end_write(activity)
                if entry is not None and clean:
                    rules.store(key, entry)
                elif l1.look(key) is not None:
                    l1.pop(key)
            rules.leave(self.keys, self)
        for sibling in rules.siblings:
            sibling.on_keys(self.origin, self.id, self.keys)
        self._is_over = True

    def _undo(self) -> None:
        """Undo a beginning that was broken off."""
        rules = self._rules
        with rules.lock:
            for key in self.keys:
                rules.forget_write(key, self.id)
            rules.leave(self.keys, self)

    def _leaves_outage_entries(self, error: BaseException) -> bool:
        return (
            self._serves_outage
            and isinstance(error, L2Error)
            and self._rules.outage.takes_entries()
        )


class UnheldWrite(Write):
    """A write of keys whose values never enter L1, which may hold something of them.

    L1 remembers refusals of counters under their keys: every process has to drop them.
    """

    __slots__ = ()

    def stage(self, key: str, entry: Entry) -> None:
        """Offer nothing."""
