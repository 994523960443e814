"""A process that loads on demand: ``... <url> <location> <options as JSON>``.

Each line on its standard input is a JSON list, a command and its arguments; it answers
each with a line of JSON.  Loaders count themselves in Redis, past the library, and say
there when they begin.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis

from cachebridge import Cache
from cachebridge.core import loading

UNTIL_TOLD = -1
"""Instead of seconds: the loader goes on when something stands in ``go:<key>``."""


class Worker:
    """One cache, and a client of its own for what the tests want to know."""

    def __init__(self, url: str, location: str, options: dict[str, Any]) -> None:
        self._cache = Cache(location, **options)
        self._raw = redis.Redis.from_url(url)

    def ready(self) -> bool:
        """Listen, and wait until L1 is in use."""
        while not self._cache.stats().trusted:
            self._cache.get("never-set")
            time.sleep(0.01)
        return True

    def poll_every(self, seconds: float) -> None:
        """LeaseGet this seldom for what the bus should tell."""
        loading.POLL_WITH_BUS_S = seconds

    def _loader(self, key: str, value: Any, seconds: float) -> Any:
        def load() -> Any:
            self._raw.incr(f"loads:{key}")
            self._raw.rpush(f"began:{key}", value)
            if seconds == UNTIL_TOLD:
                self._raw.blpop(f"go:{key}")
            else:
                time.sleep(seconds)
            return value

        return load

    def load(self, key: str, value: Any, seconds: float, threads: int) -> Any:
        """Ask with many threads at once; return what they got and how long it took."""
        start = threading.Barrier(threads)

        def ask() -> tuple[Any, float]:
            start.wait()
            began = time.monotonic()
            got = self._cache.get_or_load(key, self._loader(key, value, seconds))
            return got, time.monotonic() - began

        with ThreadPoolExecutor(threads) as pool:
            return [
                each.result() for each in [pool.submit(ask) for _ in range(threads)]
            ]

    def load_hot(self, keys: int, callers: int) -> int:
        """Let every caller go through the same keys, each from another one on."""

        def go(first: int) -> int:
            wrong = 0
            for number in range(keys):
                at = (first + number) % keys
                load = self._loader(f"hot{at}", at, 0.001)
                wrong += self._cache.get_or_load(f"hot{at}", load) != at
            return wrong

        with ThreadPoolExecutor(callers) as pool:
            return sum(pool.map(go, range(0, keys, max(1, keys // callers))))

    def get(self, key: str) -> Any:
        """Read."""
        return self._cache.get(key)

    def set(self, key: str, value: Any) -> bool:
        """Write."""
        return self._cache.set(key, value)

    def delete(self, key: str) -> bool:
        """Delete."""
        return self._cache.delete(key)

    def waits(self) -> int:
        """Return how often a load of another process was waited for."""
        return self._cache.stats().lease_waits


def main() -> None:
    """Answer until the input ends."""
    worker = Worker(*sys.argv[1:3], json.loads(sys.argv[3]))
    for line in sys.stdin:
        name, *args = json.loads(line)
        print(json.dumps(getattr(worker, name)(*args)), flush=True)


if __name__ == "__main__":
    main()
