"""Counters of one engine and the frozen snapshot that users and exporters read.

Counters are plain attributes that are incremented without a lock: under CPython's
global interpreter lock an increment of an attribute is not interrupted.  The increment
on the hit path costs about 10 ns.
"""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections import Counter, deque
from dataclasses import dataclass, field, fields
from typing import Any, Final

__all__ = ["DelayHistogram", "GroupStats", "Health", "NodeHealth", "Stats"]

READS: Final = ("l1_hits", "l1_shared_hits", "l2_hits", "misses")
"""Counters of `Stats` whose sum is all reads."""
DELAY_BOUNDS_S: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
)
"""Upper bounds of the histogram's buckets, in seconds; the last bucket has none."""

MOST_NAMES: Final = 64
"""Caches of one engine that are told apart: prefixes may be made for each tenant."""
REPLICA: Final = "replica"


@dataclass(slots=True)
class Counters:
    """Counters of one engine; written by the engine, read through ``Stats``.

    ``Stats`` explains those that it has, too.
    """

    l1_hits: int = 0
    l1_shared_hits: int = 0
    l2_hits: int = 0
    misses: int = 0
    evictions: int = 0
    evicted_hit: int = 0
    expirations: int = 0
    too_large: int = 0
    oversized: int = 0
    oversized_lately: deque[int] = field(default_factory=lambda: deque(maxlen=64))
    """Hashes of the keys that were counted last."""
    undecodable: int = 0
    unverified: int = 0
    unsigned: int = 0
    warmed: int = 0
    probes: int = 0
    probes_stale: int = 0
    fills_refused: dict[str, int] = field(
        default_factory=lambda: {"conflict": 0, "off": 0, "tags": 0, "token": 0}
    )
    flushes: Counter[str] = field(default_factory=Counter)
    messages_sent: int = 0
    messages_received: int = 0
    messages_malformed: int = 0
    messages_unknown: int = 0
    loads: int = 0
    load_errors: int = 0
    loads_refused: int = 0
    lease_waits: int = 0
    refreshes: int = 0
    stale_hits: int = 0
    negative_hits: int = 0
    writes_queued: int = 0
    writes_coalesced: int = 0
    writes_lost: int = 0
    outages: int = 0
    degraded: int = 0
    outage_hits: int = 0
    delay_buckets: list[int] = field(
        default_factory=lambda: [0] * (len(DELAY_BOUNDS_S) + 1)
    )
    delay_count: int = 0
    delay_sum_s: float = 0.0

    shares: dict[str, Counters] = field(default_factory=dict)
    """What each cache with a name counts itself, as Django's aliases have one."""

    def of(self, name: str) -> Counters:
        """Return the counters of a cache; of one without a name, or of many, these."""
        if not name or (name not in self.shares and len(self.shares) >= MOST_NAMES):
            return self
        return self.shares.setdefault(name, Counters())

    def total(self) -> Counters:
        """Return the sum with all shares."""
        total = Counters()
        for part in (self, *self.shares.copy().values()):
            total._add(part)
        return total

    def _add(self, other: Counters) -> None:
        for each in fields(self):
            ours, theirs = getattr(self, each.name), getattr(other, each.name)
            if isinstance(ours, list):
                ours[:] = map(operator.add, ours, theirs)
            elif isinstance(ours, (int, float)):
                setattr(self, each.name, ours + theirs)
            elif isinstance(ours, dict) and each.name != "shares":
                for key, number in theirs.copy().items():
                    ours[key] = ours.get(key, 0) + number

    def reset(self) -> None:
        """Set all counters to zero, as in a forked child."""
        shares = self.shares
        self.__init__()  # type: ignore[misc] # of this very class
        self.shares = shares
        for share in shares.values():
            share.reset()

    def shown(self) -> dict[str, Any]:
        """Return a copy of the counters that ``Stats`` has, too."""
        names = {each.name for each in fields(self)} & {*Stats.__slots__}
        values = {name: getattr(self, name) for name in names}
        return {
            name: dict(value) if isinstance(value, dict) else value
            for name, value in values.items()
        }

    def flushed(self, cause: str) -> None:
        """Count one flush of L1."""
        self.flushes[cause] += 1

    def delayed(self, seconds: float) -> None:
        """Count one invalidation that took ``seconds`` from its sending."""
        seconds = max(0.0, seconds)
        self.delay_buckets[bisect_left(DELAY_BOUNDS_S, seconds)] += 1
        self.delay_count += 1
        self.delay_sum_s += seconds


