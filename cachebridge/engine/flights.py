"""Single-flight: one load per key and process, however many threads and tasks ask.

The leader loads; followers wait for its outcome and decode their own copy, so that no
two callers share an object.  A leader that fails, or is cancelled, hands over to the
next follower.  An outcome that can serve nobody else sends every follower to load for
itself, at once.

A follower takes the outcome only if it asked before the leader's last request began.
Who asked later may know of something newer, a write of its own for one: it leads, or
follows, the next flight.

Nobody waits for itself.  Which flights a caller leads is part of its context, which
tasks and ``to_thread`` inherit: a loader may ask from wherever it likes.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from enum import Enum
from typing import TYPE_CHECKING, Final

from cachebridge.engine.slots import give_up_slot
from cachebridge.waiting import HeldTasks, Signal, is_on_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from cachebridge.core.loading import Outcome

DOUBT_S: Final = 1.0
"""Seconds after which a follower asks whether its leader can still land."""

_leading: ContextVar[tuple[LoadFlight, ...]] = ContextVar(
    "cachebridge_leading", default=()
)


class Part(Enum):
    """What somebody who asks for a key has to do."""

    LEAD = "load for all"
    FOLLOW = "wait for the leader"
    ALONE = "load without being followed: waiting would never end"


class LoadFlight:
    """One leader's load."""

    __slots__ = (
        "as_of",
        "awaits",
        "joins",
        "landed",
        "loop",
        "news",
        "outcome",
        "tick",
    )

    def __init__(self, tick: Callable[[], int], *, joins: bool = False) -> None:
        self.loop = asyncio._get_running_loop()  # noqa: SLF001 documented for this
        self.joins = joins
        """Whether to load beside whoever has the lease, instead of waiting."""
        self.tick = tick
        self.as_of = tick()
        """When the request began that the outcome is as good as."""
        self.awaits: list[LoadFlight] = []
        """Flights that the loader, or what it has started, waits for."""
        self.landed = Signal()
        self.news = Signal()
        """Set when the bus says that the key has changed."""
        self.outcome: Outcome | None = None

    def is_lost(self) -> bool:
        """Tell whether the leader was left behind in an event loop that is closed."""
        return self.loop is not None and self.loop.is_closed()


