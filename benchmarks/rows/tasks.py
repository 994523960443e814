"""T10: the asynchronous methods, beside those of Django's backends and of cashews."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from importlib.util import find_spec
from itertools import takewhile
from typing import Any

import redis
from redis.asyncio import Redis

from benchmarks import contenders
from benchmarks.contenders import BUILTIN, DJANGO_REDIS, LOCMEM, OURS
from benchmarks.harness import Batch, interleave
from benchmarks.report import Limit, Row, Verdict, judge_hits

__all__ = ["measure"]

CASHEWS = "cashews, memory"
CASHEWS_CLIENT_SIDE = "cashews, client-side"
CASHEWS_REDIS = "cashews, Redis"
REDIS_ASYNCIO = "redis.asyncio"
FLOOR = "a coroutine that returns"

Call = Callable[[str], Awaitable[object]]

_KEYS = [f"article:{number:04d}" for number in range(100)]
_VALUE = "a short string"
_TASKS = 100
_HOUR_S = 3600
_ROUNDS = 31
_REPEATS = 3


class Loop:
    """One event loop for all contenders, and what they hold on it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(coroutine)

    def one_by_one(self, call: Call, *, hops: bool = False) -> Batch:
        """Time one call after the other in one task; fewer of those that hop."""
        keys = _KEYS[:10] if hops else _KEYS

        async def work() -> float:
            best = float("inf")
            for _ in range(_REPEATS):
                began = time.perf_counter()
                for key in keys:
                    await call(key)
                best = min(best, time.perf_counter() - began)
            return best / len(keys)

        return lambda: self.run(work())

    def together(self, call: Call) -> Batch:
        """Time tasks that run at the same time, each with some calls."""

        async def task() -> None:
            for key in _KEYS[:20]:
                await call(key)

        async def work() -> float:
            began = time.perf_counter()
            await asyncio.gather(*(task() for _ in range(_TASKS)))
            return (time.perf_counter() - began) / (_TASKS * 20)

        return lambda: self.run(work())

    def close(self) -> None:
        self.run(self._loop.shutdown_default_executor())
        self._loop.close()


def measure(redis_url: str) -> list[Row]:
    """Time hits, hits of many tasks, misses and sets."""
    contenders.configure(redis_url)
    held = contenders.held()
    ours = held[OURS]
    contenders.await_trust(ours)
    loop = Loop()
    client = Redis.from_url(contenders.database(redis_url, 8))
    peers = loop.run(_cashews(redis_url))
    for cache in held.values():
        cache.set_many(dict.fromkeys(_KEYS, _VALUE))
        cache.get_many(_KEYS)
    try:
        return [
            _hits(loop, held, peers),
            _hits_of_many_tasks(loop, held, peers),
            _misses(loop, held, client, peers),
            _sets(loop, held, client, redis_url),
        ]
    finally:
        loop.run(client.aclose())
        for peer in peers.values():
            loop.run(peer.close())
        loop.close()


async def _cashews(redis_url: str) -> dict[str, Any]:
    if not find_spec("cashews"):
        return {}
    from cashews import Cache

    peers = {}
    for label, url, options in (
        (CASHEWS, "mem://", {}),
        (CASHEWS_CLIENT_SIDE, contenders.database(redis_url, 6), {"client_side": True}),
        (CASHEWS_REDIS, contenders.database(redis_url, 7), {}),
    ):
        cache = peers[label] = Cache()
        cache.setup(url, **options)
        await cache.init()
        for key in _KEYS:
            await cache.set(key, _VALUE, expire=_HOUR_S)
            await cache.get(key)
    return peers


async def _return(_key: str) -> str:
    return _VALUE


