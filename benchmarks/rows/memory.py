"""T15: what a million entries cost in memory and in garbage collection."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks import contenders
from benchmarks.contenders import LOCMEM, OURS
from benchmarks.report import Row, Verdict

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

__all__ = ["measure"]

_ENTRIES = 1_000_000
_BATCH = 1000
_COLLECTIONS = 7
_TIMEOUT_S = 36_000
_MAX_BYTES_OVER_DATA = 180
_MAX_PAUSE_S = 0.045
_STATM = Path("/proc/self/statm")

# Stores so many pairs more.
Filler = Callable[[list[tuple[str, bytes]]], None]


def measure(redis_url: str) -> list[Row]:
    """Fill each contender in a process of its own: bytes per entry, and GC pause."""
    sizes: dict[str, list[float]] = {}
    pauses: dict[str, list[float]] = {}
    with ExitStack() as running:
        weighings = {
            label: running.enter_context(_in_process(label, redis_url))
            for label in (LOCMEM, OURS)
        }
        for label, weighing in weighings.items():
            size, pauses[label] = weighing.recv()
            sizes[label] = [size] if _STATM.exists() else []
    return [
        Row(
            "T15",
            "1M entries (12-char key, 100 bytes): bytes per entry over the data",
            "B",
            sizes,
            [_under(sizes[OURS], _MAX_BYTES_OVER_DATA, "<= 180 B", "{:.0f} B", 1)],
        ),
        Row(
            "T15g",
            "the same: what they add to a full garbage collection",
            "s",
            pauses,
            [_under(pauses[OURS], _MAX_PAUSE_S, "<= 45 ms", "{:.1f} ms", 1e3)],
        ),
    ]


def _under(
    samples: list[float], bound: float, promise: str, shape: str, factor: float
) -> Verdict:
    if not samples:
        return Verdict(promise, "nothing (no /proc)", None)
    reached = median(samples)
    return Verdict(promise, shape.format(reached * factor), reached <= bound)


@contextmanager
def _in_process(label: str, redis_url: str) -> Iterator[Connection]:
    """Run one contender in a fresh interpreter, so that nothing else is weighed."""
    context = get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_fill_and_weigh, args=(label, redis_url, sending))
    process.start()
    sending.close()
    try:
        yield receiving
    finally:
        receiving.close()
        process.join()


def _fill_and_weigh(label: str, redis_url: str, report: Connection) -> None:
    fill, count = _filler(label, redis_url)
    pairs = _pairs()
    # The first entries include what is made once: connections, tables, code.
    fill(list(islice(pairs, _BATCH)))
    key, value = next(pairs)
    data_size = sys.getsizeof(key) + sys.getsizeof(value)
    before_s = _pauses(fill, pairs)
    before = _resident_bytes()
    for _ in range(_ENTRIES // _BATCH):
        fill(list(islice(pairs, _BATCH)))
    per_entry = (_resident_bytes() - before) / _ENTRIES - data_size
    after_s = _pauses(fill, pairs)
    if count() < _ENTRIES:
        raise RuntimeError(f"{label} holds {count()} entries of {_ENTRIES}")
    report.send((per_entry, [pause_s - median(before_s) for pause_s in after_s]))
    report.close()


def _pauses(fill: Filler, pairs: Iterator[tuple[str, bytes]]) -> list[float]:
    """Time full collections, with new entries in between as when serving.

    In seconds of this thread's CPU, so that a busy machine does not count.
    """
    pauses_s = []
    for _ in range(_COLLECTIONS):
        fill(list(islice(pairs, _BATCH)))
        started = time.thread_time()
        gc.collect()
        pauses_s.append(time.thread_time() - started)
    return pauses_s


def _pairs() -> Iterator[tuple[str, bytes]]:
    number = 0
    while True:
        yield f"{number:012d}", number.to_bytes(100, "big")
        number += 1


def _filler(label: str, redis_url: str) -> tuple[Filler, Callable[[], int]]:
    """Return what stores pairs in a contender, and what counts its entries."""
    if label == LOCMEM:
        contenders.configure(redis_url)
        cache = contenders.held()[LOCMEM]
        return (
            lambda pairs: cache.set_many(dict(pairs), _TIMEOUT_S),
            lambda: len(cache._cache),
        )

    import cachebridge

    # What an entry costs does not depend on the bus; without messages of a thousand
    # keys each the row takes half the time.
    logging.getLogger("cachebridge").setLevel(logging.ERROR)
    ours = cachebridge.Cache(
        contenders.database(redis_url, 5),
        BUS="none",
        L1_MAX_ENTRIES=2 * _ENTRIES,
        L1_MAX_BYTES=1 << 31,
        L1_TTL=_TIMEOUT_S,
    )
    contenders.await_trust(ours)
    return (
        lambda pairs: ours.set_many(dict(pairs), _TIMEOUT_S),
        lambda: ours.stats().l1_entries,
    )


def _resident_bytes() -> int:
    """Return the resident set after free memory went back to the system."""
    if not _STATM.exists():
        return 0
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
