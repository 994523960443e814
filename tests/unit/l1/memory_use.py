"""Fills a cache with very many distinct keys and prints how the process has grown.

``python -m tests.unit.l1.memory_use URL KEYS KEY_LENGTH [OPTION=INTEGER ...]`` sets
half of the keys and asks for the other half, which was never set.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path

from cachebridge import Cache
from tests.rig import engine_of

BATCH_CHARS = 200_000
PAGE = 4096


def resident_bytes() -> int:
    """Return the memory that the process really occupies."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def value_of(number: int) -> object:
    """Return a value in each of the forms that L1 keeps, in turn."""
    return (
        number,
        f"text {number:095d}",
        {"id": number, "name": f"name {number}", "price": number / 7, "tags": None},
        [[number], {"nested": [f"{number}"] * 3}],
    )[number % 4]


def fill(cache: Cache, label: str, keys: int, length: int) -> int:
    """Set and miss distinct keys; return the largest memory seen."""
    most = 0
    batch = min(1000, BATCH_CHARS // length)
    for start in range(0, keys, 2 * batch):
        numbers = range(start, start + batch)
        cache.set_many(
            {f"{label}{n:0{length}d}": value_of(n) for n in numbers}, ttl=600
        )
        cache.get_many([f"{label}{n + batch:0{length}d}" for n in numbers])
        if not start % (40 * batch):
            most = max(most, resident_bytes())
    return max(most, resident_bytes())


def main() -> None:
    url, keys, length, *options = sys.argv[1:]
    parsed = {name: int(value) for name, value in (o.split("=") for o in options)}
    # A flush by a break of the bus would hide what is measured.
    cache = Cache(url, key_prefix="app:", bus_trust=60, socket_timeout=20, **parsed)
    engine = engine_of(cache)
    engine.listening.start()
    while not cache.stats().trusted:
        cache.get("k")
    fill(cache, "warm", 2, int(length))
    before = resident_bytes()
    most = fill(cache, "k", int(keys), int(length))
    stats = cache.stats()
    print(
        json.dumps(
            {
                "grown": most - before,
                "entries": stats.l1_entries,
                "bytes": stats.l1_bytes,
                "evictions": stats.evictions,
            }
        )
    )


if __name__ == "__main__":
    main()
