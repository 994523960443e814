"""A process under load: ``... <location> <number> <of how many> <L1_MAX_ENTRIES>``.

Two threads and a task each write a key of their own, with a growing number and the
time, and read the keys of all others.  Each line of the output is one answer:
``w <key> <number> <begin> <end>`` or ``r <key> <number> <begin> <end>``.  A call that
failed is not told.  Ends with its standard input.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
import time
from typing import TYPE_CHECKING

from cachebridge import Cache
from cachebridge.errors import L2Error

if TYPE_CHECKING:
    from collections.abc import Iterator

PAUSE_S = 0.005
KINDS = ("thread", "other-thread", "task")


def keys_of(processes: int) -> list[str]:
    """Name every writer's key."""
    return [f"{number}:{kind}" for number in range(processes) for kind in KINDS]


class Load:
    """What the threads and the task of the process share."""

    def __init__(self, location: str, processes: int, l1_max_entries: int) -> None:
        self._cache = Cache(
            location,
            on_error="raise",
            key_prefix="p:",
            l1_max_entries=l1_max_entries,
            breaker_retry=0.2,
        )
        self._keys = keys_of(processes)
        self._lock = threading.Lock()

    def _say(self, kind: str, key: str, number: int, begin: float) -> None:
        line = f"{kind} {key} {number} {begin} {time.monotonic()}\n"
        with self._lock:
            sys.stdout.write(line)

    def _rounds(self) -> Iterator[tuple[int, str]]:
        return zip(itertools.count(1), itertools.cycle(self._keys), strict=False)

    def run(self, own: str) -> None:
        """Write and read, as a thread."""
        for number, key in self._rounds():
            begin = time.monotonic()
            try:
                self._cache.set(own, (number, begin))
                self._say("w", own, number, begin)
                begin = time.monotonic()
                found = self._cache.get(key)
            except L2Error:
                found = None
            if found is not None:
                self._say("r", key, found[0], begin)
            time.sleep(PAUSE_S)

    async def run_async(self, own: str) -> None:
        """Write and read, as a task."""
        for number, key in self._rounds():
            begin = time.monotonic()
            try:
                await self._cache.aset(own, (number, begin))
                self._say("w", own, number, begin)
                begin = time.monotonic()
                found = await self._cache.aget(key)
            except L2Error:
                found = None
            if found is not None:
                self._say("r", key, found[0], begin)
            await asyncio.sleep(PAUSE_S)


def main() -> None:
    """Run until standard input ends."""
    location, number, processes, l1_max_entries = sys.argv[1:]
    load = Load(location, int(processes), int(l1_max_entries))
    for kind in KINDS[:2]:
        own = f"{number}:{kind}"
        threading.Thread(target=load.run, args=(own,), daemon=True).start()

    def run_tasks() -> None:
        asyncio.run(load.run_async(f"{number}:{KINDS[2]}"))

    threading.Thread(target=run_tasks, daemon=True).start()
    sys.stdin.read()
    sys.stdout.flush()


if __name__ == "__main__":
    main()
