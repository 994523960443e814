"""I1 to I3: adding in threads, and what a killed process has added in vain."""

from __future__ import annotations

import mmap
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from tempfile import TemporaryFile
from threading import Barrier

from benchmarks.harness import Batch, gc_paused, interleave
from benchmarks.report import Limit, Row, Verdict
from cachebridge import Cache
from cachebridge.local import IntCache

__all__ = ["measure"]

_THREADS = 8
_ADDS = 50_000
_ROUNDS = 11
_WITHIN_S = 20.0
OURS, WITH_LOCK = "IntCache", "class + with Lock"
OURS_BATCHED = "batched_counter"
_BATCH_MS = 200
_KILLS = 8
_ADDING = f"""
import mmap, sys, time
from cachebridge import Cache
url, name, descriptor = sys.argv[1:]
total, count = mmap.mmap(int(descriptor), 8), 0
views = Cache(url, key_prefix="loss:").batched_counter(name, batch_ms={_BATCH_MS})
while True:
    views.add()
    count += 1
    total[:] = count.to_bytes(8, "little")
    if not count % 100:
        time.sleep(0.001)
"""

Add = Callable[[str, int], int]


class Locked:
    """What one would write: a dictionary and a lock."""

    def __init__(self) -> None:
        self._values: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, key: str, delta: int = 1) -> int:
        with self._lock:
            total = self._values.get(key, 0) + delta
            self._values[key] = total
            return total


def measure(redis_url: str) -> list[Row]:
    """Measure the adds of eight threads, and the losses of killed processes."""
    return [
        _row(
            "I1", "8 threads add, distinct keys", [str(n) for n in range(_THREADS)], 1.9
        ),
        _row("I2", "8 threads add, one key", ["k"] * _THREADS, 1.7),
        _loss(redis_url),
    ]


def _row(name: str, title: str, keys: list[str], bound: float) -> Row:
    figures = interleave(
        {
            WITH_LOCK: _threaded(Locked().add, keys),
            OURS: _threaded(IntCache().add, keys),
        },
        _ROUNDS,
        within_s=_WITHIN_S,
    )
    words = f">= {bound}x {WITH_LOCK}"
    limit = Limit(OURS, WITH_LOCK, bound, "at least", words)
    return Row(name, title, "per s", figures, [limit.judge(figures)])


def _threaded(add: Add, keys: list[str]) -> Batch:
    """Return a batch of all threads together: adds per second of CPU time."""

    def batch() -> float:
        barrier = Barrier(_THREADS + 1, timeout=30)

        def work(key: str) -> None:
            barrier.wait()
            for _ in range(_ADDS):
                add(key, 1)

        with ThreadPoolExecutor(_THREADS) as pool, gc_paused():
            running = [pool.submit(work, key) for key in keys]
            barrier.wait()
            began = time.process_time()
            wait(running)
            return _THREADS * _ADDS / (time.process_time() - began)

    return batch


def _loss(redis_url: str) -> Row:
    """Kill processes that add to a batched counter: how much of their work is lost."""
    lost_s = [_killed(redis_url, f"views{number}", number) for number in range(_KILLS)]
    promise = f"<= {2 * _BATCH_MS} ms' worth: a batch, and its sending"
    reached = f"{max(lost_s) * 1000:.0f} ms' worth at most"
    verdict = Verdict(promise, reached, max(lost_s) <= 2 * _BATCH_MS / 1000)
    title = f"batched counter, batch_ms={_BATCH_MS}: lost by SIGKILL"
    return Row("I3", title, "s", {OURS_BATCHED: lost_s}, [verdict])


def _killed(redis_url: str, name: str, number: int) -> float:
    """Return the seconds in which the process had added what it lost."""
    with Cache(redis_url, key_prefix="loss:") as cache, TemporaryFile() as file:
        file.truncate(8)
        total = mmap.mmap(file.fileno(), 8)
        views = cache.batched_counter(name)
        descriptor = file.fileno()
        command = [sys.executable, "-c", _ADDING, redis_url, name, str(descriptor)]
        with subprocess.Popen(command, pass_fds=[descriptor]) as child:
            while not views.value():
                time.sleep(0.01)
            began, first = time.monotonic(), int.from_bytes(total[:], "little")
            time.sleep(_BATCH_MS / 1000 * (2 + number / _KILLS))
            child.kill()
            child.wait()
            elapsed_s = time.monotonic() - began
        added = int.from_bytes(total[:], "little")
        time.sleep(0.1)  # what was on its way has arrived
        lost = added - (views.value() or 0)
        return lost * elapsed_s / (added - first)
