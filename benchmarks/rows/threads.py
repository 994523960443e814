"""T5: eight threads on Zipf-distributed keys through Django's API."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import accumulate
from threading import Barrier

from django.core.cache import BaseCache, caches

from benchmarks import contenders
from benchmarks.contenders import BUILTIN, DJANGO_REDIS, LOCMEM, OURS
from benchmarks.harness import Batch, gc_paused, interleave
from benchmarks.report import Limit, Row, judge_hits

__all__ = ["measure"]

_THREADS = 8
_KEYS = [f"product:{number:05d}" for number in range(10_000)]
_CUMULATED = list(accumulate(rank**-0.99 for rank in range(1, len(_KEYS) + 1)))
_VALUE = "a short string"
_WRITE_SHARE = 0.05
_ROUNDS = 11
_WITHIN_S = 12.0
_BATCH_S = 0.2
# A plan is walked in circles: long enough that no thread sees the same few keys only.
_PLAN_LENGTH = 4_000

ALONE = f"{OURS}, 1 thread"

# What one thread does: take its backend, do `calls` calls.
Work = Callable[[BaseCache, int, int], None]


def measure(redis_url: str) -> list[Row]:
    """Measure the rates of eight threads: hits only, then with writes."""
    contenders.configure(redis_url)
    for cache in contenders.held().values():
        contenders.await_trust(cache)
        for start in range(0, len(_KEYS), 1000):
            keys = _KEYS[start : start + 1000]
            cache.set_many(dict.fromkeys(keys, _VALUE))
            cache.get_many(keys)
    return [_measure_hits(), _measure_mixed()]


def _measure_hits() -> Row:
    plans = _zipf_plans()

    def read(cache: BaseCache, number: int, calls: int) -> None:
        plan = plans[number]
        for _ in range(calls // len(plan)):
            for key in plan:
                cache.get(key)
        for key in plan[: calls % len(plan)]:
            cache.get(key)

    batches = {
        label: _threaded(label, read, _THREADS) for label in contenders.installed()
    }
    batches[ALONE] = _threaded(OURS, read, 1)
    ours = contenders.held()[OURS]
    before = ours.stats()
    figures = interleave(batches, _ROUNDS, within_s=_WITHIN_S)
    after = ours.stats()
    limits = [
        Limit(OURS, LOCMEM, 8, "at least", ">= 8x the rate of LocMem"),
        Limit(OURS, ALONE, 0.85, "at least", ">= 0.85x its own rate in 1 thread"),
    ]
    return Row(
        "T5",
        "8 threads, Zipf 0.99, hits only",
        "per s",
        figures,
        [*(limit.judge(figures) for limit in limits), judge_hits(before, after)],
    )


def _measure_mixed() -> Row:
    chance = random.Random(5)
    plans = [
        [(key, chance.random() < _WRITE_SHARE) for key in plan]
        for plan in _zipf_plans()
    ]

    def read_and_write(cache: BaseCache, number: int, calls: int) -> None:
        plan = plans[number]
        for start in range(0, calls, len(plan)):
            for key, writes in plan[: calls - start]:
                if writes:
                    cache.set(key, _VALUE)
                else:
                    cache.get(key)

    labels = [label for label in contenders.installed() if label != BUILTIN]
    ours = contenders.held()[OURS]
    before = ours.stats()
    figures = interleave(
        {label: _threaded(label, read_and_write, _THREADS) for label in labels},
        _ROUNDS,
        within_s=_WITHIN_S,
    )
    hits = judge_hits(before, ours.stats())
    limit = Limit(OURS, DJANGO_REDIS, 8, "at least", ">= 8x the rate of django-redis")
    return Row(
        "T5w",
        "the same with 5 % synchronous writes",
        "per s",
        figures,
        [limit.judge(figures)],
        [f"hits in L1: {hits.reached} reads"],
    )


def _zipf_plans() -> list[list[str]]:
    chance = random.Random(99)
    shuffled = random.Random(7).sample(_KEYS, len(_KEYS))
    return [
        chance.choices(shuffled, cum_weights=_CUMULATED, k=_PLAN_LENGTH)
        for _ in range(_THREADS)
    ]


def _threaded(label: str, work: Work, threads: int) -> Batch:
    """Return a batch of all threads together: calls per second."""
    _run_threads(label, work, threads, 25)
    calls = 100
    elapsed_s = _run_threads(label, work, threads, calls)
    while elapsed_s < _BATCH_S / 4:
        calls *= 4
        elapsed_s = _run_threads(label, work, threads, calls)
    calls = int(calls * _BATCH_S / elapsed_s)

    def batch() -> float:
        return threads * calls / _run_threads(label, work, threads, calls)

    return batch


def _run_threads(label: str, work: Work, threads: int, calls: int) -> float:
    """Let fresh threads work at once; return the seconds until the last is done."""
    barrier = Barrier(threads + 1, timeout=30)

    def run(number: int) -> None:
        cache = caches[label]
        cache.get(_KEYS[0])
        barrier.wait()
        work(cache, number, calls)

    with ThreadPoolExecutor(threads) as pool, gc_paused():
        running = [pool.submit(run, number) for number in range(threads)]
        barrier.wait()
        started = time.perf_counter()
        wait(running)
        elapsed_s = time.perf_counter() - started
        for done in running:
            done.result()
    return elapsed_s
