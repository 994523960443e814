"""T13: one cold key, many callers: the loads, and the wait of the slowest."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from statistics import median
from typing import TYPE_CHECKING

import redis

from benchmarks.contenders import DJANGO_REDIS, OURS, database
from benchmarks.report import Row, Verdict
from benchmarks.stampede_worker import (
    CONTENDERS,
    DOGPILE,
    FLASK_CACHING,
    LOADER_S,
    counter_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["measure"]

_ROUNDS = 5
_LEAD_S = 0.3
_SLOWEST = 3.0
_MODULES = {
    DJANGO_REDIS: "django_redis",
    FLASK_CACHING: "flask_caching",
    DOGPILE: "dogpile",
}


class Crowd:
    """The processes of one contender."""

    def __init__(self, stack: ExitStack, label: str, url: str, processes: int) -> None:
        self._processes = [
            stack.enter_context(_worker(label, url)) for _ in range(processes)
        ]

    def await_ready(self) -> None:
        for process in self._processes:
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"{process.args} did not start")

    def ask(self, key: str, threads: int) -> float:
        """Let all threads of all processes ask at once: the slowest one's seconds."""
        start = time.time() + _LEAD_S
        for process in self._processes:
            process.stdin.write(f"{key} {threads} {start}\n")
            process.stdin.flush()
        return max(float(process.stdout.readline()) for process in self._processes)


def measure(redis_url: str) -> list[Row]:
    """Measure 64 threads in one process, then 16 in each of four."""
    return [
        _measure("T13", "64 threads, one cold key, 50 ms loader", redis_url, 1, 64),
        _measure("T13p", "4 processes x 16 threads, the same", redis_url, 4, 16),
    ]


def _measure(name: str, title: str, url: str, processes: int, threads: int) -> Row:
    figures: dict[str, list[float]] = {}
    calls: dict[str, list[int]] = {}
    counters = redis.Redis.from_url(database(url, 15))
    for label in CONTENDERS:
        if label in _MODULES and not find_spec(_MODULES[label]):
            continue
        with ExitStack() as stack:
            crowd = Crowd(stack, label, url, processes)
            crowd.await_ready()
            keys = [f"{name}-{number}" for number in range(_ROUNDS)]
            counters.delete(*map(counter_of, keys))
            figures[label] = [crowd.ask(key, threads) for key in keys]
            calls[label] = [int(counters.get(counter_of(key)) or 0) for key in keys]
    ours_calls, slowest_s = max(calls[OURS]), median(figures[OURS])
    return Row(
        name,
        title,
        "s",
        figures,
        [
            Verdict("1 loader call", f"{ours_calls} at most", ours_calls == 1),
            Verdict(
                f"slowest caller <= {_SLOWEST:.0f}x the loader",
                f"{slowest_s / LOADER_S:.2f}x",
                slowest_s <= _SLOWEST * LOADER_S,
            ),
        ],
        [
            "loader calls (median of "
            f"{_ROUNDS} keys): "
            + ", ".join(f"{label} {median(each):.0f}" for label, each in calls.items())
        ],
    )


@contextmanager
def _worker(label: str, url: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.stampede_worker", label, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.stdin.close()
