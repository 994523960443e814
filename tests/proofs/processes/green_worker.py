"""The cache in a process that a greenlet library has patched.

``... <eventlet or gevent> <before or after> <location>``: patched before or after the
cache was imported.  Prints what happened as JSON.
"""

from __future__ import annotations

import sys

LIBRARY, WHEN, LOCATION = sys.argv[1:]
KEY = "green"
LONG_S = 30.0
"""How long the threads of cachebridge have nothing to do."""


def patch() -> None:
    if LIBRARY == "eventlet":
        import eventlet

        eventlet.monkey_patch()
    else:
        from gevent import monkey

        monkey.patch_all()


if WHEN == "before":
    patch()

import json  # noqa: E402
import socket  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402
from urllib.parse import urlsplit  # noqa: E402

from cachebridge import Cache  # noqa: E402
from tests.rig import PATIENT, eventually  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

if WHEN == "after":
    patch()


def at_once(count: int, call: Callable[[], Any]) -> list[Any]:
    """Call in so many greenlets; return what they returned."""
    answers: list[Any] = []
    greenlets = [
        threading.Thread(target=lambda: answers.append(call())) for _ in range(count)
    ]
    for each in greenlets:
        each.start()
    for each in greenlets:
        each.join()
    return answers


def cut_connections() -> None:
    """Let the server close every connection; redis-py would ask for ``poll``."""
    address = urlsplit(LOCATION)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(b"CLIENT KILL TYPE normal SKIPME yes\r\n")
        assert connection.recv(100)[:1] == b":"


def longest_pause_s() -> float:
    """Let other greenlets run for a while; return how long it took to come back."""
    longest_s = 0.0
    for _ in range(20):
        began = time.monotonic()
        time.sleep(0.01)
        longest_s = max(longest_s, time.monotonic() - began)
    return longest_s


def main() -> dict[str, Any]:
    cache = Cache(LOCATION, l1_sweep=2 * LONG_S, **PATIENT)
    told: dict[str, Any] = {"set": cache.set(KEY, 1)}

    def hits() -> int:
        cache.get(KEY)
        return cache.stats().l1_hits

    told["hit"] = bool(eventually(hits))
    told["miss"] = cache.get("nothing", "default")

    loads: list[int] = []

    def load() -> str:
        loads.append(1)
        time.sleep(0.05)  # so that the other greenlets run, and ask
        return "loaded"

    told["loaded"] = at_once(20, lambda: cache.get_or_load("cold", load))
    told["loads"] = len(loads)

    with cache.bypass_l1():
        before = cache.stats().l1_hits
        at_once(1, lambda: cache.get(KEY))
        told["bypass is the greenlet's own"] = cache.stats().l1_hits - before
        cache.get(KEY)
        told["bypassed"] = cache.stats().l1_hits - before

    told["lock"] = cache.add("lock", 1, 30)
    told["after the lock"] = cache.get(KEY)

    cache.batched_counter("views", batch_ms=round(LONG_S * 1000)).add()
    told["no thread waits for all"] = longest_pause_s() < LONG_S / 2

    cache.delete(KEY)
    told["deleted"] = cache.get(KEY)

    cut_connections()
    told["after a cut"] = [cache.set(KEY, n) and cache.get(KEY) for n in range(3)]

    def write_and_read() -> bool:
        mine = f"{KEY}:{threading.get_ident()}"
        return all(cache.set(mine, n) and cache.get(mine) == n for n in range(10))

    told["side by side"] = at_once(30, write_and_read)
    return told


if __name__ == "__main__":
    print(json.dumps(main()))
