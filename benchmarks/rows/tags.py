"""Y: a tag of 100,000 values is invalidated; three other processes hold all of them.

Y1 is the call, beside a delete of one key, by a process that holds none of the values.
Y2 is the time from the call on until L1 of each process answers with none of them: it
rests while they are dropped.  Y3 to Y5 are one tagged value beside an untagged one; a
key that stays out of L1 asks for its stamps each time.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import cachebridge
from benchmarks import contenders
from benchmarks.harness import interleave, timed_batch
from benchmarks.report import Limit, Row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

__all__ = ["measure"]

_VALUES = 100_000
_BATCH = 1000
_PROCESSES = 3
_ROUNDS = 7
_ROUNDS_OF_ONE = 21
_TAG = "catalogue"
_DAY_S = 86_400
_WAIT_S = 60.0
_HOLDING = {"L1_MAX_ENTRIES": 2 * _VALUES, "L1_MAX_BYTES": 1 << 30, "L1_TTL": 3600}
_KEYS = [f"product:{number:06d}" for number in range(_VALUES)]
INVALIDATE = f"invalidate_tags, {_VALUES:,} values"
DELETE = "delete of one key"
GONE = f"gone from {_PROCESSES} L1"
BOUND = "50 ms"


def measure(redis_url: str) -> list[Row]:
    """Set all values, have them read, invalidate them; then the same again."""
    url = contenders.database(redis_url, 9)
    calls: dict[str, list[float]] = {INVALIDATE: [], DELETE: []}
    delays: list[float] = []
    with ExitStack() as running:
        cache = running.enter_context(cachebridge.Cache(url, L1_MAX_ENTRIES=0))
        holders = [running.enter_context(_holder(url)) for _ in range(_PROCESSES)]
        for _ in range(_ROUNDS):
            for start in range(0, _VALUES, _BATCH):
                batch = dict.fromkeys(_KEYS[start : start + _BATCH], "x" * 100)
                cache.set_many(batch, _DAY_S, tags=[_TAG])
            for holder in holders:
                holder.send("hold")
            for holder in holders:
                assert holder.recv() == "held"
            cache.set("one", 1, _DAY_S)
            calls[DELETE].append(_timed(lambda: cache.delete("one")))
            began = time.monotonic()
            calls[INVALIDATE].append(_timed(lambda: cache.invalidate_tags(_TAG)))
            delays += [holder.recv() - began for holder in holders]
    values = _beside_untagged(redis_url)
    limit = Limit(INVALIDATE, DELETE, 2.0, "at most", "<= 2x a delete")
    slowest = sorted(delays)[int(0.99 * len(delays))]
    gone = {GONE: delays, "their p99": [slowest], BOUND: [0.05]}
    bound = Limit("their p99", BOUND, 1.0, "at most", "p99 within 50 ms")
    return [
        Row("Y1", "invalidate_tags", "s", calls, [limit.judge(calls)]),
        Row("Y2", "invalid values not served, p50", "s", gone, [bound.judge(gone)]),
        *values,
    ]


def _beside_untagged(redis_url: str) -> list[Row]:
    """Time a tagged and an untagged value in one cache, past L1 and as hits of L1."""
    rows = []
    for name, title, statement, options in (
        ("Y3", "set", "cache.set(key, 'x' * 100, 600{})", {}),
        ("Y4", "get, hit in L2", "cache.get(key)", {"L1_EXCLUDE": ["plain", "tagged"]}),
        ("Y5", "get, hit in L1", "cache.get(key)", {}),
    ):
        with cachebridge.Cache(
            contenders.database(redis_url, 10), key_prefix=f"{name}:", **options
        ) as cache:
            contenders.await_trust(cache)
            cache.set("plain", "x" * 100, 600)
            cache.set("tagged", "x" * 100, 600, tags=[_TAG])
            batches = {
                "untagged": timed_batch(
                    statement.format(""), {"cache": cache, "key": "plain"}
                ),
                "tagged": timed_batch(
                    statement.format(", tags=['catalogue']"),
                    {"cache": cache, "key": "tagged"},
                ),
            }
            figures = interleave(batches, _ROUNDS_OF_ONE)
        bound = 1.05 if name == "Y5" else 1.3
        if name == "Y4":  # the stamps are asked for, too
            bound = 2.2
        limit = Limit("tagged", "untagged", bound, "at most", f"<= {bound} of untagged")
        rows.append(Row(name, title, "s", figures, [limit.judge(figures)]))
    return rows


def _timed(call: Any) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@contextmanager
def _holder(url: str) -> Iterator[Connection]:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_hold, args=(url, theirs))
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join()


def _hold(url: str, parent: Connection) -> None:
    """Hold all values, and tell since when L1 answers with none of them."""
    from cachebridge.core.dropping.emptying import Rest

    ended: list[float] = []
    take = Rest._take

    def take_rest(self: Rest) -> None:
        take(self)
        ended.append(time.monotonic())  # no read is a hit from now on

    Rest._take = take_rest
    cache = cachebridge.Cache(url, **_HOLDING)
    contenders.await_trust(cache)
    while True:
        try:
            parent.recv()
        except EOFError:
            return
        deadline = time.monotonic() + _WAIT_S
        while (held := cache.stats().l1_entries) < _VALUES:
            if time.monotonic() > deadline:
                raise RuntimeError(f"L1 holds {held} entries of {_VALUES}")
            for start in range(0, _VALUES, _BATCH):
                cache.get_many(_KEYS[start : start + _BATCH])
        ended.clear()
        parent.send("held")
        deadline = time.monotonic() + _WAIT_S
        while not ended and time.monotonic() < deadline:
            time.sleep(0.001)
        while cache.stats().l1_entries > _BATCH:
            if time.monotonic() > deadline:
                raise RuntimeError("L1 still holds invalid values")
            time.sleep(0.001)
        parent.send(ended[0])