@dataclass(frozen=True, slots=True)
class DelayHistogram:
    """Seconds from the sending of an invalidation to its handling here.

    Between hosts it includes the difference of their wall clocks.
    """

    bounds_s: tuple[float, ...] = DELAY_BOUNDS_S
    counts: tuple[int, ...] = (0,) * (len(DELAY_BOUNDS_S) + 1)
    count: int = 0
    sum_s: float = 0.0

    def quantile(self, share: float) -> float:
        """Return the upper bound, in seconds, of the bucket that holds a quantile.

        ``share`` is 0.0 to 1.0.  0.0 if nothing was counted, infinity if the quantile
        lies above the last bound.
        """
        if not self.count:
            return 0.0
        wanted, seen = share * self.count, 0
        for bound, number in zip(self.bounds_s, self.counts, strict=False):
            seen += number
            if seen >= wanted:
                return bound
        return float("inf")


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot of one engine's counters, in this process, since it started.

    All caches of the process on the same server share them.
    """

    l1_hits: int
    """Reads answered by this process's memory."""
    l1_shared_hits: int
    """Reads answered by what the processes of this host share (``L1_SHARED``)."""
    l2_hits: int
    """Reads answered by the shared store."""
    misses: int
    """Reads that neither level could answer."""
    l1_entries: int
    """Entries in L1 now."""
    l1_bytes: int
    """Estimated memory of L1's keys and values now, in bytes."""
    evictions: int
    """Entries that left L1 to make room for others."""
    evicted_hit: int
    """Those of them that had been hit, or had come back: many say L1 is too small."""
    expirations: int
    """Expired entries that were removed from L1 without being read."""
    too_large: int
    """Values for which L2 had no room: stored in neither level."""
    oversized: int
    """Values larger than ``L1_MAX_ENTRY_BYTES``: stored in L2 only."""
    undecodable: int
    """Reads of values that the serializer could not read: a miss.

    Damaged values are deleted; those of other writers stay.
    """
    unverified: int
    """Reads of values without a valid seal (``SIGNING_KEYS``, ``ENCRYPTION_KEYS``).

    Each is a miss; nothing of it was decoded.
    """
    unsigned: int
    """Values without a seal that ``SIGNING_ACCEPT_UNSIGNED`` let pass."""
    warmed: int
    """Entries that a warm-up has read from L2 into L1."""
    probes: int
    """Entries of L1 that were compared with L2 in the background (``PROBE_EVERY``)."""
    probes_stale: int
    """Those of them that were older than the staleness bound: there should be none."""
    fills_refused: dict[str, int]
    """Values read from L2 but not stored in L1, by the rule that refused them.

    The keys are "conflict", "off", "tags" and "token".
    """
    flushes: dict[str, int]
    """How often L1 was emptied, by cause."""
    messages_sent: int
    messages_received: int
    """Messages that arrived, echoes of our own and heartbeats included."""
    messages_malformed: int
    """Messages that could not be read: each empties L1."""
    messages_unknown: int
    """Messages of a version that this process does not know: after each, L1 rests."""
    loads: int
    """Runs of loaders, refreshes included."""
    load_errors: int
    """Runs of loaders that raised."""
    loads_refused: int
    """Loaded values that were not stored, because the key was written meanwhile."""
    lease_waits: int
    """How often a caller waited for the load of another process."""
    refreshes: int
    """Refreshes in the background."""
    stale_hits: int
    """Reads answered with a value past its TTL (``STALE_TTL``, ``STALE_IF_ERROR``)."""
    negative_hits: int
    """Reads answered with "no such thing" (``NEGATIVE_TTL``)."""
    writes_queued: int
    """Calls of ``set(..., wait=False)`` that did not wait."""
    writes_coalesced: int
    """Those of them whose value another one replaced before it was sent."""
    writes_lost: int
    """Values that L2 could not take when they were sent: their callers do not know."""
    writes_waiting: int
    """Keys whose value is still to be sent: what a crash would lose now."""
    outages: int
    """How often the circuit breaker has opened."""
    degraded: int
    """Calls that got the answer of ``docs/outages.md``."""
    outage_hits: int
    """Reads that L1 answered after its trust had ended, because L2 failed.

    While the breaker is open, such reads are counted in ``l1_hits`` instead.
    """
    invalidation_delay: DelayHistogram = field(repr=False)
    trusted: bool
    """Whether L1 may answer reads now: the bus works."""

    @property
    def l1_hit_ratio(self) -> float:
        """Share of all reads that L1 answered, 0.0 to 1.0; 0.0 without reads."""
        reads = sum(getattr(self, name) for name in READS)
        return self.l1_hits / reads if reads else 0.0


