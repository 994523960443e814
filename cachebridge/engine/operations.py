"""What the operations of both colours share: all that does not wait for L2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachebridge.core.entry import ABSENT, KIND, MISSING, Absent, Missing
from cachebridge.core.loading import LoadTerms
from cachebridge.core.ttl import jittered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cachebridge.config import CacheOptions
    from cachebridge.core.direct import Direct
    from cachebridge.core.fill import Fill
    from cachebridge.core.write import Write
    from cachebridge.engine.engine import Engine
    from cachebridge.engine.values import Values
    from cachebridge.l2.base import Ttl

INT64 = range(-(2**63), 2**63)
DEFAULT_TERMS = LoadTerms()


class Means:
    """What an operation works with, and what it does beside its calls of L2."""

    def __init__(
        self,
        engine: Engine,
        values: Values,
        *,
        fill: Callable[[Sequence[str]], Fill | Direct],
        write: Callable[[Sequence[str]], Write | Direct],
        notice_read: Callable[[], None],
        publishes: bool = True,
        degrades: bool = False,
        jitter: float = 0.0,
        terms: LoadTerms = DEFAULT_TERMS,
        behind: Callable[[Callable[[], Any]], Callable[[], Any]] = lambda load: load,
    ) -> None:
        self.engine = engine
        self.counters = engine.counters
        self.values = values
        self.open_fill = fill
        self.open_write = write
        self.notice_read = notice_read
        self.publishes = publishes
        self.degrades = degrades
        self.terms = terms
        self.jitter = jitter
        self.behind = behind
        """Wraps a loader that is to run in a thread in the background."""

    def get_from_l1(self, key: str) -> Any | Missing | Absent:
        """Return the value, or that it is ABSENT, if L1 may answer; never waits."""
        entry = self.engine.usable_entry(key, in_outage=self.degrades)
        if entry is None:
            return MISSING
        if entry[KIND] is ABSENT:
            self.counters.negative_hits += 1
            return ABSENT
        value = self.values.copies.value_of(entry)
        if value is not MISSING:
            self.engine.l1.note(key)
            self.counters.l1_hits += 1
        return value

    def take(
        self, fill: Fill | Direct, key: str, raw: bytes | None, ttl_ms: int
    ) -> Any | Missing:
        """Decode what L2 answered, and let L1 have it if the rules allow."""
        value = MISSING if raw is None else self.values.decode(key, raw)
        if raw is None or value is MISSING:
            self.counters.misses += 1
            fill.refuse(key)
            return MISSING
        self.counters.l2_hits += 1
        self.values.take_read(fill, key, value, raw, ttl_ms)
        return value

    def message(self, write: Write | Direct) -> bytes | None:
        """Encode the message that names what the write changes."""
        return self.engine.message_of(write, write.keys)

    def hears_of_loads(self) -> bool:
        """Tell whether the bus brings word of what other processes load."""
        return self.publishes and self.engine.has_messages()

    def jittered(self, ttl_ms: int | None) -> int | None:
        """Shorten a TTL at random, as TTL_JITTER says."""
        return jittered(ttl_ms, self.jitter, self.engine.chance)

    def jittered_each(self, ttl_ms: int | None, count: int) -> Ttl:
        """The same for a batch, whose values must not all expire at once either."""
        if not self.jitter or ttl_ms is None:
            return ttl_ms
        return [self.jittered(ttl_ms) or ttl_ms for _ in range(count)]

    def decode(self, key: str, raw: bytes) -> Any | Missing:
        """Return the value of some bytes."""
        return self.values.decode(key, raw)


def load_terms(options: CacheOptions) -> LoadTerms:
    """Return how a cache loads values, from its options."""
    return LoadTerms(
        lease_ms=round(options.lease_ttl * 1000),
        stale_ms=round(options.stale_ttl * 1000),
        stale_if_error_ms=round(options.stale_if_error * 1000),
        negative_ms=round(options.negative_ttl * 1000),
        early_refresh=options.early_refresh,
    )
