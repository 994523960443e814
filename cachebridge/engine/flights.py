"""Single-flight: one load per key and process, however many threads ask.

The leader loads; followers wait for its outcome and decode their own copy, so that no
two callers share an object.  A leader that fails hands over to the next follower.  An
outcome that can serve nobody else sends every follower to load for itself, at once.

A follower takes the outcome only if it asked before the leader's last request began.
Who asked later may know of something newer, a write of its own for one: it leads, or
follows, the next flight.
"""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cachebridge.core.loading import Outcome


class LoadFlight:
    """One leader's load."""

    __slots__ = (
        "_changed",
        "_landed",
        "_news",
        "as_of",
        "joins",
        "outcome",
        "owner",
        "tick",
    )

    def __init__(
        self, owner: int, tick: Callable[[], int], *, joins: bool = False
    ) -> None:
        self.owner = owner
        self.joins = joins
        """Whether to load beside whoever has the lease, instead of waiting."""
        self.tick = tick
        self.as_of = tick()
        """When the request began that the outcome is as good as."""
        self.outcome: Outcome | None = None
        # Made by whoever comes to wait: mostly nobody does.
        self._landed: threading.Event | None = None
        self._news: threading.Event | None = None
        self._changed = False

    def until_landed(self) -> threading.Event:
        """Return what the end of the flight sets; called under the lock."""
        if self._landed is None:
            self._landed = threading.Event()
        return self._landed

    def land(self) -> None:
        """Let the followers go on; nobody new can follow any more."""
        if self._landed is not None:
            self._landed.set()

    def begin_look(self) -> None:
        """A look at L2 begins: news from now on may be about what it misses."""
        self.as_of = self.tick()
        self._changed = False
        if self._news is not None:
            self._news.clear()

    def on_news(self) -> None:
        """The bus says that the key has changed."""
        self._changed = True
        if self._news is not None:
            self._news.set()

    def wait_for_news(self, timeout_s: float) -> None:
        """Wait for news of the key since the last look began."""
        if self._news is None:
            self._news = threading.Event()
        if not self._changed:
            self._news.wait(timeout_s)


class Flights:
    """The running loads of one engine.  Thread safe."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, also in the child of a fork, where nobody is loading."""
        self._lock = threading.Lock()
        self._open: dict[str, LoadFlight] = {}
        self._waiting: dict[int, LoadFlight] = {}
        self._tick = itertools.count().__next__

    def is_idle(self) -> bool:
        """Tell whether nothing is loading."""
        return not self._open

    def on_keys(self, keys: Iterable[str]) -> None:
        """Wake the leaders that wait for another process's load of these keys."""
        flights = self._open
        if flights:
            for key in keys:
                if (flight := flights.get(key)) is not None:
                    flight.on_news()

    def alone(self, *, joins: bool = False) -> LoadFlight:
        """Return a flight that nobody can follow."""
        return LoadFlight(threading.get_ident(), self._tick, joins=joins)

    def lead_or_follow(
        self, key: str, load: Callable[[LoadFlight], Outcome]
    ) -> tuple[Outcome, bool]:
        """Run ``load`` as the only one for ``key``, or return what the leader got.

        Also tells whether it was led.  Raises what the own ``load`` raises.  A load
        that asks for its own key, or for one whose leader waits for this very thread,
        loads by itself: it would wait for ever otherwise.
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
                    landed = flight.until_landed()
            if is_own:
                return load(self.alone(joins=True)), True
            try:
                landed.wait()
            finally:
                with self._lock:
                    self._waiting.pop(me, None)
            outcome = flight.outcome
            if outcome is not None and not outcome.is_shared:
                return load(self.alone(joins=True)), True
            if outcome is not None and asked < flight.as_of:
                return outcome, False
        try:
            flight.outcome = load(flight)
        finally:
            with self._lock:
                del self._open[key]
            flight.land()
        return flight.outcome, True

    def _waits_for(self, flight: LoadFlight, thread: int) -> bool:
        """Tell whether ``flight`` cannot land before ``thread`` goes on."""
        seen: LoadFlight | None = flight
        while seen is not None:
            if seen.owner == thread:
                return True
            seen = self._waiting.get(seen.owner)
        return False