def _hits(loop: Loop, held: dict[str, Any], peers: dict[str, Any]) -> Row:
    batches = {FLOOR: loop.one_by_one(_return), OURS: loop.one_by_one(held[OURS].aget)}
    for label in (LOCMEM, BUILTIN, DJANGO_REDIS):
        if label in held:
            batches[label] = loop.one_by_one(held[label].aget, hops=True)
    for label in (CASHEWS, CASHEWS_CLIENT_SIDE):
        if label in peers:
            batches[label] = loop.one_by_one(peers[label].get)
    before = held[OURS].stats()
    figures = interleave(batches, _ROUNDS)
    after = held[OURS].stats()
    figures.setdefault(CASHEWS, [])
    limits = (
        Limit(LOCMEM, OURS, 100, "at least", ">= 100x faster than LocMem"),
        Limit(CASHEWS, OURS, 6, "at least", ">= 6x faster than cashews in memory"),
    )
    verdicts = [limit.judge(figures) for limit in limits]
    verdicts.append(judge_hits(before, after))
    return Row("T10", "await aget, hit in L1", "s", figures, verdicts)


def _hits_of_many_tasks(loop: Loop, held: dict[str, Any], peers: dict[str, Any]) -> Row:
    batches = {OURS: loop.together(held[OURS].aget)}
    for label in (CASHEWS, CASHEWS_CLIENT_SIDE):
        if label in peers:
            batches[label] = loop.together(peers[label].get)
    figures = interleave(batches, _ROUNDS)
    figures.setdefault(CASHEWS_CLIENT_SIDE, [])
    limit = Limit(
        CASHEWS_CLIENT_SIDE,
        OURS,
        6,
        "at least",
        ">= 6x faster than cashews' client-side",
    )
    title = f"the same by {_TASKS} tasks at once"
    return Row("T10b", title, "s", figures, [limit.judge(figures)])


def _misses(
    loop: Loop, held: dict[str, Any], client: Redis, peers: dict[str, Any]
) -> Row:
    def absent(call: Call) -> Call:
        return lambda key: call(f"absent:{key}")

    batches = {
        REDIS_ASYNCIO: loop.one_by_one(absent(client.get)),
        OURS: loop.one_by_one(absent(held[OURS].aget)),
    }
    if DJANGO_REDIS in held:
        batches[DJANGO_REDIS] = loop.one_by_one(
            absent(held[DJANGO_REDIS].aget), hops=True
        )
    if CASHEWS_REDIS in peers:
        batches[CASHEWS_REDIS] = loop.one_by_one(absent(peers[CASHEWS_REDIS].get))
    figures = interleave(batches, _ROUNDS)
    limit = Limit(OURS, REDIS_ASYNCIO, 1.1, "at most", "<= 1.1x a GET of redis.asyncio")
    return Row(
        "T10c", "await aget, miss in both levels", "s", figures, [limit.judge(figures)]
    )


def _sets(loop: Loop, held: dict[str, Any], client: Redis, url: str) -> Row:
    def plain(key: str) -> Awaitable[object]:
        return client.set(key, _VALUE, ex=_HOUR_S)

    def setting(cache: Any) -> Call:
        return lambda key: cache.aset(key, _VALUE, _HOUR_S)

    batches = {
        REDIS_ASYNCIO: loop.one_by_one(plain),
        OURS: loop.one_by_one(setting(held[OURS])),
    }
    if DJANGO_REDIS in held:
        batches[DJANGO_REDIS] = loop.one_by_one(setting(held[DJANGO_REDIS]), hops=True)
    figures = interleave(batches, _ROUNDS)
    verdict = _count_commands(loop, held[OURS], url)
    return Row("T10d", "await aset, short str", "s", figures, [verdict])


def _count_commands(loop: Loop, cache: Any, url: str) -> Verdict:
    """Count commands sent by one aset; a heartbeat may fall in: the smallest counts."""
    counts = []
    with redis.Redis.from_url(url) as watcher:
        for _ in range(3):
            with watcher.monitor() as monitor:
                loop.run(cache.aset("counted", _VALUE))
                watcher.echo("end of window")
                seen = list(
                    takewhile(
                        lambda entry: not entry["command"].startswith("ECHO"),
                        monitor.listen(),
                    )
                )
            counts.append(sum(entry["client_type"] != "lua" for entry in seen))
    return Verdict("one command per call", str(min(counts)), min(counts) == 1)
