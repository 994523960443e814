"""What several test modules here need."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Calls:
    """Counts calls of a function and gives each a number."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    def __call__(self) -> int:
        with self._lock:
            self.count += 1
            return self.count


def at_once(call: Callable[[], Any], threads: int = 16) -> list[Any]:
    """Return what a call gives in each of several threads that begin together."""
    barrier = threading.Barrier(threads)
    results: list[Any] = []

    def work() -> None:
        barrier.wait()
        try:
            results.append(call())
        except Exception as exc:
            results.append(exc)

    running = [threading.Thread(target=work) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(30)
    return results
