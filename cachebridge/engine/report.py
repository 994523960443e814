"""What an engine is like: its counters and its health, as users see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cachebridge.engine.messages.hosting import NO_THREADS, freezes_threads
from cachebridge.engine.messages.listening import why_no_bus
from cachebridge.engine.watching.probes import staleness_bound_s
from cachebridge.errors import NO_CLUSTER, NO_REPLICA, L2Error
from cachebridge.resp import Hello
from cachebridge.stats import REPLICA, DelayHistogram, Health, Stats
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from cachebridge.engine.engine import Engine


def stats_of(engine: Engine) -> Stats:
    """Take a snapshot of the counters."""
    counters = engine.counters.total()
    return Stats(
        **counters.shown(),
        l1_entries=len(engine.l1),
        l1_bytes=engine.l1.bytes,
        writes_waiting=len(engine.write_behind),
        invalidation_delay=DelayHistogram(
            counts=tuple(counters.delay_buckets),
            count=counters.delay_count,
            sum_s=counters.delay_sum_s,
        ),
        trusted=engine.rules.is_on(engine.clock()),
    )


def _wrong_server(address: str, hello: Hello, *, is_node: bool) -> str:
    """Say what is wrong with the server that connections lead to, if anything is."""
    if hello.mode == "cluster" and not is_node:
        return f"{address} is in cluster mode: {NO_CLUSTER}"
    if hello.role == REPLICA:
        return f"{address} is a replica, which refuses writes: {NO_REPLICA}"
    return ""


def health_of(engine: Engine) -> Health:
    """Ask L2 now, and report what the bus has found out."""
    error = ""
    try:
        run(engine.l2.ping())
        reachable = True
    except L2Error as exc:
        reachable, error = False, str(exc)
    options, rules, stores = engine.options, engine.rules, engine.stores
    asked = stores.servers[:1] if reachable else ()
    address, hello = asked[0].greet() if asked else ("", Hello())
    error = error or _wrong_server(
        address, hello, is_node=stores.redis_cluster is not None
    )
    error = error or engine.receiver.problem
    if not error and not engine.listening.is_running():
        error = "not listening yet: no reads so far"
        if options.l1_max_entries == 0:
            error = "no L1"
        elif freezes_threads():
            error = NO_THREADS
    bound_s = staleness_bound_s(stores, options)
    outage = engine.outage
    lasted_s = 0.0 if outage.began_at is None else engine.clock() - outage.began_at
    return Health(
        l2_reachable=reachable,
        bus_connected=rules.connected,
        l1_trusted=rules.is_on(engine.clock()),
        l1_wanted=rules.enabled and engine.listening.bus is not None,
        l1_enabled=rules.enabled,
        staleness_bound_s=bound_s
        + (options.outage_ttl if rules.outage.is_active else 0.0),
        breaker_open=engine.breaker.is_open,
        outage_s=lasted_s,
        deletes_owed=len(outage.pending_deletes) + stores.clears_owed(),
        deletes_lost=outage.pending_deletes.lost,
        messages_owed=len(stores.outbox or ()),
        servers_away=stores.servers_away(),
        nodes=stores.nodes(),
        replica="" if stores.replicas is None else stores.replicas.label,
        l1_shared=engine.host_l1.state,
        bus="messages" if engine.stores.has_bus else why_no_bus(options),
        refused=outage.recent_refusals(),
        server=" ".join(filter(None, (address, hello.product, hello.version))),
        role=hello.role,
        error=error,
    )
