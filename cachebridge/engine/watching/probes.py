"""Stale probes: a site watches our promise itself (``PROBE_EVERY``).

Of N hits of L1 one is compared with L2, in the background, from the notes that hits
leave: a hit costs what it did.  A difference alone means nothing, as a write may be
under way whose message has not arrived.  So the same entry is compared again after the
staleness bound.  If it still answers reads then, and still differs, it is stale: it is
counted, named in the log, and dropped.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from cachebridge.codec.envelope import body_of
from cachebridge.core.dropping.trail import PROBED
from cachebridge.core.entry import ABSENT, KIND, MISSING, Entry, is_expired
from cachebridge.core.keys import shown_key
from cachebridge.core.notice import Notice
from cachebridge.errors import L2Error
from cachebridge.events import event
from cachebridge.waiting.io import THREADS
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

    from cachebridge.config import EngineOptions
    from cachebridge.core.coherence import Coherence
    from cachebridge.engine.later.write_behind import WriteBehind
    from cachebridge.engine.loading.refresh import Refresher
    from cachebridge.engine.servers.stores import Stores
    from cachebridge.engine.values import ValuesOfCaches
    from cachebridge.l1.store import L1Store
    from cachebridge.l2.store import L2Store
    from cachebridge.stats import Counters
    from cachebridge.waiting.io import IO

_log = logging.getLogger("cachebridge.engine")

PROBING: Final = "\0probing"
"""The name under which entries are compared in the background."""
MOST_AT_ONCE: Final = 20
MOST_DOUBTED: Final = 200


class ProbesHost(Protocol):
    """What this needs of the engine."""

    clock: Callable[[], float]
    counters: Counters
    l1: L1Store
    rules: Coherence
    options: EngineOptions
    refresher: Refresher
    write_behind: WriteBehind
    random: random.Random
    all_values: ValuesOfCaches
    stores: Stores

    def l2_for(self, io: IO, *, may_lag: bool = True) -> L2Store:
        """Return the store for threads or for tasks; a read ``may_lag`` or must not."""


def staleness_bound_s(stores: Stores, options: EngineOptions) -> float:
    """Return the age in seconds that an L1 hit cannot exceed, outages aside.

    Where a change and its message are two steps, nothing but L1_TTL is sure.
    """
    is_bounded_by_trust = stores.has_bus and stores.outbox is None
    return options.bus_trust if is_bounded_by_trust else options.l1_ttl


class Probes:
    """Compares entries of one engine.  ``beat`` is for the bus's thread."""

    def __init__(self, host: ProbesHost) -> None:
        self._host = host
        self._every = host.options.probe_every
        self._told = Notice()
        self.reset()

    def reset(self) -> None:
        """Begin anew, as in the child of a fork."""
        self._hits = self._host.counters.total().l1_hits if self._every else 0
        self._doubted: dict[str, tuple[Entry, float]] = {}
        """Entries that differed, and when they are compared again."""

    def beat(self) -> None:
        """Have in the background compared what is due; called often."""
        if not self._every:
            return
        host = self._host
        now, hits = host.clock(), host.counters.total().l1_hits
        due = max(0, hits - self._hits) // self._every
        self._hits += due * self._every
        again = [key for key, (_, at) in self._doubted.copy().items() if at <= now]
        keys = self._some_hit(min(due, MOST_AT_ONCE)) if due else []
        if keys or again:
            host.refresher.submit(PROBING, lambda: self.compare(keys, again))

    def _some_hit(self, count: int) -> list[str]:
        """Choose keys that were hit lately; without notes any that L1 has."""
        host = self._host
        with host.rules.lock:
            found = host.l1.hit_lately()
            if found is None:
                found = host.l1.all_keys()
        return host.random.sample(found, min(count, len(found)))

    def compare(self, keys: Iterable[str], again: Iterable[str] = ()) -> None:
        """Compare entries with L2, those of ``again`` for the second time."""
        second = {key: self._doubted.pop(key) for key in again if key in self._doubted}
        first = [key for key in keys if key not in second and key not in self._doubted]
        self._host.counters.probes += len(first)
        with suppress(L2Error):  # an outage is no finding
            found = self._differing([*first, *second])
            at = self._host.clock()
            at += staleness_bound_s(self._host.stores, self._host.options)
            for key, entry in found.items():
                if key not in second:
                    if len(self._doubted) < MOST_DOUBTED:
                        self._doubted[key] = entry, at
                elif entry is second[key][0]:
                    self._found_stale(key, entry)

    def _differing(self, keys: list[str]) -> dict[str, Entry]:
        """Return the entries that answer reads, and differ from L2 all the while."""
        before = {key: entry for key in keys if (entry := self._usable(key))}
        if not before:
            return {}
        l2 = self._host.l2_for(THREADS, may_lag=False)
        reads = run(l2.get_many([*before]))
        return {
            key: entry
            for (key, entry), (raw, _) in zip(before.items(), reads, strict=True)
            if self._differs(key, entry, raw) and self._usable(key) is entry
        }

    def _usable(self, key: str) -> Entry | None:
        host, now = self._host, self._host.clock()
        entry = host.l1.look(key)
        is_on = host.rules.is_on(now) and not host.rules.outage.is_active
        is_queued = key in host.write_behind.latest
        usable = entry and is_on and not is_queued and not is_expired(entry, now)
        return entry if usable else None

    def _differs(self, key: str, entry: Entry, raw: bytes | None) -> bool:
        """Return whether L2 has another value; if it has evicted it, it has none."""
        if raw is None:
            return False
        if entry[KIND] is ABSENT:
            return True
        for values in tuple(self._host.all_values.made.values()):
            ours = values.copies.value_of(entry)
            if ours is not MISSING:
                theirs, content = values.read(key, body_of(raw))
                return not values.copies.is_same(entry, content) and not _are_equal(
                    ours, theirs
                )
        return False  # what L1 remembers of a counter or a tag

    def _found_stale(self, key: str, entry: Entry) -> None:
        host = self._host
        host.rules.drop_shared((key,))
        with host.rules.lock:
            if host.l1.look(key) is not entry:
                return
            host.rules.drop(key)
            host.rules.trail.note(key, PROBED)
        host.counters.probes_stale += 1
        if self._told.begins(host.clock()):
            bound_s = staleness_bound_s(host.stores, host.options)
            _log.warning(
                "L1 still answers with an old value of %s, %.1f s after it was changed "
                "in %s: a client writes past cachebridge, or a message was lost. The "
                "entry was dropped; stats().probes_stale counts (PROBE_EVERY).",
                shown_key(key),
                bound_s,
                host.stores.label,
                extra=event(
                    "probe.stale", key=shown_key(key), location=host.stores.label
                ),
            )


def _are_equal(ours: Any, theirs: Any) -> bool:
    """Return whether two values are equal, as far as they can tell."""
    try:
        return bool(ours == theirs)
    except Exception:  # noqa: BLE001 values are of any class
        return False
