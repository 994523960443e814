"""Sells from a stock with 16 threads: ``... <location> <options>``.

Says "ready" when L1 is in use.  For each line it sells until there is nothing left, and
says how many it has sold; then it waits until refusals are answered locally.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cachebridge import Cache

THREADS = 16


def sell_all(stock: Any) -> int:
    """Take one by one until there is nothing left.

    A refusal alone does not say so: the message of the delivery may be on its way.
    """
    sold = 0
    while True:
        if stock.take():
            sold += 1
        elif stock.value() == 0:
            return sold


def wait_for_local_refusals(cache: Cache, stock: Any) -> None:
    """Ask in vain until the process knows the answer."""
    while True:
        hits = cache.stats().l1_hits
        if stock.take():
            raise AssertionError("it was sold out")
        if cache.stats().l1_hits > hits:
            return


def main(location: str, options: dict[str, Any]) -> None:
    cache = Cache(location, on_error="raise", **options)
    stock = cache.counter("stock")
    while not cache.stats().trusted:
        cache.get("warm-up")
        time.sleep(0.01)
    print("ready", flush=True)
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in sys.stdin:
            sold = sum(pool.map(sell_all, [stock] * THREADS))
            wait_for_local_refusals(cache, stock)
            print(sold, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
