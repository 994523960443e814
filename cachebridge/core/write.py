"""A change of L2, and what becomes of L1 around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from cachebridge.core.entry import by_write, capped
from cachebridge.core.fence import NO_TOKEN, NONE, KeyActivity
from cachebridge.errors import L2Error
from cachebridge.waiting.guard import Guard
from cachebridge.waiting.signals import Signal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cachebridge.core.coherence import Coherence
    from cachebridge.core.dropping.tags import Tagging
    from cachebridge.core.entry import Entry

WITH_OWN_TTLS: Final = 900
"""Keys of one command with TTLs of their own: four words each, and some servers take no
command of more than 3,999."""
MOST_KEY_CHARS: Final = 60_000
"""As many fit into one message, in whatever characters."""
MOST_BYTES: Final = 8 * 1024 * 1024
STRUCK: Final = KeyActivity(frozenset()), NO_TOKEN
"""For a key whose joining was broken off."""


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
        "_own",
        "_rules",
        "_serves_outage",
        "id",
        "keys",
        "origin",
        "sent_at",
        "tagging",
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
        self.tagging: Tagging | None = None
        """What all values hang on that it writes."""

    def __enter__(self) -> Self:
        """See ``Guard``: every write comes here, and a further call costs time."""
        if self._is_taken:
            return self
        try:
            rules = self._rules
            with rules.lock:
                self.sent_at = rules.clock()
                self.id = rules.next_write_id()
                self.origin = rules.origin
                self._epoch = rules.epoch
                activities = rules.join(self.keys, self)
                self._own = frozenset((self.id,))
                self._joined = rules.begin_write(self.keys, activities, self._own)
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
        rules.drop_shared(self.keys)
        offered = self._entries
        with rules.lock:
            if error is None:
                on = bool(offered) and rules.is_on(rules.clock())
            elif on := self._leaves_outage_entries(error):
                latest = self.sent_at + rules.outage.ttl_s
                offered = {key: capped(offered[key], latest) for key in offered}
            l1, own = rules.l1, self._own
            may_store = on and self._epoch == rules.epoch
            if (tagging := self.tagging) is not None:
                may_store = may_store and rules.tags.holds(tagging)
            for key, (activity, token) in zip(self.keys, self._joined, strict=True):
                others = NONE if activity.writes is own else activity.writes - own
                activity.writes = others
                # ``rules.token_holds``, written out: a call takes as long as the rest.
                if (
                    may_store
                    and not others
                    and token == activity.generation
                    and key in offered
                ):
                    if tagging is None:
                        rules.store(key, offered[key])
                    else:
                        rules.store_tagged(key, offered[key], tagging)
                elif l1.look(key) is not None:
                    l1.pop(key)
            rules.end_write(self._joined)
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


class StampWrite(Write):
    """A write of stamps: what hangs on them leaves L1 before it, and at its end."""

    __slots__ = ()

    def __enter__(self) -> Self:
        """See ``Guard``."""
        if not self._is_taken:
            self._rules.on_stamps(self.keys)
        return super().__enter__()

    def __exit__(self, kind: object, error: BaseException | None, tb: object) -> None:
        """See ``Guard``."""
        if not self._is_over:
            self._rules.on_stamps(self.keys)
        super().__exit__(kind, error, tb)


class QueuedWrite(Write):
    """A write whose callers have gone on: keys join one by one, and are sent later.

    From its joining on L1 serves a key's last value, and the write counts as running:
    no fill of the key may store what L2 still has.  Keys join between ``begin`` and
    ``seal``, under the lock of the queue; then ``with write, write`` is around the
    sending.
    """

    __slots__ = (
        "_is_sending",
        "_key_chars",
        "_size",
        "_tokens",
        "_values",
        "is_sealed",
        "sent",
    )

    def __init__(self, rules: Coherence, *, serves_outage: bool) -> None:
        super().__init__(rules, [], serves_outage=serves_outage)
        self._values: dict[str, tuple[bytes, float | None]] = {}
        self._tokens: dict[str, tuple[KeyActivity, int]] = {}
        self._size = self._key_chars = 0
        self.is_sealed = self._is_sending = False
        self.sent = Signal()
        """Set when the write is over, whether it has succeeded or not."""

    def begin(self) -> Self:
        """Take part in the rules from now on."""
        return self.__enter__()

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys."""
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def has_room(self, key: str, raw: bytes) -> bool:
        """Return whether the key can join, with this value."""
        size = self._size + len(raw)
        if key in self._values:
            return size - len(self._values[key][0]) <= MOST_BYTES
        return not self._tokens or (
            len(self._tokens) < WITH_OWN_TTLS
            and self._key_chars + len(key) <= MOST_KEY_CHARS
            and size <= MOST_BYTES
        )

    def join(
        self, key: str, raw: bytes, ends: float | None, entry: Entry | None
    ) -> None:
        """Let a key join, or replace its value; L1 serves the entry from now on.

        ``ends`` is when the value's TTL is over, by the clock of the rules.
        """
        rules = self._rules
        with rules.lock:
            if key in self._values:
                self._size -= len(self._values[key][0])
            else:
                self._key_chars += len(key)
            self._size += len(raw)
            self._values[key] = raw, ends
            self._tokens.setdefault(key, STRUCK)
            (activity,) = activities = rules.join((key,), self)
            self._tokens[key] = activity, NO_TOKEN
            rules.begin_write((key,), activities, self._own)
            self._entries.pop(key, None)
            is_alone = activity.writes == self._own and rules.epoch == self._epoch
            token = activity.generation if is_alone else NO_TOKEN
            self._tokens[key] = activity, token
            if entry is not None:
                self._entries[key] = entry = by_write(entry, self.id)
                if is_alone and rules.is_on(rules.clock()):
                    rules.store(key, entry)

    def seal(self) -> None:
        """Let no more keys join."""
        self.is_sealed = True
        self.keys = list(self._tokens)
        self._joined = list(self._tokens.values())

    def withdraw(self, key: str) -> bool:
        """Take a value back; return False if there is none, or it is being sent.

        The key stays: it leaves L1 with the others.
        """
        with self._rules.lock:
            if self._is_sending or key not in self._values:
                return False
            self._size -= len(self._values.pop(key)[0])
            self._entries.pop(key, None)
            return True

    def begin_sending(self) -> None:
        """From now on nothing can be withdrawn."""
        with self._rules.lock:
            self._is_sending = True

    @property
    def is_over(self) -> bool:
        """Whether its sending has come to an end, perhaps by an interrupt."""
        return self._is_over

    def begin_another(self) -> QueuedWrite:
        """Begin a write of the same kind."""
        return QueuedWrite(self._rules, serves_outage=self._serves_outage).begin()

    def move(self, key: str, to: QueuedWrite) -> None:
        """Leave a value to another write, which takes no further ones."""
        to.join(key, *self._values[key], self._entries.get(key))
        to.seal()
        del self._values[key]

    def over(self, now: float) -> list[str]:
        """Return the keys whose TTL, which began at the call, is over."""
        ends = self._values.items()
        return [key for key, (_, end) in ends if end is not None and end <= now]

    def items(
        self, now: float
    ) -> tuple[list[tuple[str, bytes]], int | list[int] | None]:
        """Return the other values, and what is left of the TTLs: of all, or none."""
        items, left = [], []
        for key, (raw, end) in self._values.items():
            if end is None or end > now:
                items.append((key, raw))
            if end is not None and end > now:
                left.append(max(1, round((end - now) * 1000)))
        return items, left if len(left) > 1 else left[0] if left else None
