"""The look-up that serves an L1 hit: no lock, one clock read, two dictionary reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachebridge.core.entry import EXPIRES, KIND, MISSING, PAYLOAD

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.core.coherence import Gate
    from cachebridge.core.entry import Missing
    from cachebridge.l1.copies import CopyRules
    from cachebridge.l1.store import LruStore
    from cachebridge.stats import Counters


def make_probe(
    aliases: dict[str, str],
    store: LruStore,
    *,
    gate: Gate,
    clock: Callable[[], float],
    copies: CopyRules,
    counters: Counters,
) -> Callable[[str], Any | Missing]:
    """Make the function ``probe(key) -> value or MISSING`` for callers' short keys.

    ``aliases`` maps a short key to the full one; a key that is not in it misses.  The
    function is a closure because its variables are read faster than attributes.
    """
    entries = store.entries
    note = store.note
    by_reference = copies.by_reference
    template = copies.template
    value_of = copies.value_of

    def probe(key: str) -> Any | Missing:
        # Before the entry: one read while L1 was off must not become a hit because
        # the listener flushes L1 and opens the gate meanwhile.
        hit_until = gate.until
        try:
            full_key = aliases[key]
            expires, kind, value, _, _ = entry = entries[full_key]
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

    return probe


def make_probe_many(
    aliases: dict[str, str],
    store: LruStore,
    *,
    gate: Gate,
    clock: Callable[[], float],
    copies: CopyRules,
    counters: Counters,
) -> Callable[[list[str]], tuple[dict[str, Any], list[str]]]:
    """Make ``probe_many(keys) -> (found, missed)``: one clock read for all keys.

    The two probes are written out apart: a call per key would double the price.
    """
    full_key_of = aliases.get
    entry_of = store.entries.get
    note = store.note
    by_reference = copies.by_reference
    value_of = copies.value_of

    def probe_many(keys: list[str]) -> tuple[dict[str, Any], list[str]]:
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

    return probe_many
