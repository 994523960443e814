"""What protection costs: a cold load under a lease, and every path without Redis."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

from benchmarks.contenders import await_trust, database
from benchmarks.harness import interleave, paired, timed_batch
from benchmarks.report import Limit, Row, Verdict
from cachebridge import Cache
from cachebridge.l2.connections.link import Link
from cachebridge.testing import redis_server

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["measure"]

_ROUNDS = 15
_PLAIN, _LEASED = "get, load, add: by hand", "get_or_load"
_FRESH = "all of stale, negative, early, jitter, lease"
_NONE = "none of them"
_HEALTHY, _AWAY = "Redis is there", "Redis is stopped"


def measure(redis_url: str) -> list[Row]:
    """Measure a cold load, the options' cost to a hit, and the paths of an outage."""
    return [
        _measure_cold(database(redis_url, 6)),
        _measure_options(database(redis_url, 6)),
        *_measure_outage(),
    ]


def _measure_cold(url: str) -> Row:
    cache = Cache(url, key_prefix="cold:")
    await_trust(cache)
    numbers = itertools.count()

    def by_hand() -> None:
        key = f"h{next(numbers)}"
        if cache.get(key) is None:
            cache.add(key, "value")

    def leased() -> None:
        cache.get_or_load(f"l{next(numbers)}", lambda: "value")

    calls = {_PLAIN: by_hand, _LEASED: leased}
    trips = {label: _round_trips(call) for label, call in calls.items()}
    figures = interleave(
        {label: timed_batch("call()", {"call": each}) for label, each in calls.items()},
        _ROUNDS,
    )
    more = trips[_LEASED] - trips[_PLAIN]
    return Row(
        "L1",
        "a cold key",
        "s",
        figures,
        [Verdict("at most one round trip more", f"{more} more", more <= 1)],
        [f"in time {paired(figures[_LEASED], figures[_PLAIN])}, single-flight and all"],
    )


def _round_trips(call: Callable[[], object]) -> int:
    """Count the exchanges with Redis that one call makes."""
    call()
    made = 0
    exchange = Link.exchange

    def counting(link: Link, packed: bytes, count: int) -> list[object]:
        nonlocal made
        made += 1
        return exchange(link, packed, count)

    Link.exchange = counting
    try:
        call()
    finally:
        Link.exchange = exchange
    return made


def _measure_options(url: str) -> Row:
    options = {
        _NONE: {"lease_ttl": 0},
        _FRESH: {
            "stale_ttl": 60,
            "stale_if_error": 600,
            "negative_ttl": 5,
            "early_refresh": 1,
            "ttl_jitter": 0.1,
        },
    }
    batches = {}
    for label, chosen in options.items():
        cache = Cache(url, key_prefix=f"{len(batches)}:", **chosen)
        await_trust(cache)
        cache.get_or_load("k", lambda: "value", ttl=3600)
        cache.get("k")
        names = {"get": cache.get_or_load, "load": lambda: "value"}
        batches[label] = timed_batch("get('k', load)", names)
    figures = interleave(batches, _ROUNDS)
    limit = Limit(_FRESH, _NONE, 1.1, "at most", "nothing (<= 1.1x, noise)")
    return Row("L2", "get_or_load, hit in L1", "s", figures, [limit.judge(figures)])


def _measure_outage() -> list[Row]:
    """Two caches side by side: the server of one is killed."""
    with redis_server() as healthy, redis_server() as doomed:
        caches = {
            label: Cache(server.url, outage_ttl=600, l1_ttl=600, breaker_retry=60)
            for label, server in ((_HEALTHY, healthy), (_AWAY, doomed))
        }
        for cache in caches.values():
            await_trust(cache)
            cache.set("hit", "value", 3600)
        logging.getLogger("cachebridge").setLevel(logging.CRITICAL)
        doomed.kill()
        while not caches[_AWAY].health().breaker_open:
            caches[_AWAY].get("miss")
        return [
            _row(f"L{number}", title, statement, caches, limit)
            for number, (title, statement, limit) in enumerate(_PATHS, 3)
        ]


def _row(
    name: str, title: str, statement: str, caches: dict[str, Cache], limit: Limit | None
) -> Row:
    figures = interleave(
        {
            label: timed_batch(statement, {"cache": cache})
            for label, cache in caches.items()
        },
        _ROUNDS,
    )
    return Row(
        name, title, "s", figures, [limit.judge(figures)] if limit is not None else []
    )


_PATHS = (
    (
        "get, hit in L1",
        "cache.get('hit')",
        Limit(_AWAY, _HEALTHY, 1.15, "at most", "the same (<= 1.15x)"),
    ),
    (
        "get, miss in L1",
        "cache.get('miss')",
        Limit(_AWAY, _HEALTHY, 0.2, "at most", "<= 1/5"),
    ),
    ("set", "cache.set('other', 'value')", None),
)
