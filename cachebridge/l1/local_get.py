"""How L1 is read: the look-up that serves a hit, and every other read.

A hit takes no lock, one clock read and two dictionary reads.
"""

from __future__ import annotations

from contextlib import ContextDecorator, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

from cachebridge.core.entry import EXPIRES, KIND, MISSING, PAYLOAD, Entry, is_expired
from cachebridge.waiting.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextvars import Token

    from cachebridge.core.coherence import Coherence
    from cachebridge.core.entry import Missing
    from cachebridge.core.fence import Gate
    from cachebridge.l1.copies import CopyRules
    from cachebridge.l1.store import L1Store
    from cachebridge.stats import Counters

_bypass: ContextVar[ref[Bypass] | None] = ContextVar("cachebridge_bypass", default=None)


def make_local_get(
    aliases: dict[str, str],
    store: L1Store,
    *,
    gate: Gate,
    clock: Callable[[], float],
    copies: CopyRules,
    counters: Counters,
) -> Callable[[str], Any | Missing]:
    """Make the function ``local_get(key) -> value or MISSING`` for callers' short keys.

    ``aliases`` maps a short key to the full one; a key that is not in it misses.  The
    function is a closure because its variables are read faster than attributes.
    """
    table = store.table
    note = store.note
    by_reference = copies.by_reference
    template = copies.template
    value_of = copies.value_of

    def local_get(key: str) -> Any | Missing:
        # Before the entry: the listener may flush L1 and open the gate in between, and
        # an entry that was read while L1 was off must not become a hit.
        hit_until = gate.until
        try:
            full_key = aliases[key]
            expires, kind, value, _, _ = entry = table[full_key]
        except KeyError:
            return MISSING
        now = clock()
        if now < expires and now < hit_until:
            if kind is not by_reference:
                value = value.copy() if kind is template else value_of(entry)
                if value is MISSING:
                    return MISSING
            note(full_key)
            counters.l1_hits += 1
            return value
        return MISSING

    return local_get


def make_local_get_many(
    aliases: dict[str, str],
    store: L1Store,
    *,
    gate: Gate,
    clock: Callable[[], float],
    copies: CopyRules,
    counters: Counters,
) -> Callable[[list[str]], tuple[dict[str, Any], list[str]]]:
    """Make ``local_get_many(keys) -> (found, missed)``: one clock read for all keys.

    Written out, without ``local_get``: a call per key would double the cost.
    """
    full_key_of = aliases.get
    entry_of = store.look
    note = store.note
    by_reference = copies.by_reference
    value_of = copies.value_of

    def local_get_many(keys: list[str]) -> tuple[dict[str, Any], list[str]]:
        found: dict[str, Any] = {}
        missed: list[str] = []
        now = clock()
        if now >= gate.until:
            return found, keys
        for key in keys:
            full_key = full_key_of(key) if type(key) is str else None
            entry = entry_of(full_key) if full_key is not None else None
            if full_key is not None and entry is not None and now < entry[EXPIRES]:
                if entry[KIND] is by_reference:
                    found[key] = entry[PAYLOAD]
                    note(full_key)
                    continue
                value = value_of(entry)
                if value is not MISSING:
                    found[key] = value
                    note(full_key)
                    continue
            missed.append(key)
        counters.l1_hits += len(found)
        return found, missed

    return local_get_many


class LocalReads:
    """What L1 may answer, in this thread or task, right now.  Thread safe."""

    def __init__(self, l1: L1Store, rules: Coherence, counters: Counters) -> None:
        self._l1 = l1
        self._rules = rules
        self._counters = counters

    def usable_entry(
        self, key: str, *, in_outage: bool = False, past_fences: bool = False
    ) -> Entry | None:
        """Return the entry that may answer a read.

        With ``in_outage`` also one that only an outage makes usable.  ``past_fences``:
        every fence that was up when the read began has ended.
        """
        if _bypass.get() is not None and _is_bypassed():
            return None
        rules = self._rules
        now = rules.clock()
        # Before the entry: one read while L1 was off must not become usable meanwhile.
        if rules.outage.is_active:
            usable = in_outage and (rules.is_on(now) or rules.outage.may_serve(now))
        else:
            usable = rules.is_on(now) and (past_fences or not rules.fences.up)
        if not usable:
            return None
        return self._entry_within_ttl(key, now)

    def holds_any(self, keys: Iterable[str]) -> bool:
        """Return whether L1 has one of the keys, and this caller may look into it."""
        look = self._l1.look
        return not _is_bypassed() and any(look(key) is not None for key in keys)

    def entry_past_trust(self, key: str) -> Entry | None:
        """Return the entry that may answer a read which L2 has failed to answer."""
        now = self._rules.clock()
        if _is_bypassed() or not self._rules.outage.may_serve(now):
            return None
        entry = self._entry_within_ttl(key, now)
        if entry is not None:
            self._counters.outage_hits += 1
        return entry

    def _entry_within_ttl(self, key: str, now: float) -> Entry | None:
        entry = self._l1.look(key)
        return None if entry is None or is_expired(entry, now) else entry

    def bypass(self) -> Bypass:
        """Return a context in which reads of this thread or task go to L2."""
        return Bypass(self._rules)


class NoLocalReads:
    """Stands in for ``LocalReads`` for keys whose values L1 does not hold."""

    def usable_entry(self, _key: str, **_how: bool) -> Entry | None:
        """Return None: a refusal that L1 remembers is no value."""
        return None

    def entry_past_trust(self, _key: str) -> Entry | None:
        """Return None, as above."""
        return None


NO_LOCAL_READS: Final = NoLocalReads()


class Bypass(Guard, ContextDecorator):
    """See ``LocalReads.bypass``.

    An application enters it once.  If its very end is interrupted, it has no effect any
    more as soon as the object is gone.
    """

    __slots__ = ("__weakref__", "_rules", "_token")

    def __init__(self, rules: Coherence) -> None:
        super().__init__()
        self._rules = rules
        self._token: Token[ref[Bypass] | None] | None = None

    def _recreate_cm(self) -> Bypass:
        return Bypass(self._rules)

    def _take(self) -> None:
        self._rules.enter_bypass(self)
        self._token = _bypass.set(ref(self))

    def _give_back(self, _error: BaseException | None) -> None:
        self._rules.leave_bypass(self)
        if self._token is not None:
            with suppress(ValueError, RuntimeError):  # closed elsewhere; reset before
                _bypass.reset(self._token)


def _is_bypassed() -> bool:
    here = _bypass.get()
    return here is not None and here() is not None


def find_nothing(_key: str) -> Missing:
    """Stand in for ``local_get`` where L1 cannot know the caller's keys."""
    return MISSING
