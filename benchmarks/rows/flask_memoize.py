"""F1, F2: a hit of ``memoize``, of a function and of a method, in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.contenders import await_trust
from benchmarks.flask_contenders import OURS, REDIS, SIMPLE, cache_of, configs
from benchmarks.harness import Batch, gc_paused, interleave, timed_batch
from benchmarks.report import Limit, Row, judge_hits

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["measure"]

_ROUNDS = 31
_CALLS = 20


class Shop:
    """The owner of a memoized method; told from others by its name."""

    def __init__(self, cache: Any) -> None:
        self.price = cache.memoize()(Shop._price).__get__(self)

    def __repr__(self) -> str:
        return "shop 1"

    def _price(self, product: int) -> int:
        return product


def measure(redis_url: str) -> Iterable[Row]:
    """Time calls that every contender has the results of."""
    titles = {
        "F1": "Flask memoize, hit: a function of two arguments",
        "F2": "Flask memoize, hit: a method",
    }
    found = configs(redis_url)
    if OURS not in found:
        return [
            Row(name, title, "s", {OURS: []}, notes=["Flask is absent: n/a"])
            for name, title in titles.items()
        ]
    from flask import Flask

    caches = {
        label: cache_of(label, Flask(__name__), config)
        for label, config in found.items()
    }
    await_trust(caches[OURS])
    rows = []
    for name, title in titles.items():
        batches = _batches(name, caches)
        before = caches[OURS].stats()
        with gc_paused():
            figures = interleave(batches, _ROUNDS)
        limits = [
            Limit(REDIS, OURS, 10.0, "at least", ">= 10x faster than on Redis"),
            Limit(SIMPLE, OURS, 2.0, "at least", ">= 2x faster than on SimpleCache"),
        ]
        verdicts = [limit.judge(figures) for limit in limits]
        verdicts.append(judge_hits(before, caches[OURS].stats()))
        rows.append(Row(name, title, "s", figures, verdicts))
    return rows


def _batches(name: str, caches: dict[str, Any]) -> dict[str, Batch]:
    """Return a batch of calls per contender, all of them hits."""
    statement = f"for n in numbers: f(n{', 7' if name == 'F1' else ''})"
    batches = {}
    for label, cache in caches.items():
        function = cache.memoize()(_add) if name == "F1" else Shop(cache).price
        names = {"f": function, "numbers": range(_CALLS)}
        for _ in range(2):
            exec(statement, dict(names))
        batches[label] = timed_batch(statement, names, calls=_CALLS)
    return batches


def _add(left: int, right: int) -> int:
    return left + right
