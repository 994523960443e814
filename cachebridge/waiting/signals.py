"""Signals and slots that threads and tasks wait for alike.

A thread that waits blocks; a task that waits suspends, and leaves its event loop free.
The caller that ends the wait may be either, on any loop.  A task whose loop is closed
waits for ever: ``closed_loops`` ends it.

asyncio is not imported here: a program without it has no loops to look for.
"""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from cachebridge.errors import UnsupportedOperationError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Callable


def current_loop() -> AbstractEventLoop | None:
    """Return the event loop that this thread runs, None if it runs none."""
    events: Any = sys.modules.get("asyncio.events")
    get_loop = getattr(events, "_get_running_loop", None)  # documented for this
    return None if get_loop is None else get_loop()


def running_loop() -> AbstractEventLoop:
    """Return the running event loop; UnsupportedOperationError if there is none."""
    loop = current_loop()
    if loop is None:
        raise UnsupportedOperationError(
            "no asyncio event loop is running: cachebridge's async methods need one "
            "(asyncio or uvloop; trio and curio are not supported)."
        )
    return loop


def is_on_loop() -> bool:
    """Return whether this thread runs an event loop, which a wait would block."""
    return current_loop() is not None


class Signal:
    """An event that threads and tasks can wait for.  Thread safe."""

    __slots__ = ("_is_set", "_lock", "_waiting")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Callable[[], bool]] = []
        self._is_set = False

    def set(self) -> bool:
        """Wake all waiters; return False if all of them are tasks of closed loops.

        A waiter leaves by itself, so a call that was interrupted can be repeated.
        """
        with self._lock:
            self._is_set = True
            waiting = tuple(self._waiting)
        told = not waiting  # a caller that is about to wait will find it set
        for wake in waiting:
            told |= wake()
        return told

    def is_set(self) -> bool:
        """Return whether a caller that comes now need not wait."""
        return self._is_set

    def clear(self) -> None:
        """Make callers that come from now on wait again."""
        self._is_set = False

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block this thread until the signal is set; return whether it was, in time."""
        closed = threading.Lock()
        closed.acquire()
        wake = partial(_open, closed)
        try:
            if not self._enter(wake):
                return True
            return closed.acquire(timeout=-1 if timeout_s is None else timeout_s)
        finally:
            self._leave(wake)

    async def wait_async(self, timeout_s: float | None = None) -> bool:
        """Suspend this task until the signal is set; return whether it was, in time."""
        loop = running_loop()
        future: Future[bool] = loop.create_future()
        wake = partial(_resolve_soon, loop, future)
        timer = None
        try:
            if not self._enter(wake):
                return True
            if timeout_s is not None:
                timer = loop.call_later(timeout_s, _resolve, future, False)
            return await future
        finally:
            self._leave(wake)
            if timer is not None:
                timer.cancel()

    def _enter(self, wake: Callable[[], bool]) -> bool:
        """Join the waiters; return False if there is nothing to wait for."""
        with self._lock:
            if self._is_set:
                return False
            self._waiting.append(wake)
            return True

    def _leave(self, wake: Callable[[], bool]) -> None:
        with self._lock:
            if wake in self._waiting:
                self._waiting.remove(wake)


def _open(closed: threading.Lock) -> bool:
    with suppress(RuntimeError):  # it was opened already
        closed.release()
    return True


def _resolve(future: Future[bool], result: bool) -> None:
    if not future.done():
        future.set_result(result)


def _resolve_soon(loop: AbstractEventLoop, future: Future[bool]) -> bool:
    try:
        loop.call_soon_threadsafe(_resolve, future, True)
    except RuntimeError:  # the loop is closed, and its tasks with it
        return False
    return True


class Slots:
    """A bounded number of slots, handed over in the order of asking.  Thread safe.

    A slot belongs to a *ticket*, any object of its owner.  The owner makes the ticket
    first, and releases it in any case: also if ``acquire`` has raised, and more than
    once if it likes.  So no exception, wherever it strikes, can lose a slot.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._owners: set[object] = set()
        self._queue: dict[object, Signal] = {}
        """The tickets that wait for a slot, and what tells them of their turn."""

    @property
    def free(self) -> int:
        """How many slots no ticket has."""
        return self._limit - len(self._owners)

    def has(self, ticket: object) -> bool:
        """Return whether the ticket has a slot."""
        return ticket in self._owners

    def acquire_now(self, ticket: object) -> bool:
        """Take a slot if one is free; return whether there was one."""
        with self._lock:
            return self._take(ticket)

    def acquire(self, ticket: object, timeout_s: float | None = None) -> bool:
        """Take a slot, or block this thread for one; return whether there was one."""
        turn = Signal()
        if self._queue_up(ticket, turn):
            turn.wait(timeout_s)
        return self._settle(ticket)

    async def acquire_async(
        self, ticket: object, timeout_s: float | None = None
    ) -> bool:
        """Take a slot, or suspend this task for one; return whether there was one."""
        turn = Signal()
        if self._queue_up(ticket, turn):
            await turn.wait_async(timeout_s)
        return self._settle(ticket)

    def release(self, ticket: object) -> None:
        """Give the slot back, or the place in the queue, if the ticket has one."""
        with self._lock:
            self._queue.pop(ticket, None)
            self._owners.discard(ticket)
            self._hand_over()

    def _take(self, ticket: object) -> bool:
        if len(self._owners) < self._limit:
            self._owners.add(ticket)
            return True
        return False

    def _queue_up(self, ticket: object, turn: Signal) -> bool:
        """Take a slot or a place in the queue; return whether there is need to wait."""
        with self._lock:
            if self._take(ticket):
                return False
            self._queue[ticket] = turn
            return True

    def _settle(self, ticket: object) -> bool:
        """End the wait, and return whether the ticket has a slot now."""
        with self._lock:
            self._queue.pop(ticket, None)
            return ticket in self._owners

    def _hand_over(self) -> None:
        """Give what is free to those that have waited longest; under the lock.

        The steps can be repeated: an interrupted call is made up for by the next.
        """
        while self._queue:
            ticket, turn = next(iter(self._queue.items()))
            if ticket not in self._owners and not self._take(ticket):
                return
            if not turn.set():  # a task of a closed loop
                self._owners.discard(ticket)
            self._queue.pop(ticket, None)
