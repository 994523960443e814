"""Single-flight: one load per key and process, however many threads ask.

The leader loads; followers wait for its bytes and decode their own copy, so that no two
callers share an object.  A leader that fails hands over to the next follower.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class _Flight:
    __slots__ = ("landed", "owner", "raw")

    def __init__(self, owner: int) -> None:
        self.owner = owner
        self.landed = threading.Event()
        self.raw: bytes | None = None


class Flights:
    """The running loads of one engine.  Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, _Flight] = {}
        self._waiting: dict[int, _Flight] = {}

    def is_idle(self) -> bool:
        """Tell whether nothing is loading."""
        return not self._open

    def lead_or_follow(self, key: str, load: Callable[[], bytes]) -> bytes:
        """Run ``load`` as the only one for ``key``, or return what the leader got.

        Raises what the own ``load`` raises.  A load that asks for its own key, or for
        one whose leader waits for this very thread, loads by itself: it would wait for
        ever otherwise.
        """
        me = threading.get_ident()
        while True:
            with self._lock:
                flight = self._open.get(key)
                if flight is None:
                    flight = self._open[key] = _Flight(me)
                    break
                if self._waits_for(flight, me):
                    return load()
                self._waiting[me] = flight
            try:
                flight.landed.wait()
            finally:
                with self._lock:
                    del self._waiting[me]
            if flight.raw is not None:
                return flight.raw
        try:
            flight.raw = load()
        finally:
            with self._lock:
                del self._open[key]
            flight.landed.set()
        return flight.raw

    def _waits_for(self, flight: _Flight, thread: int) -> bool:
        """Tell whether ``flight`` cannot land before ``thread`` goes on."""
        seen: _Flight | None = flight
        while seen is not None:
            if seen.owner == thread:
                return True
            seen = self._waiting.get(seen.owner)
        return False
