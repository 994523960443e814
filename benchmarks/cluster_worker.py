"""A process that only listens: `python -m benchmarks.cluster_worker URL`.

When L1 is trusted it notes what two idle seconds cost, and prints a line. It ends with
its standard input, and prints how many messages it has handled and their CPU time.
"""

from __future__ import annotations

import sys
import time

from cachebridge import Cache


def main() -> None:
    """Listen, and account for it."""
    with Cache(sys.argv[1]) as cache:
        while not cache.health().l1_trusted:
            cache.get("any")
            time.sleep(0.01)
        began_s, cpu_s = time.monotonic(), time.process_time()
        time.sleep(2.0)
        idle = (time.process_time() - cpu_s) / (time.monotonic() - began_s)
        began_s, cpu_s = time.monotonic(), time.process_time()
        before = cache.stats().messages_received
        print("ready", flush=True)
        sys.stdin.read()
        spent_s = time.process_time() - cpu_s - idle * (time.monotonic() - began_s)
        print(cache.stats().messages_received - before, spent_s, flush=True)


if __name__ == "__main__":
    main()
