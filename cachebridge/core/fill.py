"""A read of L2 whose values may enter L1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from cachebridge.core.dropping.trail import REFUSED
from cachebridge.core.entry import EXPIRES, capped, is_expired
from cachebridge.core.fence import NO_TOKEN
from cachebridge.waiting.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cachebridge.core.coherence import Coherence
    from cachebridge.core.dropping.tags import Tagging
    from cachebridge.core.entry import Entry
    from cachebridge.core.fence import KeyActivity
    from cachebridge.core.host.sharing import Found, Token


def differs(_entry: Entry) -> bool:
    """Return False: no two values are known to be the same."""
    return False


class Fill(Guard):
    """A read of distinct keys of L2, whose values may be stored in L1.

    A guard: ``with fill, fill``.  Take ``sent_at`` as the time from which TTLs count.
    Call ``store`` or ``refuse`` once per key that was read, then leave.
    """

    __slots__ = (
        "_epoch",
        "_joined",
        "_keys",
        "_offered",
        "_rules",
        "_serves_outage",
        "_taggings",
        "_tokens",
        "sent_at",
    )

    def __init__(
        self, rules: Coherence, keys: Sequence[str], *, serves_outage: bool = False
    ) -> None:
        self._is_taken = self._is_over = False
        self._rules = rules
        self._keys = keys
        self._serves_outage = serves_outage
        self._taggings: dict[str, Tagging] | None = None
        self._offered: dict[str, bytes] = {}
        self._tokens: dict[str, Token] | None = None
        """By which it may store in what the host's processes share, if they do."""

    def offer(self, key: str, raw: bytes | None) -> None:
        """Say which bytes of L2 are stored next: other processes may have them, too."""
        if self._tokens is not None and raw is not None:
            self._offered[key] = raw

    def take_shared(self, key: str) -> Found | None:
        """Return what the host's processes share in place of L2's answer, if they do.

        L2 is not asked then, and so what is stored is not news to them.
        """
        sharing = self._rules.sharing
        found = None if sharing is None else sharing.look_for_fill(key)
        if found is not None:
            self._tokens = None
        return found

    def _share(self, key: str, expires: float) -> None:
        """Tell the other processes of the host what L2 has answered."""
        rules, tokens = self._rules, self._tokens
        if tokens is None or rules.sharing is None:
            return
        token, pending = tokens.get(key), rules.outage.pending_deletes
        if (
            rules.epoch != self._epoch
            or rules.outage.is_active
            or (pending is not None and pending.may_be)
            or not rules.is_on(rules.clock())
        ):
            token = None
        raw = self._offered.pop(key, None)
        if self._taggings is not None and key in self._taggings:
            raw = None  # it leaves with its stamps, of which they know nothing
        rules.sharing.settle(key, raw, expires, token)

    def tag(self, key: str, tagging: Tagging) -> None:
        """Say what the value hangs on that is stored next for this key."""
        if self._taggings is None:
            self._taggings = {}
        self._taggings[key] = tagging

    def __enter__(self) -> Self:
        """See ``Guard``: every read of L2 comes here, and a further call costs time."""
        if self._is_taken:
            return self
        try:
            rules = self._rules
            self.sent_at = now = rules.clock()
            joined: dict[str, tuple[KeyActivity, int]] = {}
            self._joined = joined
            if (sharing := rules.sharing) is not None:
                self._tokens = sharing.tokens(self._keys) if rules.is_on(now) else {}
            with rules.lock:
                self._epoch = rules.epoch
                may_store = self._is_open(now)
                keys, look = self._keys, rules.l1.look
                activities = rules.join(keys, self)
                for key, activity in zip(keys, activities, strict=True):
                    entry = look(key)
                    if entry is not None and is_expired(entry, now):
                        rules.drop(key)
                    token = rules.fill_token(activity) if may_store else NO_TOKEN
                    joined[key] = (activity, token)
        except BaseException:
            self.__exit__()
            raise
        self._is_taken = True
        return self

    def _is_open(self, now: float) -> bool:
        """Return whether L1 takes anything: while trusted, or as an outage entry."""
        rules = self._rules
        return rules.is_on(now) or (
            self._serves_outage and rules.outage.takes_entries()
        )

    def store(
        self, key: str, entry: Entry, same: Callable[[Entry], bool] = differs
    ) -> None:
        """Store what L2 answered, if nothing happened meanwhile.

        ``same`` tells whether an entry that is already there holds this very value;
        two fills with different values cannot be ordered, so neither stays.
        """
        rules = self._rules
        if self._tokens is not None:
            self._share(key, entry[EXPIRES])
        pending = rules.outage.pending_deletes
        with rules.lock:
            now = rules.clock()
            is_on = rules.is_on(now)
            may_store = is_on or (self._serves_outage and rules.outage.takes_entries())
            if pending is not None and pending.may_be and pending.concern((key,)):
                may_store = False  # a delete is pending: then L2's answer is old
            self._store(key, entry, same, is_on=is_on, may_store=may_store)

    def keep_for_outage(
        self, key: str, entry: Entry, same: Callable[[Entry], bool] = differs
    ) -> None:
        """Store what L2 knows nothing of: only in an outage, whose end flushes it.

        Otherwise L1 would be trusted with it.  What was known before must go in any
        case: the caller has seen something newer.  A pending delete of the key does not
        matter: it came before this fill was opened, or has voided it.
        """
        rules = self._rules
        if self._tokens is not None:
            self._share(key, 0.0)
        with rules.lock:
            if self._serves_outage and rules.outage.takes_entries():
                is_on = rules.is_on(rules.clock())
                self._store(key, entry, same, is_on=is_on, may_store=True)
            else:
                rules.drop(key)

    def _store(
        self,
        key: str,
        entry: Entry,
        same: Callable[[Entry], bool],
        *,
        is_on: bool,
        may_store: bool,
    ) -> None:
        """Store an entry, if L1 takes it and nothing happened; under the lock."""
        rules = self._rules
        activity, token = self._joined[key]
        tagging = None if self._taggings is None else self._taggings.get(key)
        if not is_on:
            entry = capped(entry, self.sent_at + rules.outage.ttl_s)
        if token == NO_TOKEN or not may_store:
            rules.close_straggler(key, same)
            rules.counters.fills_refused["off"] += 1
            rules.trail.note(key, REFUSED["off"])
        elif not rules.token_holds(activity, self._epoch, token):
            rules.close_straggler(key, same)
            rules.counters.fills_refused["token"] += 1
            rules.trail.note(key, REFUSED["token"])
        elif tagging is not None:
            self._store_tagged(key, entry, same, tagging)
        elif (present := rules.l1.look(key)) is None:
            rules.store(key, entry)
        elif not same(present):
            rules.drop(key)
            rules.counters.fills_refused["conflict"] += 1
            rules.trail.note(key, REFUSED["conflict"])

    def _store_tagged(
        self,
        key: str,
        entry: Entry,
        same: Callable[[Entry], bool],
        tagging: Tagging,
    ) -> None:
        """Store an entry unless a stamp has changed since it was compared."""
        rules = self._rules
        present = rules.l1.look(key)
        if not rules.tags.holds(tagging):
            rules.close_straggler(key, same)
            rules.counters.fills_refused["tags"] += 1
            rules.trail.note(key, REFUSED["tags"])
        elif present is None or same(present):
            rules.store_tagged(key, entry, tagging)
        else:
            rules.drop(key)
            rules.counters.fills_refused["conflict"] += 1
            rules.trail.note(key, REFUSED["conflict"])

    def refuse(self, key: str) -> None:
        """Note that L2 gave nothing to store: what was known before may be older."""
        rules = self._rules
        if self._tokens is not None:
            self._offered.pop(key, None)
            self._share(key, 0.0)
        with rules.lock:
            rules.drop(key)

    def __exit__(self, *_error: object) -> None:
        """See ``Guard``."""
        if self._is_over:
            return
        rules = self._rules
        with rules.lock:
            rules.leave(self._keys, self)
        self._is_over = True
