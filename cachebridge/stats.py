"""Counters of one engine and the frozen snapshot that users and exporters read.

Counters are plain attributes that are incremented without a lock: under CPython's
global interpreter lock an increment of an attribute is not interrupted.  The one on
the hit path costs about 10 ns.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

__all__ = ["DelayHistogram", "Health", "Stats"]

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
"""Upper bounds of the histogram's buckets in seconds; one more bucket has no bound."""


class Counters:
    """What one engine counts; written by the engine, read through ``Stats``."""

    __slots__ = (
        "degraded",
        "delay_buckets",
        "delay_count",
        "delay_sum_s",
        "evictions",
        "expirations",
        "fills_refused_conflict",
        "fills_refused_off",
        "fills_refused_token",
        "flushes",
        "l1_hits",
        "l2_hits",
        "lease_waits",
        "load_errors",
        "loads",
        "loads_refused",
        "messages_malformed",
        "messages_received",
        "messages_sent",
        "misses",
        "negative_hits",
        "outage_hits",
        "outages",
        "oversized",
        "refreshes",
        "stale_hits",
        "too_large",
        "undecodable",
    )

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start from zero (also in a forked child)."""
        self.l1_hits = self.l2_hits = self.misses = 0
        self.fills_refused_conflict = self.fills_refused_off = 0
        self.fills_refused_token = 0
        self.messages_sent = self.messages_received = self.messages_malformed = 0
        self.evictions = self.expirations = self.oversized = self.undecodable = 0
        self.too_large = 0
        self.loads = self.load_errors = self.loads_refused = self.lease_waits = 0
        self.stale_hits = self.negative_hits = self.refreshes = 0
        self.outages = self.degraded = self.outage_hits = 0
        self.flushes: Counter[str] = Counter()
        self.delay_buckets = [0] * (len(DELAY_BOUNDS_S) + 1)
        self.delay_count = 0
        self.delay_sum_s = 0.0

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
        """Return the upper bound in seconds of the bucket that holds ``share``.

        0.0 if nothing was counted, infinity if it lies above the last bound.
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
    """A snapshot of one engine's counters, shared by all caches on the same server."""

    l1_hits: int
    """Reads answered from this process's memory."""
    l2_hits: int
    """Reads answered by the shared store."""
    misses: int
    """Reads that neither level could answer."""
    l1_entries: int
    l1_bytes: int
    """Estimated memory of L1's keys and values."""
    evictions: int
    """Entries that left L1 to make room."""
    expirations: int
    """Expired entries that were swept out of L1 without having been read."""
    too_large: int
    """Values for which L2 had no room: not stored at all."""
    oversized: int
    """Values over ``L1_MAX_ENTRY_BYTES``, kept in L2 only."""
    undecodable: int
    """Values of L2 that no known codec could read: treated as a miss and deleted."""
    fills_refused: dict[str, int]
    """Values read from L2 but not stored in L1, by the rule that refused them."""
    flushes: dict[str, int]
    """Times L1 was emptied, by cause."""
    messages_sent: int
    messages_received: int
    messages_malformed: int
    loads: int
    """Runs of loaders, refreshes included."""
    load_errors: int
    """Runs of loaders that raised."""
    loads_refused: int
    """Loaded values that were not stored, since the key was written meanwhile."""
    lease_waits: int
    """Times a load of another process was waited for."""
    refreshes: int
    """Refreshes in the background."""
    stale_hits: int
    """Reads answered with a value past its TTL (``STALE_TTL``, ``STALE_IF_ERROR``)."""
    negative_hits: int
    """Reads answered with "no such thing" (``NEGATIVE_TTL``)."""
    outages: int
    """Times the circuit breaker has opened."""
    degraded: int
    """Calls that got the answer for an outage."""
    outage_hits: int
    """Reads that L1 answered past its trust after L2 had failed, one by one.

    While the breaker is open such reads are ordinary ``l1_hits``.
    """
    invalidation_delay: DelayHistogram = field(repr=False)
    trusted: bool
    """Whether the bus vouches for L1 at this moment."""

    @property
    def l1_hit_ratio(self) -> float:
        """Share of all reads that L1 answered, 0.0 to 1.0."""
        reads = self.l1_hits + self.l2_hits + self.misses
        return self.l1_hits / reads if reads else 0.0


@dataclass(frozen=True, slots=True)
class Health:
    """The state of an engine at one moment."""

    l2_reachable: bool
    """Whether the shared store answered a PING just now."""
    bus_connected: bool
    """Whether the subscription is acknowledged and unbroken."""
    l1_trusted: bool
    """Whether L1 may answer reads at this moment."""
    l1_wanted: bool
    """False with ``L1_MAX_ENTRIES=0``, before the first reads, after ``l1_off()``."""
    l1_enabled: bool
    """False while ``l1_off()`` is in force for the fleet."""
    staleness_bound_s: float
    """How old an L1 hit can be at most, whatever fails; more during an outage."""
    breaker_open: bool = False
    """Whether the shared store is taken to be away: calls are answered without it."""
    outage_s: float = 0.0
    """For how long the breaker has been open, in seconds."""
    deletes_owed: int = 0
    """Keys and clears that will be deleted from the shared store when it is back."""
    deletes_lost: int = 0
    """Keys whose delete could not be kept; see ``docs/outages.md``."""
    messages_owed: int = 0
    """Messages that the bus has not taken yet (``BUS_LOCATION``)."""
    refused: tuple[str, ...] = ()
    """Kinds of operations that the shared store refuses, with what it says."""
    servers_away: tuple[str, ...] = ()
    """Those of several servers that do not answer: their keys are degraded."""
    bus: str = "messages"
    """How other processes' writes get here: by messages, or why not."""
    error: str = ""
    """Why something of the above is not as it should be."""

    @property
    def ok(self) -> bool:
        """Whether L2 works, and L1 and the bus as far as they are wanted."""
        return (
            self.l2_reachable
            and not self.refused
            and (self.l1_trusted or not self.l1_wanted)
        )
