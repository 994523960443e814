"""G1 to G3: a group beside what loads by key in other libraries."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, Any

from benchmarks import contenders
from benchmarks.contenders import DJANGO_REDIS, OURS, await_trust, database
from benchmarks.harness import interleave, paired, timed_batch
from benchmarks.report import Limit, Row, Verdict, judge_hits
from benchmarks.rows.tasks import Loop
from cachebridge import Cache

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.harness import Batch
    from cachebridge import Group

__all__ = ["measure"]

DOGPILE_MEMORY = "dogpile, memory"
DOGPILE = "dogpile, Redis"
DOGPILE_LOCKS = "dogpile, Redis locks"
CASHEWS = "cashews, memory"
OURS_BY_HAND = "cachebridge, by hand"

_ROUNDS = 31
_COUNT = 100
_TTL_S = 3600
_VALUE = "a short string"

# Finds the values of these numbers, and loads what is missing.
GetMany = Callable[[list[int]], object]


class Loads:
    """The loader of all contenders; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def one(self, _number: object = None) -> str:
        self.calls += 1
        return _VALUE

    def many(self, numbers: Sequence[int]) -> dict[int, str]:
        self.calls += 1
        return dict.fromkeys(numbers, _VALUE)


def measure(redis_url: str) -> list[Row]:
    """Time hits, awaited hits, and batches of which no value exists."""
    contenders.configure(redis_url)
    loads = Loads()
    with Cache(database(redis_url, 9)) as cache:
        group = cache.group("product", loads.one, load_many=loads.many, ttl=_TTL_S)
        await_trust(cache)
        return [
            _hits(cache, group, loads, _regions(redis_url)),
            _awaited_hits(cache, group),
            _cold_batches(cache, group, loads, _regions(redis_url)),
        ]


def _regions(redis_url: str) -> dict[str, Any]:
    """Return dogpile's regions: in memory, and on Redis with two kinds of locks."""
    if not find_spec("dogpile"):
        return {}
    from dogpile.cache import make_region

    locks = {"distributed_lock": True, "thread_local_lock": False}
    backends = {
        DOGPILE_MEMORY: ("dogpile.cache.memory", {}),
        DOGPILE: ("dogpile.cache.redis", {"url": database(redis_url, 10)}),
        DOGPILE_LOCKS: (
            "dogpile.cache.redis",
            {"url": database(redis_url, 11), **locks},
        ),
    }
    return {
        label: make_region().configure(
            backend, expiration_time=_TTL_S, arguments=arguments
        )
        for label, (backend, arguments) in backends.items()
    }


def _hits(
    cache: Cache, group: Group[int, str], loads: Loads, regions: dict[str, Any]
) -> Row:
    held = contenders.held()
    calls = {OURS: ("group.get(n)", {"group": group})}
    for label in (DOGPILE_MEMORY, DOGPILE):
        if label in regions:
            call = "region.get_or_create(f'product:{n}', load)"
            calls[label] = (call, {"region": regions[label]})
    if DJANGO_REDIS in held:
        call = "cache.get_or_set(f'product:{n}', load)"
        calls[DJANGO_REDIS] = (call, {"cache": held[DJANGO_REDIS]})
    shared = {"numbers": range(_COUNT), "load": loads.one}
    batches = {
        label: timed_batch(
            f"for n in numbers: {call}", {**shared, **names}, calls=_COUNT
        )
        for label, (call, names) in calls.items()
    }
    before, loads.calls = cache.stats(), 0
    figures = interleave(batches, _ROUNDS)
    limits = (
        Limit(
            DOGPILE_MEMORY, OURS, 1, "at least", ">= 1x the speed of dogpile, memory"
        ),
        Limit(DOGPILE, OURS, 10, "at least", ">= 10x faster than dogpile on Redis"),
    )
    verdicts = [limit.judge(figures) for limit in limits]
    verdicts.append(judge_hits(before, cache.stats()))
    verdicts.append(Verdict("no load", str(loads.calls), loads.calls == 0))
    return Row("G1", "group.get, hit in L1", "s", figures, verdicts)


def _awaited_hits(cache: Cache, group: Group[Any, str]) -> Row:
    loop = Loop()
    calls: dict[str, Any] = {OURS: group.aget}
    if find_spec("cashews"):
        from cashews import Cache as Cashews

        peer = Cashews()
        peer.setup("mem://")
        loop.run(peer.init())

        @peer(ttl=_TTL_S, key="product:{number}")
        async def load(number: str) -> str:  # noqa: ARG001 its key
            return _VALUE

        calls[CASHEWS] = load
    try:
        batches = {label: loop.one_by_one(call) for label, call in calls.items()}
        for batch in batches.values():
            batch()
        before = cache.stats()
        figures = interleave(batches, _ROUNDS)
    finally:
        loop.close()
    figures.setdefault(CASHEWS, [])
    limit = Limit(CASHEWS, OURS, 5, "at least", ">= 5x faster than cashews in memory")
    verdicts = [limit.judge(figures), judge_hits(before, cache.stats())]
    return Row("G2", "await group.aget, hit in L1", "s", figures, verdicts)


def _cold_batches(
    cache: Cache, group: Group[int, str], loads: Loads, regions: dict[str, Any]
) -> Row:
    """Time ``get_many`` of numbers that were never asked for."""
    fresh = itertools.count(_COUNT)

    def by_hand(cache: Any) -> GetMany:
        def get_many(numbers: list[int]) -> None:
            keys = {f"hand:{number}": number for number in numbers}
            found = cache.get_many(keys)
            missing = [number for key, number in keys.items() if key not in found]
            loaded = loads.many(missing)
            cache.set_many({f"hand:{n}": loaded[n] for n in missing}, _TTL_S)

        return get_many

    def of_region(region: Any) -> GetMany:
        def create(*keys: str) -> list[str]:
            loaded = loads.many([int(key.removeprefix("product:")) for key in keys])
            return list(loaded.values())

        return lambda numbers: region.get_or_create_multi(
            [f"product:{number}" for number in numbers], create
        )

    contestants: dict[str, GetMany] = {
        OURS: group.get_many,
        OURS_BY_HAND: by_hand(cache),
    }
    held = contenders.held()
    if DJANGO_REDIS in held:
        contestants[DJANGO_REDIS] = by_hand(held[DJANGO_REDIS])
    for label in (DOGPILE, DOGPILE_LOCKS):
        if label in regions:
            contestants[label] = of_region(regions[label])

    def timed(get_many: GetMany) -> Batch:
        return timed_batch(
            "get_many([*islice(fresh, count)])",
            {"get_many": get_many, "islice": islice, "fresh": fresh, "count": _COUNT},
        )

    batches = {label: timed(get_many) for label, get_many in contestants.items()}
    figures = interleave(batches, _ROUNDS)
    loads.calls = 0
    group.get_many([*islice(fresh, _COUNT)])
    limit = Limit(OURS, DOGPILE_LOCKS, 1, "at most", "<= dogpile with its Redis locks")
    verdicts = [
        limit.judge(figures),
        Verdict("one call of load_many", str(loads.calls), loads.calls == 1),
    ]
    title = f"group.get_many({_COUNT}), all to be loaded"
    notes = [
        f"{paired(figures[OURS], each)} the time of {label}"
        for label, each in figures.items()
        if label not in {OURS, DOGPILE_LOCKS}
    ]
    return Row("G3", title, "s", figures, verdicts, notes)
