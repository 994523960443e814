"""What an engine is like: its counters and its health, as users see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cachebridge.engine.buses import why_no_bus
from cachebridge.errors import L2Error
from cachebridge.stats import DelayHistogram, Health, Stats

if TYPE_CHECKING:
    from cachebridge.engine.engine import Engine


def stats_of(engine: Engine) -> Stats:
    """Take a snapshot of the counters."""
    counters = engine.counters
    return Stats(
        l1_hits=counters.l1_hits,
        l2_hits=counters.l2_hits,
        misses=counters.misses,
        l1_entries=len(engine.l1),
        l1_bytes=engine.l1.bytes,
        evictions=counters.evictions,
        expirations=counters.expirations,
        too_large=counters.too_large,
        oversized=counters.oversized,
        undecodable=counters.undecodable,
        fills_refused={
            "conflict": counters.fills_refused_conflict,
            "off": counters.fills_refused_off,
            "token": counters.fills_refused_token,
        },
        flushes=dict(counters.flushes),
        messages_sent=counters.messages_sent,
        messages_received=counters.messages_received,
        messages_malformed=counters.messages_malformed,
        loads=counters.loads,
        load_errors=counters.load_errors,
        loads_refused=counters.loads_refused,
        lease_waits=counters.lease_waits,
        refreshes=counters.refreshes,
        stale_hits=counters.stale_hits,
        negative_hits=counters.negative_hits,
        outages=counters.outages,
        degraded=counters.degraded,
        outage_hits=counters.outage_hits,
        invalidation_delay=DelayHistogram(
            counts=tuple(counters.delay_buckets),
            count=counters.delay_count,
            sum_s=counters.delay_sum_s,
        ),
        trusted=engine.rules.is_on(engine.clock()),
    )


def health_of(engine: Engine) -> Health:
    """Ask L2 now, and report what the bus has found out."""
    error = ""
    try:
        engine.l2.ping()
        reachable = True
    except L2Error as exc:
        reachable, error = False, str(exc)
    options, rules, stores = engine.options, engine.rules, engine.stores
    error = error or engine.receiver.problem
    if not error and not engine.is_listening():
        no_l1 = options.l1_max_entries == 0
        error = "no L1" if no_l1 else "not listening yet: no reads so far"
    # Where a change and its message are two steps, nothing but L1_TTL is sure.
    is_bounded_by_trust = engine.has_bus and stores.cluster is None
    bound_s = options.bus_trust if is_bounded_by_trust else options.l1_ttl
    outage = engine.outage
    lasted_s = 0.0 if outage.began_at is None else engine.clock() - outage.began_at
    return Health(
        l2_reachable=reachable,
        bus_connected=rules.connected,
        l1_trusted=rules.is_on(engine.clock()),
        l1_wanted=rules.enabled and engine.bus is not None,
        l1_enabled=rules.enabled,
        staleness_bound_s=bound_s + (options.outage_ttl if rules.in_outage else 0.0),
        breaker_open=engine.breaker.is_open,
        outage_s=lasted_s,
        deletes_owed=len(outage.debts) + stores.clears_owed(),
        deletes_lost=outage.debts.lost,
        messages_owed=len(stores.outbox or ()),
        servers_away=stores.servers_away(),
        bus="messages" if engine.has_bus else why_no_bus(options),
        refused=outage.recent_refusals(),
        error=error,
    )
