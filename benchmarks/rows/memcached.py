"""M1 to M5: Memcached below L1, beside Django's PyMemcacheCache and beside Redis.

Each cache over Memcached has a server of its own, all of them alike. M6, the
invalidation, stands in ``invalidation.py``.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from benchmarks import contenders
from benchmarks.contenders import await_trust, database
from benchmarks.harness import interleave, paired, timed_batch
from benchmarks.report import Limit, Row, judge_hits
from benchmarks.rows import invalidation
from benchmarks.rows.tasks import Loop
from cachebridge.testing import ServerNotFoundError, memcached_server
from cachebridge.testing.servers import find_memcached

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from django.core.cache import BaseCache

    from benchmarks.harness import Batch

__all__ = ["measure"]

PYMEMCACHE = "Django PyMemcacheCache"
ALONE = "Memcached alone"
WITH_BUS = "Memcached, Redis bus"
OVER_REDIS = "Redis"
IN_MEMORY = "memory"
IN_A_THREAD = "Memcached alone, in a thread"

_KEYS = [f"article:{number:04d}" for number in range(100)]
_VALUE = "a short string"
_PAIRS = dict.fromkeys(_KEYS, _VALUE)
_ROUNDS = 301
_WITHIN_S = 15.0
_HOUR_S = 3600

Caches = dict[str, "BaseCache"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One call to time. The statement sees `cache`, `keys` and `pairs`."""

    name: str
    title: str
    statement: str
    calls: int
    limits: tuple[Limit, ...] = ()
    beside: tuple[tuple[str, str], ...] = ()
    """Pairs whose ratio is told, without a target."""


def _at_most(label: str, peer: str, share: float) -> Limit:
    return Limit(label, peer, share, "at most", f"{label} <= {share:g}x {peer}")


_SET = Operation(
    "M1",
    "set, short str",
    "for key in keys: cache.set(key, 'a short string', 300)",
    len(_KEYS),
    (_at_most(ALONE, PYMEMCACHE, 1.3),),
    ((ALONE, OVER_REDIS), (WITH_BUS, PYMEMCACHE), (WITH_BUS, OVER_REDIS)),
)
_HIT = Operation(
    "M2",
    "get, hit in L1, short str",
    "for key in keys: cache.get(key)",
    len(_KEYS),
    (_at_most(WITH_BUS, OVER_REDIS, 1.1),),
)
_FAR = Operation(
    "M3",
    "get, in L2 alone, short str",
    _HIT.statement,
    len(_KEYS),
    beside=((ALONE, PYMEMCACHE), (WITH_BUS, PYMEMCACHE), (WITH_BUS, OVER_REDIS)),
)
_SET_MANY = Operation(
    "M4",
    "set_many(100)",
    "cache.set_many(pairs, 300)",
    1,
    beside=((ALONE, PYMEMCACHE), (WITH_BUS, PYMEMCACHE), (WITH_BUS, OVER_REDIS)),
)
_AWAITED = Operation(
    "M5",
    "await aget, in L2 alone, short str",
    "",
    1,
    (_at_most(ALONE, IN_A_THREAD, 1.0),),
    ((ALONE, PYMEMCACHE), (ALONE, OVER_REDIS)),
)


def measure(redis_url: str) -> list[Row]:
    """Time single calls, then the way of an invalidation; nothing without Memcached."""
    if not _is_there():
        return []
    contenders.configure(redis_url)
    rows = []
    with _caches(redis_url, 9) as caches:
        rows.append(_time(_SET, caches))
        rows.append(_time_hits(caches))
        rows.append(_time(_SET_MANY, caches))
    # So few entries that each of the keys has left L1 when its turn has come again.
    with _caches(redis_url, 10, L1_MAX_ENTRIES=10) as caches:
        rows.insert(2, _time(_FAR, caches))
        rows.append(_time_awaited(caches))
    return [*rows, *invalidation.measure_memcached(redis_url)]


def _is_there() -> bool:
    try:
        find_memcached()
    except ServerNotFoundError:
        return False
    return find_spec("pymemcache") is not None


@contextmanager
def _caches(redis_url: str, number: int, **options: object) -> Iterator[Caches]:
    """Make the contenders; ``number`` is our Redis database, the bus is on another."""
    from django.core.cache.backends.memcached import PyMemcacheCache

    from cachebridge.django_backend import CacheBridge

    def ours(location: str, **more: object) -> BaseCache:
        return CacheBridge(
            location, {"TIMEOUT": _HOUR_S, "OPTIONS": {**options, **more}}
        )

    with ExitStack() as running:
        theirs, alone, with_bus = (
            running.enter_context(memcached_server()) for _ in range(3)
        )
        bus = database(redis_url, number + 2)
        caches = {
            PYMEMCACHE: PyMemcacheCache(
                f"{theirs.host}:{theirs.port}", {"TIMEOUT": _HOUR_S}
            ),
            ALONE: ours(alone.url),
            WITH_BUS: ours(with_bus.url, BUS_LOCATION=bus),
            OVER_REDIS: ours(database(redis_url, number)),
            IN_MEMORY: ours(f"memory://benchmarks-{number}"),
        }
        for cache in caches.values():
            await_trust(cache)
            cache.set_many(_PAIRS)
            cache.get_many(_KEYS)
        yield caches


def _time(operation: Operation, caches: Caches) -> Row:
    batches = {
        label: timed_batch(
            operation.statement,
            {"cache": cache, "keys": _KEYS, "pairs": _PAIRS},
            calls=operation.calls,
        )
        for label, cache in caches.items()
    }
    return _row(operation, batches)


def _row(operation: Operation, batches: Mapping[str, Batch]) -> Row:
    """Run many rounds.  The best batches are reported, too.

    On a busy machine waking the server up takes 20 or 50 µs, as other work has it.
    """
    figures = interleave(batches, _ROUNDS, within_s=_WITHIN_S)
    best = {label: min(samples) * 1e6 for label, samples in figures.items()}
    told = ", ".join(f"{label} {figure:.3g} µs" for label, figure in best.items())
    notes = [
        f"{of}: {paired(figures[of], figures[to])} {to}" for of, to in operation.beside
    ]
    return Row(
        operation.name,
        operation.title,
        "s",
        figures,
        [limit.judge(figures) for limit in operation.limits],
        [*notes, f"the best batch: {told}"],
    )


def _time_hits(caches: Caches) -> Row:
    near = {label: cache for label, cache in caches.items() if label != PYMEMCACHE}
    before = {label: cache.stats() for label, cache in near.items()}
    row = _time(_HIT, near)
    for label, cache in near.items():
        row.verdicts.append(judge_hits(before[label], cache.stats()))
    return row


def _time_awaited(caches: Caches) -> Row:
    """Await what L1 has not: natively, and by the plain method in a thread."""
    ours = caches[ALONE]

    async def in_a_thread(key: str) -> object:
        return await asyncio.to_thread(ours.get, key)

    loop = Loop()
    batches = {
        PYMEMCACHE: loop.one_by_one(caches[PYMEMCACHE].aget, hops=True),
        ALONE: loop.one_by_one(ours.aget),
        IN_A_THREAD: loop.one_by_one(in_a_thread),
        OVER_REDIS: loop.one_by_one(caches[OVER_REDIS].aget),
    }
    try:
        return _row(_AWAITED, batches)
    finally:
        loop.close()