class Flights:
    """The running loads of one engine, of threads and tasks together.  Thread safe."""

    def __init__(self) -> None:
        self._held = HeldTasks()
        """Those that load or wait for a load.  In the child of a fork nobody runs them
        any more, and they are held all the same."""
        self.reset()

    def reset(self) -> None:
        """Begin anew, also in the child of a fork, where nobody is loading."""
        self._lock = threading.Lock()
        self._open: dict[str, LoadFlight] = {}
        self._waiting = 0
        self._tick = itertools.count().__next__

    def is_idle(self) -> bool:
        """Tell whether nothing is loading."""
        return not self._open and not self._waiting

    def on_keys(self, keys: Iterable[str]) -> None:
        """Wake the leaders that wait for another process's load of these keys."""
        flights = self._open
        if flights:
            for key in keys:
                if (flight := flights.get(key)) is not None:
                    flight.news.set()

    def alone(self, *, joins: bool = False) -> LoadFlight:
        """Return a flight that nobody can follow."""
        return LoadFlight(self._tick, joins=joins)

    def lead_or_follow(
        self, key: str, load: Callable[[LoadFlight], Outcome]
    ) -> tuple[Outcome, bool]:
        """Run ``load`` as the only one for ``key``, or return what the leader got.

        Also tells whether it was led.  Raises what the own ``load`` raises.  A load
        that asks for its own key, or for one whose leader waits for this very caller,
        loads by itself: it would wait for ever otherwise.  So does a thread that runs
        an event loop, whose tasks the leader may need.
        """
        self._held.end_lost()  # they may have a slot that this load needs
        return self._lead_or_follow(key, load)

    async def lead_or_follow_async(
        self, key: str, load: Callable[[LoadFlight], Awaitable[Outcome]]
    ) -> tuple[Outcome, bool]:
        """See ``lead_or_follow``; waiting suspends.

        A follower that is cancelled just leaves; a leader hands over.
        """
        hold = self._held.hold()
        try:
            return await self._lead_or_follow_async(key, load)
        finally:
            self._held.release(hold)

    def end_lost(self) -> None:
        """End the loads of event loops that were closed under them."""
        self._held.end_lost()

    def _lead_or_follow(
        self, key: str, load: Callable[[LoadFlight], Outcome]
    ) -> tuple[Outcome, bool]:
        asked = self._tick()
        while True:
            leading = _led_here()
            flight, part = self._join(key, leading, may_wait=not is_on_loop())
            if part is Part.LEAD:
                break
            if part is Part.FOLLOW:
                with self._following(flight, leading):
                    while not (flight.landed.wait(DOUBT_S) or flight.is_lost()):
                        continue
            outcome = flight.outcome
            if part is Part.ALONE or (outcome is not None and not outcome.is_shared):
                return load(self.alone(joins=True)), True
            if outcome is not None and asked < flight.as_of:
                return outcome, False
        with self._landing(key, flight):
            flight.outcome = load(flight)
        return flight.outcome, True

    async def _lead_or_follow_async(
        self, key: str, load: Callable[[LoadFlight], Awaitable[Outcome]]
    ) -> tuple[Outcome, bool]:
        asked = self._tick()
        while True:
            leading = _led_here()
            flight, part = self._join(key, leading, may_wait=True)
            if part is Part.LEAD:
                break
            if part is Part.FOLLOW:
                with self._following(flight, leading):
                    while not (
                        await flight.landed.wait_async(DOUBT_S) or flight.is_lost()
                    ):
                        continue
            outcome = flight.outcome
            if part is Part.ALONE or (outcome is not None and not outcome.is_shared):
                return await load(self.alone(joins=True)), True
            if outcome is not None and asked < flight.as_of:
                return outcome, False
        with self._landing(key, flight):
            flight.outcome = await load(flight)
        return flight.outcome, True

    def _join(
        self, key: str, leading: tuple[LoadFlight, ...], *, may_wait: bool
    ) -> tuple[LoadFlight, Part]:
        with self._lock:
            flight = self._open.get(key)
            if flight is None or flight.is_lost():
                flight = self._open[key] = LoadFlight(self._tick)
                return flight, Part.LEAD
            if not may_wait or (leading and _waits_for(flight, leading)):
                return flight, Part.ALONE
            self._waiting += 1
            for each in leading:
                each.awaits.append(flight)
            return flight, Part.FOLLOW

    @contextmanager
    def _following(
        self, flight: LoadFlight, leading: tuple[LoadFlight, ...]
    ) -> Iterator[None]:
        """Leave the flight in the end, whatever ends the wait."""
        give_up_slot()
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1
                for each in leading:
                    each.awaits.remove(flight)

    @contextmanager
    def _landing(self, key: str, flight: LoadFlight) -> Iterator[None]:
        """Lead the flight while the context is open; in the end it has landed."""
        token = _leading.set((*_led_here(), flight))
        try:
            yield
        finally:
            with suppress(ValueError):  # a coroutine that is closed somewhere else
                _leading.reset(token)
            with self._lock:
                if self._open.get(key) is flight:
                    del self._open[key]
            flight.landed.set()


def _led_here() -> tuple[LoadFlight, ...]:
    """Return what this context leads; what has landed it may have outlived."""
    leading = _leading.get()
    if not leading:
        return leading
    return tuple([flight for flight in leading if not flight.landed.is_set()])


def begin_leading_nothing() -> None:
    """Forget what the context leads that this one is a copy of."""
    _leading.set(())


def _waits_for(flight: LoadFlight, leading: tuple[LoadFlight, ...]) -> bool:
    """Tell whether ``flight`` cannot land before one of ``leading`` has."""
    seen: set[int] = set()
    unseen = [flight]
    while unseen:
        each = unseen.pop()
        if each in leading:
            return True
        if id(each) not in seen:
            seen.add(id(each))
            unseen.extend(each.awaits)
    return False
