"""Adds to a batched counter: ``... <location>``.

Adds ``FIRST`` and says so once they have arrived by themselves; adds ``LAST`` and says
so at once; then it ends when its standard input does.
"""

from __future__ import annotations

import sys
import time

from cachebridge import Cache

FIRST, LAST = 1000, 7


def main(location: str) -> None:
    views = Cache(location).batched_counter("views", batch_ms=50)
    for _ in range(FIRST):
        views.add()
    while views.value() != FIRST:
        time.sleep(0.01)
    print("sent", flush=True)
    views.add(LAST)
    print("added", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
