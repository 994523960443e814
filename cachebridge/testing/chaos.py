"""Faults without sockets or sleeping: a clock, and a store and a bus that misbehave.

Everything is drawn from one seed per double: with one thread, the same calls in the
same order meet the same faults.  Nothing waits: time passes on a ``FakeClock``.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cachebridge.errors import L2UnavailableError
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from cachebridge.bus.settings import Receiver
    from cachebridge.core.breaker import Breaker
    from cachebridge.l2.store import L2Store

__all__ = ["ChaosBus", "ChaosL2", "FakeClock"]

LOCAL_CALLS: Final = frozenset({"clear", "close", "forget"})


class FakeClock:
    """A clock that stands still until told otherwise."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time, in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class ChaosL2:
    """Wraps a shared store; calls fail, take time, or are carried out unnoticed.

    ``fail_before``, ``fail_after`` and ``fail_late`` are shares of the calls that raise
    ``L2UnavailableError``: without being carried out, after it, or long before it, at
    the next ``carry_out_late``.  Other calls take up to ``delay_s``, failed ones
    ``timeout_s``, on the clock.  Between ``stall`` and ``recover`` all calls fail.

    It has the methods of ``L2Store``: coroutines that wait as those of ``store`` do.
    With a ``breaker`` it refuses and reports as the real client does.  ``fired`` counts
    the faults.
    """

    def __init__(
        self,
        store: L2Store,
        *,
        seed: int | str,
        clock: FakeClock,
        breaker: Breaker | None = None,
        fail_before: float = 0.0,
        fail_after: float = 0.0,
        fail_late: float = 0.0,
        delay_s: float = 0.0,
        timeout_s: float = 1.0,
    ) -> None:
        self._store = store
        self._random = random.Random(f"l2/{seed}")  # noqa: S311 to be repeated
        self._clock = clock
        self._breaker = breaker
        self._shares = (fail_before, fail_after, fail_late)
        self._delay_s = delay_s
        self._timeout_s = timeout_s
        self._late: list[Callable[[], Coroutine[Any, Any, object]]] = []
        self.is_stalled = False
        """Whether every call fails at the moment."""
        self.fired: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        """Return a method of the store, with faults."""
        method = getattr(self._store, name)
        if name in LOCAL_CALLS:
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            breaker = self._breaker
            if breaker is not None and breaker.is_open and name != "ping":
                breaker.admit()
            fault = self._draw()
            if not fault:
                self._clock.advance(self._random.uniform(0.0, self._delay_s))
                answer = await method(*args, **kwargs)
                if breaker is not None and breaker.failures:
                    breaker.succeed()
                return answer
            self.fired[fault] += 1
            if fault == "fail_after":
                await method(*args, **kwargs)
            elif fault == "fail_late":
                self._late.append(lambda: method(*args, **kwargs))
            self._clock.advance(self._timeout_s)
            if breaker is not None:
                breaker.fail(fault)
            raise L2UnavailableError(f"{name}: {fault}")

        return call

    def _draw(self) -> str:
        drawn = self._random.random()
        if self.is_stalled:
            return "fail_late" if drawn < self._shares[2] else "stall"
        for name, share in zip(
            ("fail_before", "fail_after", "fail_late"), self._shares, strict=True
        ):
            if drawn < share:
                return name
            drawn -= share
        return ""

    def stall(self) -> None:
        """Let every call fail from now on."""
        self.is_stalled = True

    def recover(self) -> None:
        """End ``stall``."""
        self.is_stalled = False

    def stop_faults(self) -> None:
        """Let every call succeed from now on."""
        self.recover()
        self._shares = (0.0, 0.0, 0.0)

    def carry_out_late(self) -> int:
        """Carry out the calls that were under way when they failed; return how many.

        In any order: each came on a connection of its own.  The store must be one for
        threads.
        """
        late, self._late = self._late, []
        self._random.shuffle(late)
        for call in late:
            run(call())
        return len(late)


