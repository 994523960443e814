"""T1, T1b, T2, T3, T6 to T9: single calls through Django's cache API."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

import redis

from benchmarks import contenders
from benchmarks.contenders import DJANGO_REDIS, LOCMEM, OURS
from benchmarks.harness import interleave, paired, timed_batch
from benchmarks.report import Limit, Row, Verdict, judge_hits

if TYPE_CHECKING:
    from django.core.cache import BaseCache

__all__ = ["OPERATIONS", "Operation", "measure"]

PROXY_ALONE = "the proxy alone"

_KEYS = [f"article:{number:04d}" for number in range(100)]
_ROUNDS = 31

_SHORT = "a short string"
_RECORD = {f"field_{number:02d}": f"value {number}" for number in range(10)} | {
    f"count_{number:02d}": number * 1000 for number in range(10)
}
_PAGE = ("<li class='item'>An entry of a list</li>\n" * 300)[: 10 * 1024]


@dataclass(frozen=True, slots=True)
class Operation:
    """One call to time. The statement sees `cache`, `keys`, `value` and `pairs`."""

    name: str
    title: str
    statement: str
    calls: int
    value: object
    limits: tuple[Limit, ...]
    stored: bool = True
    all_from_l1: bool = False
    through_proxy: bool = False
    one_round_trip: bool = False


def _faster(peer: str, factor: float) -> Limit:
    return Limit(peer, OURS, factor, "at least", f">= {factor:g}x faster than {peer}")


def _at_most(peer: str, share: float) -> Limit:
    return Limit(OURS, peer, share, "at most", f"<= {share:g}x the time of {peer}")


_GET = "for key in keys: cache.get(key)"

OPERATIONS = (
    Operation(
        "T1",
        "get, hit in L1, short str",
        _GET,
        len(_KEYS),
        _SHORT,
        (_faster(LOCMEM, 15), _faster(DJANGO_REDIS, 150)),
        all_from_l1=True,
    ),
    Operation(
        "T1b",
        "the same through the django.core.cache.cache proxy",
        _GET,
        len(_KEYS),
        _SHORT,
        (_faster(LOCMEM, 4),),
        all_from_l1=True,
        through_proxy=True,
    ),
    Operation(
        "T2",
        "get, hit in L1, flat dict of 20 fields",
        _GET,
        len(_KEYS),
        _RECORD,
        (_faster(LOCMEM, 10),),
        all_from_l1=True,
    ),
    Operation(
        "T3",
        "get, hit in L1, HTML str of 10 KiB",
        _GET,
        len(_KEYS),
        _PAGE,
        (_faster(LOCMEM, 20),),
        all_from_l1=True,
    ),
    Operation(
        "T6",
        "set, short str",
        "for key in keys: cache.set(key, value, 300)",
        len(_KEYS),
        _SHORT,
        (_at_most(DJANGO_REDIS, 0.85),),
    ),
    Operation(
        "T7",
        "get, miss in both levels",
        _GET,
        len(_KEYS),
        _SHORT,
        (_at_most(DJANGO_REDIS, 0.95),),
        stored=False,
    ),
    Operation(
        "T8",
        "get_many(100), all in L1",
        "cache.get_many(keys)",
        1,
        _SHORT,
        (_faster(LOCMEM, 15),),
        all_from_l1=True,
    ),
    Operation(
        "T9",
        "set_many(100)",
        "cache.set_many(pairs, 300)",
        1,
        _SHORT,
        (_at_most(DJANGO_REDIS, 0.35),),
        one_round_trip=True,
    ),
)


def measure(operation: Operation, redis_url: str) -> list[Row]:
    """Time one operation on every contender."""
    contenders.configure(redis_url)
    held = contenders.held()
    caches = contenders.proxies() if operation.through_proxy else held
    keys = [f"{operation.name}:{key}" for key in _KEYS]
    pairs = dict.fromkeys(keys, operation.value)
    for cache in held.values():
        contenders.await_trust(cache)
        if operation.stored:
            cache.set_many(pairs)
            cache.get_many(keys)

    batches = {
        label: timed_batch(
            operation.statement,
            {"cache": cache, "keys": keys, "value": operation.value, "pairs": pairs},
            calls=operation.calls,
        )
        for label, cache in caches.items()
    }
    if operation.through_proxy:
        batches[PROXY_ALONE] = timed_batch("cache.get", {"cache": caches[OURS]})
    ours = held[OURS]
    before = ours.stats()
    figures = interleave(batches, _ROUNDS)
    after = ours.stats()

    verdicts = [limit.judge(figures) for limit in operation.limits]
    if operation.all_from_l1:
        verdicts.append(judge_hits(before, after))
    notes = []
    if operation.through_proxy:
        ceiling = paired(figures[LOCMEM], figures[PROXY_ALONE])
        notes.append(f"a get that took no time would reach {ceiling}")
    if operation.one_round_trip:
        verdicts.append(_count_traffic(ours, pairs, redis_url))
    for cache in held.values():
        cache.delete_many(keys)
    return [Row(operation.name, operation.title, "s", figures, verdicts, notes)]


def _count_traffic(cache: BaseCache, pairs: dict[str, object], url: str) -> Verdict:
    """Count commands sent and messages published by one set_many, with MONITOR.

    A heartbeat may fall into the window: the smallest of a few counts is the call's.
    """
    counts = []
    with redis.Redis.from_url(url) as client:
        for _ in range(3):
            with client.monitor() as monitor:
                cache.set_many(pairs, 300)
                client.echo("end of window")
                seen = list(takewhile(_before_end, monitor.listen()))
            sent = [entry for entry in seen if entry["client_type"] != "lua"]
            published = [
                entry for entry in seen if entry["command"].startswith("PUBLISH")
            ]
            counts.append((len(sent), len(published)))
    sent, published = min(counts)
    return Verdict(
        "one command, one message per call",
        f"{sent} and {published}",
        (sent, published) == (1, 1),
    )


def _before_end(entry: dict[str, str]) -> bool:
    return not entry["command"].startswith("ECHO")
