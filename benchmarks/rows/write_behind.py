"""Q: one hot key, set as often as a thread can, with and without waiting for Redis."""

from __future__ import annotations

from benchmarks.harness import interleave, timed_batch
from benchmarks.report import Limit, Row
from cachebridge import Cache

__all__ = ["measure"]

_ROUNDS = 21
_SETS = 500
WAITING, OURS = "set", "set, wait=False"


def measure(redis_url: str) -> list[Row]:
    """Time both in one process, on one key each."""
    with Cache(redis_url, key_prefix="hot:") as cache:
        cache.get("k")
        batches = {
            label: timed_batch(
                f"for n in numbers: cache.set({label!r}, n{wait})",
                {"cache": cache, "numbers": range(_SETS)},
                calls=_SETS,
            )
            for label, wait in ((WAITING, ""), (OURS, ", wait=False"))
        }
        figures = interleave(batches, _ROUNDS)
    limit = Limit(OURS, WAITING, 0.4, "at most", f"<= 0.4 of {WAITING}")
    return [Row("Q", "set of a hot key", "s", figures, [limit.judge(figures)])]