@dataclass(frozen=True, slots=True)
class GroupStats:
    """A snapshot of one group's counters, in this process, since it was made.

    They count arguments: a batch of ten counts ten.
    """

    name: str
    hits: int
    """Answered without a run of the loader for this call."""
    loads: int
    """Given to the loader, refreshes in the background included."""
    failures: int
    """Of these, those whose loader raised."""


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """One of several servers, as this process sees it."""

    server: str
    """Its URL, without login."""
    is_away: bool
    """Whether it does not answer: its keys are degraded."""
    slots: int | None = None
    """How many slots a master of a cluster has; None elsewhere."""


@dataclass(frozen=True, slots=True)
class Health:
    """The state of an engine at one moment."""

    l2_reachable: bool
    """Whether the shared store answered a PING just now."""
    bus_connected: bool
    """Whether the subscription to the bus is acknowledged and connected."""
    l1_trusted: bool
    """Whether L1 may answer reads now."""
    l1_wanted: bool
    """False with ``L1_MAX_ENTRIES=0``, before the first reads, after ``l1_off()``."""
    l1_enabled: bool
    """False while ``l1_off()`` is in force for the fleet."""
    staleness_bound_s: float
    """Age in seconds that an L1 hit cannot exceed; larger during an outage."""
    breaker_open: bool = False
    """Whether the circuit breaker is open: calls do not reach the shared store."""
    outage_s: float = 0.0
    """While the breaker is open: the seconds since the first call that failed."""
    deletes_owed: int = 0
    """Keys and clears that are still to be deleted from the shared store."""
    deletes_lost: int = 0
    """Deletes that were given up; see ``docs/outages.md``."""
    messages_owed: int = 0
    """Messages that the bus has not accepted yet (``BUS_LOCATION``)."""
    refused: tuple[str, ...] = ()
    """Kinds of operations that the shared store refuses, with its error texts."""
    servers_away: tuple[str, ...] = ()
    """Servers, of several, that do not answer: their keys are degraded."""
    nodes: tuple[NodeHealth, ...] = ()
    """The servers, if there are several: of Memcached, or the masters of a cluster."""
    server: str = ""
    """The Redis of the keys that new connections lead to: address, product and version.

    Over Memcached that of ``BUS_LOCATION``; empty if it is not known.
    """
    replica: str = ""
    """The replica that is read from now (``REPLICAS``); empty if none is."""
    role: str = ""
    """What that server is now, "master" or "replica"; empty if it does not say."""
    l1_shared: str = ""
    """"on" if the processes of this host share what they read (``L1_SHARED``), or why
    they do not; empty without the option."""
    bus: str = "messages"
    """What the settings say: "messages", or the reason why there are none.

    Also while the bus is away: see ``bus_connected``.
    """
    error: str = ""
    """Why a field above is not as it should be; empty if all are."""

    @property
    def ok(self) -> bool:
        """Whether L2 works, and also L1 and the bus if they are wanted."""
        return (
            self.l2_reachable
            and not self.refused
            and self.role != REPLICA
            and (self.l1_trusted or not self.l1_wanted)
        )
