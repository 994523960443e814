"""How a test knows that an invalidation has arrived, and that L1 answers at all.

A canary is a key beside those of the tests, on the same server and database, held in
this process's L1. The process that writes sets it to a new value after each write.
While L1 holds the old value, reads of it here go on returning that; once they return
the new one, its message has been handled, and so has, in bus order, the message of the
write before it. Backends without L1 (no stats()) need no waiting.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


KEY = "canary"
KEY_PREFIX = "canary-of-the-suites"
# Far longer than a bus takes on a busy machine.
WAIT_S = 5.0
POLL_S = 0.0002

Make = "Callable[[str, dict[str, Any]], BaseCache]"


class Canary:
    """The canary of one location, as one process sees it.

    `hits` are those in L1 that the tests have not had, of all canaries of the process.
    """

    hits = 0

    def __init__(self, make: Make, location: str, params: dict[str, Any]) -> None:
        self.params = {
            "KEY_PREFIX": KEY_PREFIX,
            "TIMEOUT": None,
            "OPTIONS": params.get("OPTIONS", {}),
        }
        self._cache = make(location, self.params)

    @property
    def is_needed(self) -> bool:
        """Tell whether this backend has an L1 that could be behind."""
        return hasattr(self._cache, "stats")

    def set(self, value: int) -> None:
        """Write it, after whatever is to be known as handled."""
        self._cache.set(KEY, value)

    def stats(self) -> Any:
        """Return the statistics of the engine it is in."""
        return self._cache.stats()

    def hold(self, write: Callable[[], None]) -> None:
        """Return when L1 answers for the canary; `write` is called if it is missing."""
        if self._get() is None:
            write()
        self._until(self._is_held, "L1 never answered")

    def expect(self, value: int) -> None:
        """Return when a read gives the value, and so all messages before have come."""
        self._until(lambda: self._get() == value, f"no message of write {value}")

    def _is_held(self) -> bool:
        hits = Canary.hits
        self._get()
        return Canary.hits > hits

    def apart(self, read: Callable[[], Any]) -> Any:
        """Return what `read` gives; its hits are not the tests'."""
        before = self.stats().l1_hits
        value = read()
        Canary.hits += self.stats().l1_hits - before
        return value

    def _get(self) -> Any:
        return self.apart(lambda: self._cache.get(KEY))

    def _until(self, is_so: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not is_so():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{complaint} in {WAIT_S} s: {self.stats()}")
            time.sleep(POLL_S)
