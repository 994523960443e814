"""Handles the requests of a trace: ``... <location> <options>``.

For each line, ``<first> <last>``, it says which of these requests L1 has answered.  The
first line comes when a new worker has read what others have left.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from benchmarks.traces.workloads import keys_of
from cachebridge import Cache
from tests.rig import engine_of, eventually, refreshed

TRACE = "web12"


def begin(cache: Cache) -> None:
    """Wait until L1 is in use, and the warm-up has done what it could."""
    engine = engine_of(cache)
    engine.listening.start()
    eventually(lambda: cache.stats().trusted)
    if engine.options.l1_warm:
        eventually(lambda: engine.warm_up._work.todo is not None)
        refreshed(cache)


def main(location: str, options: dict[str, Any]) -> None:
    requests = keys_of(TRACE)
    cache = Cache(location, on_error="raise", **options)
    counters = engine_of(cache).counters
    begin(cache)
    print(json.dumps(cache.stats().warmed), flush=True)
    for line in sys.stdin:
        first, last = map(int, line.split())
        hits = []
        for number in requests[first:last]:
            before = counters.l1_hits
            assert cache.get(f"product:{number}") == number
            hits.append(counters.l1_hits - before)
        print(json.dumps(hits), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
