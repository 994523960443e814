"""What exporters tell of a process's caches: names, texts, sources of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cachebridge.engine.engine import Engine
    from cachebridge.stats import Counters


class Family(NamedTuple):
    """A metric that counts: its name and text, and what it counts by which label."""

    name: str
    text: str
    label: str = ""
    counters: Mapping[str, str] = {}
    """The attribute of the counters, by value of the label."""


PER_CACHE: Final = (
    Family(
        "cachebridge_reads",
        "Reads, by the level that answered.",
        "result",
        {
            "l1": "l1_hits",
            "l1_shared": "l1_shared_hits",
            "l2": "l2_hits",
            "miss": "misses",
        },
    ),
    Family(
        "cachebridge_special_reads",
        "Reads answered with a value past its TTL, or with a mark of absence.",
        "kind",
        {"stale": "stale_hits", "negative": "negative_hits"},
    ),
    Family(
        "cachebridge_loads",
        "Runs of loaders, refreshes included, by what happened; kinds overlap.",
        "event",
        {
            "run": "loads",
            "error": "load_errors",
            "not_stored": "loads_refused",
            "lease_wait": "lease_waits",
            "refresh": "refreshes",
        },
    ),
)
PER_SERVER: Final = (
    Family(
        "cachebridge_l1_removals",
        "Entries that left L1 to make room, or because they had expired.",
        "reason",
        {
            "evicted": "evictions",
            "evicted_hit": "evicted_hit",
            "expired": "expirations",
        },
    ),
    Family(
        "cachebridge_l1_flushes",
        "How often L1 was emptied.",
        "cause",
        {"": "flushes"},
    ),
    Family(
        "cachebridge_fills_refused",
        "Values read from L2 but not stored in L1.",
        "rule",
        {"": "fills_refused"},
    ),
    Family(
        "cachebridge_values_refused",
        "Values too large for L1 or L2, or that were not decoded.",
        "reason",
        {
            "oversized": "oversized",
            "too_large": "too_large",
            "undecodable": "undecodable",
            "unverified": "unverified",
        },
    ),
    Family(
        "cachebridge_values_unsigned",
        "Values without a seal that SIGNING_ACCEPT_UNSIGNED let pass.",
        "kind",
        {"read": "unsigned"},
    ),
    Family(
        "cachebridge_messages",
        "Messages between processes.",
        "kind",
        {
            "sent": "messages_sent",
            "received": "messages_received",
            "malformed": "messages_malformed",
            "unknown": "messages_unknown",
        },
    ),
    Family(
        "cachebridge_writes_behind",
        "Calls of set(..., wait=False).",
        "kind",
        {
            "queued": "writes_queued",
            "coalesced": "writes_coalesced",
            "lost": "writes_lost",
        },
    ),
    Family(
        "cachebridge_outages",
        "How often the circuit breaker has opened, and calls and reads meanwhile.",
        "kind",
        {"begun": "outages", "degraded": "degraded", "l1_read": "outage_hits"},
    ),
    Family(
        "cachebridge_warmed",
        "Entries that a warm-up has read into L1.",
        "kind",
        {"entry": "warmed"},
    ),
    Family(
        "cachebridge_probes",
        "Entries of L1 that PROBE_EVERY has compared with L2, and those of them that "
        "were stale.",
        "kind",
        {"made": "probes", "stale": "probes_stale"},
    ),
)


def _is_untrusted(engine: Engine) -> bool:
    wanted = engine.rules.enabled and engine.listening.bus is not None
    return wanted and not engine.rules.is_on(engine.clock())


GAUGES: Final[dict[str, tuple[str, Callable[[Engine], float]]]] = {
    "cachebridge_processes": ("Processes that have the cache.", lambda _engine: 1),
    "cachebridge_l1_entries": ("Entries in L1.", lambda engine: len(engine.l1)),
    "cachebridge_l1_bytes": ("Estimated bytes in L1.", lambda e: e.l1.bytes),
    "cachebridge_l1_untrusted": (
        "Processes whose L1 is wanted but must not answer: the bus does not vouch.",
        _is_untrusted,
    ),
    "cachebridge_breaker_open": (
        "Processes that take L2 to be away.",
        lambda engine: engine.breaker.is_open,
    ),
    "cachebridge_deletes_owed": (
        "Deletes to be made up for when L2 is back.",
        lambda e: len(e.outage.pending_deletes) + e.stores.clears_owed(),
    ),
    "cachebridge_messages_owed": (
        "Messages that the bus has not taken.",
        lambda engine: len(engine.stores.outbox or ()),
    ),
    "cachebridge_writes_waiting": (
        "Keys whose value is still to be sent: what a crash would lose.",
        lambda engine: len(engine.write_behind),
    ),
    "cachebridge_servers_away": (
        "Servers, of several, that do not answer, summed over processes.",
        lambda engine: len(engine.stores.servers_away()),
    ),
}


def numbers_of(family: Family, counters: Counters) -> Iterator[tuple[str, float]]:
    """Return values of the family's label, with their numbers."""
    for label, attribute in family.counters.items():
        value = getattr(counters, attribute)
        if isinstance(value, dict):
            yield from value.copy().items()
        else:
            yield label, value
