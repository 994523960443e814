"""Single-flight: one load per key and process, however many threads and tasks ask.

The leader loads; followers wait for its outcome and decode their own copy, so that no
two callers share an object.  If the load fails, each follower raises a copy of the
exception.  If the leader is cancelled or dies, the next follower leads.  An outcome
that can serve no other caller sends every follower to load for itself, at once.

A follower takes the outcome only if it asked before the leader's last request began.
A caller that asked later may know of something newer, such as a write of its own: it
leads, or follows, the next load.

No caller waits for itself.  The loads that a caller leads are part of its context,
which tasks and ``to_thread`` inherit: a loader may ask from any of them.  What the
context does not show, such as a loader that asks through a pool of threads, has a
bound: a caller waits for others of its process for ``patience_s`` in all.
"""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import suppress
from contextvars import ContextVar
from enum import Enum
from typing import TYPE_CHECKING, Final

from cachebridge.core.loading import UNSHARED, LoaderError, is_interruption
from cachebridge.engine.loading.failures import Failure
from cachebridge.engine.loading.slots import give_up_slot
from cachebridge.errors import L2Error
from cachebridge.waiting.closed_loops import HeldTasks
from cachebridge.waiting.guard import Guard
from cachebridge.waiting.signals import Signal, current_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from contextvars import Token

    from cachebridge.core.loading import Outcome
    from cachebridge.waiting.io import IO

DOUBT_S: Final = 1.0
"""Seconds after which a follower asks whether its leader can still end."""

_leading: ContextVar[tuple[SharedLoad, ...]] = ContextVar(
    "cachebridge_leading", default=()
)


class Role(Enum):
    """What a caller that asks for a key has to do."""

    LEAD = "load for all"
    FOLLOW = "wait for the leader"
    ALONE = "load for itself: waiting would never end"


class SharedLoad(Guard):
    """One caller's part in a flight: its own load, or its wait for the leader's.

    A guard, ``with load, load``: at its end neither is left.
    """

    __slots__ = (
        "_clock",
        "_end",
        "as_of",
        "deadline",
        "ended",
        "failure",
        "follows",
        "is_beside",
        "joins",
        "key",
        "key_changed",
        "leading",
        "loop",
        "outcome",
        "owned_since",
        "tick",
        "token",
        "wait_ms",
        "waits",
    )

    def __init__(
        self, key: str, flights: SingleFlight, deadline: float, *, joins: bool = False
    ) -> None:
        super().__init__()
        self.key = key
        self.loop = current_loop()
        self.deadline = deadline
        """When its caller has waited long enough for others of the process."""
        self.joins = joins
        """Whether to load beside the owner of the lease, instead of waiting for it."""
        self.is_beside = False
        """Whether to load without the lease if another caller has it."""
        self.tick = flights.tick
        self._end = flights.end
        self._clock = flights.clock
        self.as_of = self.tick()
        """Tick of the request whose reply the outcome reflects."""
        self.leading: tuple[SharedLoad, ...] = ()
        """Loads that its caller leads, and that wait for it therefore."""
        self.follows: SharedLoad | None = None
        self.waits: set[SharedLoad] = set()
        """Parts in other flights: its loader, or what that has started, follows."""
        self.owned_since = float("-inf")
        """When the lease was seen to have another owner, or became the leader's."""
        self.wait_ms = 0.0
        self.token: Token[tuple[SharedLoad, ...]] | None = None
        self.ended = Signal()
        self.key_changed = Signal()
        """Set when the bus says that the key has changed."""
        self.outcome: Outcome | None = None
        self.failure: Failure | None = None
        """What the load has raised, unless it was broken off."""

    def saw_lease(self, wait_ms: float) -> None:
        """Note what is left of another owner's lease; 0 if it is the leader's now.

        Followers have patience anew with each owner: when the lease of a killed process
        ends, they must not all begin to load.
        """
        if not wait_ms or wait_ms > self.wait_ms > 0:
            self.owned_since = self._clock()
        self.wait_ms = wait_ms

    def is_lost(self) -> bool:
        """Return whether the leader's event loop was closed under it."""
        return self.loop is not None and self.loop.is_closed()

    def _give_back(self, error: BaseException | None) -> None:
        if isinstance(error, LoaderError) and not error.is_shared:
            self.outcome = UNSHARED
        elif isinstance(error, (LoaderError, L2Error)) and not is_interruption(error):
            self.failure = Failure(error)
        self._end(self)


