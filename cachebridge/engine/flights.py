"""Single-flight: one load per key and process, however many threads ask.

The leader loads; followers wait for its bytes and decode their own copy, so that no two
callers share an object.  A leader that fails hands over to the next follower.

A follower takes the bytes only if it asked before the leader's last request began.  Who
asked later may know of something newer, a write of its own for one: it leads, or
follows, the next flight.
"""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class UnsharedError(Exception):
    """The leader's value is for the leader alone."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class LoadFlight:
    """One leader's load."""

    __slots__ = ("as_of", "is_shared", "landed", "owner", "raw", "tick")

    def __init__(self, owner: int, tick: Callable[[], int]) -> None:
        self.owner = owner
        self.tick = tick
        self.as_of = tick()
        self.landed = threading.Event()
        self.raw: bytes | None = None
        self.is_shared = True

    def renewing(self, request: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a request: its answer is good for all who asked before it began."""

        def renewed(*args: Any) -> Any:
            self.as_of = self.tick()
            return request(*args)

        return renewed


class Flights:
    """The running loads of one engine.  Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, LoadFlight] = {}
        self._waiting: dict[int, LoadFlight] = {}
        self._tick = itertools.count().__next__

    def is_idle(self) -> bool:
        """Tell whether nothing is loading."""
        return not self._open

    def lead_or_follow(
        self, key: str, load: Callable[[LoadFlight], bytes]
    ) -> bytes | None:
        """Run ``load`` as the only one for ``key``, or return what the leader got.

        None if that was for the leader alone.  Raises what the own ``load`` raises.  A
        load that asks for its own key, or for one whose leader waits for this very
        thread, loads by itself: it would wait for ever otherwise.
        """
        me = threading.get_ident()
        asked = self._tick()
        while True:
            with self._lock:
                flight = self._open.get(key)
                if flight is None:
                    flight = self._open[key] = LoadFlight(me, self._tick)
                    break
                is_own = self._waits_for(flight, me)
                if not is_own:
                    self._waiting[me] = flight
            if is_own:
                return load(LoadFlight(me, self._tick))
            try:
                flight.landed.wait()
            finally:
                with self._lock:
                    self._waiting.pop(me, None)
            if flight.raw is not None and asked < flight.as_of:
                return flight.raw
            if not flight.is_shared:
                return None
        try:
            flight.raw = load(flight)
        except UnsharedError:
            flight.is_shared = False
            raise
        finally:
            with self._lock:
                del self._open[key]
            flight.landed.set()
        return flight.raw

    def _waits_for(self, flight: LoadFlight, thread: int) -> bool:
        """Tell whether ``flight`` cannot land before ``thread`` goes on."""
        seen: LoadFlight | None = flight
        while seen is not None:
            if seen.owner == thread:
                return True
            seen = self._waiting.get(seen.owner)
        return False