@dataclass(slots=True)
class ChaosLink:
    """One engine's share in the bus: its subscription, and what is under way to it.

    It has the interface that an engine expects of its bus.
    """

    receiver: Receiver
    queue: deque[bytes | float] = field(default_factory=deque)
    """Messages; a number is a heartbeat, and says when it was sent."""
    is_broken: bool = True
    """Nothing is delivered any more, and the receiver does not know yet."""
    is_started: bool = False

    def start(self) -> None:
        """Subscribe."""
        self.is_started = True
        self.subscribe()

    def stop(self) -> None:
        """Unsubscribe."""
        self.is_started = False
        self.is_broken = True
        self.receiver.on_break("stopped")

    def is_alive(self) -> bool:
        """Return whether it runs."""
        return self.is_started

    def subscribe(self) -> None:
        """Begin anew: messages under way are lost."""
        self.queue.clear()
        self.is_broken = False
        self.receiver.on_subscribed()


class ChaosBus:
    """Carries messages to several engines: some late, twice, in another order, or not.

    A dropped message breaks the link, as in a real connection: nothing comes after it,
    no heartbeat either, until ``repair`` tells the engine of the break and subscribes
    anew.  Messages may overtake each other, but a heartbeat overtakes no message that
    was published before it: every bus has to promise that.

    ``publish`` is a subscriber of the server.  Only ``deliver`` and ``settle`` deliver,
    in the caller's thread.
    """

    def __init__(
        self,
        *,
        seed: int | str,
        clock: FakeClock,
        drop: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
    ) -> None:
        self._random = random.Random(f"bus/{seed}")  # noqa: S311 to be repeated
        self._clock = clock
        self._drop, self._duplicate, self._reorder = drop, duplicate, reorder
        self.links: list[ChaosLink] = []
        self.fired: Counter[str] = Counter()

    def link(self, receiver: Receiver) -> ChaosLink:
        """Make the bus of one engine."""
        link = ChaosLink(receiver)
        self.links.append(link)
        return link

    def publish(self, frame: bytes) -> None:
        """Send a message on its way to every subscribed engine."""
        for link in self.links:
            if link.is_broken or not link.is_started:
                continue
            if self._strikes("drop", self._drop):
                link.is_broken = True
                continue
            link.queue.append(frame)
            if self._strikes("duplicate", self._duplicate):
                link.queue.append(frame)

    def beat(self) -> None:
        """Send a heartbeat on every link that is whole."""
        for link in self.links:
            if link.is_started and not link.is_broken:
                link.queue.append(self._clock())

    def deliver(self, most: int = 1) -> int:
        """Deliver up to so many items, each to some engine; return how many."""
        for delivered in range(most):
            waiting = [link for link in self.links if link.queue and link.is_started]
            if not waiting:
                return delivered
            link = self._random.choice(waiting)
            item = self._next_of(link.queue)
            if isinstance(item, float):
                link.receiver.on_heartbeat(item, l1_on=None)
            else:
                link.receiver.on_frame(item)
        return most

    def _next_of(self, queue: deque[bytes | float]) -> bytes | float:
        free = 0
        for item in queue:
            if isinstance(item, float):
                break
            free += 1
        at = 0
        if free > 1 and self._strikes("reorder", self._reorder):
            at = self._random.randrange(1, free)
        item = queue[at]
        del queue[at]
        return item

    def repair(self) -> int:
        """Tell every engine with a broken link of the break, and subscribe anew."""
        broken = [each for each in self.links if each.is_broken and each.is_started]
        for link in broken:
            link.receiver.on_break("chaos")
            link.subscribe()
        return len(broken)

    def settle(self) -> None:
        """Repair everything and deliver everything, a heartbeat last."""
        self._drop = 0.0
        self.repair()
        while self.deliver():
            pass
        self.beat()
        while self.deliver():
            pass

    def _strikes(self, name: str, share: float) -> bool:
        strikes = self._random.random() < share
        self.fired[name] += strikes
        return strikes