class SingleFlight:
    """The running loads of one engine, of threads and tasks together.  Thread safe."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, slack_s: float = 0.0
    ) -> None:
        self.clock = clock
        self._slack_s = slack_s
        """How much longer a lease may last than it should: its server's tick."""
        self._held = HeldTasks()
        """Tasks that load or wait for a load.  In the child of a fork they no longer
        run, and are held all the same."""
        self.reset()

    def reset(self) -> None:
        """Begin anew, also in the child of a fork, where no load runs."""
        self._lock = threading.Lock()
        self._open: dict[str, SharedLoad] = {}
        self._waiting: set[SharedLoad] = set()
        self.tick = itertools.count().__next__

    def is_idle(self) -> bool:
        """Return whether no load runs."""
        return not self._open and not self._waiting

    def on_keys_changed(self, keys: Iterable[str]) -> None:
        """Wake the leaders that wait for another process's load of these keys."""
        loads = self._open
        if loads:
            for key in keys:
                if (load := loads.get(key)) is not None:
                    load.key_changed.set()

    def alone(self, key: str, patience_s: float) -> SharedLoad:
        """Return a load that no caller can follow."""
        return SharedLoad(key, self, self.clock() + patience_s)

    def patience_s(self, load: SharedLoad) -> float:
        """Return for how many seconds the caller may still wait for others."""
        return max(0.0, load.deadline - self.clock())

    def end_lost(self) -> None:
        """End the loads of event loops that were closed under them."""
        self._held.end_lost()

    async def run(
        self,
        key: str,
        lead: Callable[[SharedLoad], Awaitable[Outcome]],
        io: IO,
        patience_s: float,
    ) -> tuple[Outcome, bool]:
        """Run ``lead`` as the only one for ``key``, or return the leader's outcome.

        Also returns whether this caller led.  Raises what ``lead`` raises; a follower
        raises a copy.  A caller loads by itself where it would wait for ever: if it
        asks for its own key, if the leader waits for this very caller, or if it is a
        thread that runs an event loop, whose tasks the leader may need.  So does one
        that has waited for ``patience_s`` seconds.  A follower that is cancelled just
        leaves; a leader hands over.
        """
        self._held.end_lost()  # they may have a slot that this load needs
        hold = object()
        try:
            self._held.hold(hold)
            patience_s += self._slack_s
            asked, deadline = self.tick(), self.clock() + patience_s
            while True:
                mine = SharedLoad(key, self, deadline)
                with mine, mine:
                    load, role = self._join(mine, may_wait=io.may_wait())
                    if role is Role.LEAD:
                        mine.outcome = await lead(mine)
                        return mine.outcome, True
                    if role is Role.FOLLOW:
                        await self._follow(load, mine, io, patience_s)
                outcome, failure = load.outcome, load.failure
                is_for_leader = outcome is not None and not outcome.is_shared
                if role is Role.ALONE or is_for_leader:
                    alone = SharedLoad(key, self, deadline, joins=True)
                    return await lead(alone), True
                if asked < load.as_of:
                    if outcome is not None:
                        return outcome, False
                    if failure is not None:
                        raise failure.again()
                if not load.ended.is_set() and not load.is_lost():
                    alone = SharedLoad(key, self, deadline)
                    alone.is_beside = True
                    return await lead(alone), True
        finally:
            self._held.release(hold, None)

    async def _follow(
        self, load: SharedLoad, mine: SharedLoad, io: IO, patience_s: float
    ) -> None:
        """Wait until the load has ended or is lost, or the patience is at its end."""
        give_up_slot()
        left_s = self.patience_s(mine)
        while not await io.wait(load.ended, min(DOUBT_S, left_s)):
            mine.deadline = max(mine.deadline, load.owned_since + patience_s)
            left_s = self.patience_s(mine)
            if not left_s or load.is_lost():
                return

    def _join(self, mine: SharedLoad, *, may_wait: bool) -> tuple[SharedLoad, Role]:
        """Open the flight of the key, or join it."""
        key, leading = mine.key, _led_here()
        with self._lock:
            load = self._open.get(key)
            if load is None or load.is_lost():
                self._open[key] = mine
            elif not may_wait or (leading and _waits_for(load, leading)):
                return load, Role.ALONE
            else:
                self._waiting.add(mine)
                mine.follows, mine.leading = load, leading
                for each in leading:
                    each.waits.add(mine)
                return load, Role.FOLLOW
        mine.token = _leading.set((*leading, mine))
        return mine, Role.LEAD

    def end(self, mine: SharedLoad) -> None:
        """End the part of one caller; may be repeated."""
        with self._lock:
            if self._open.get(mine.key) is mine:
                del self._open[mine.key]
            self._waiting.discard(mine)
            for each in mine.leading:
                each.waits.discard(mine)
        mine.ended.set()
        if mine.token is not None:
            with suppress(ValueError, RuntimeError):  # closed elsewhere; reset before
                _leading.reset(mine.token)


def _led_here() -> tuple[SharedLoad, ...]:
    """Return the loads that this context leads, without those that have ended."""
    leading = _leading.get()
    if not leading:
        return leading
    return tuple([load for load in leading if not load.ended.is_set()])


def lead_nothing() -> None:
    """Forget the loads of the context that this one is a copy of."""
    _leading.set(())


def _waits_for(load: SharedLoad, leading: tuple[SharedLoad, ...]) -> bool:
    """Return whether ``load`` cannot end before one of ``leading`` has."""
    seen: set[int] = set()
    unseen = [load]
    while unseen:
        each = unseen.pop()
        if each in leading:
            return True
        if id(each) not in seen:
            seen.add(id(each))
            unseen += [each.follows for each in each.waits if each.follows]
    return False
