"""Waiting that suits threads and tasks alike: signals, slots, and tasks left waiting.

A thread that waits blocks; a task that waits suspends, and leaves its event loop free.
Whoever ends the wait may be either, of any loop.  A task whose loop is closed waits for
ever: somebody has to end it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cachebridge.errors import UnsupportedOperationError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future, Task
    from collections.abc import Callable

_log = logging.getLogger("cachebridge.engine")

MOST_REFUSALS: Final = 10
"""How often a coroutine that is being closed may go on awaiting."""


def running_loop() -> AbstractEventLoop:
    """Return the running event loop; UnsupportedOperationError if it is none."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise UnsupportedOperationError(
            "no asyncio event loop is running: cachebridge's async methods need one "
            "(asyncio or uvloop; trio and curio are not supported)."
        ) from None


def is_on_loop() -> bool:
    """Tell whether this thread runs an event loop, which a wait would block."""
    return asyncio._get_running_loop() is not None  # noqa: SLF001 documented for this


class Signal:
    """Something that happens, for threads and tasks to wait for.  Thread safe."""

    __slots__ = ("_is_set", "_lock", "_waiting")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Callable[[], bool]] = []
        self._is_set = False

    def set(self) -> bool:
        """Let everybody go on; False if all who wait are tasks of closed loops."""
        with self._lock:
            self._is_set = True
            waiting, self._waiting = self._waiting, []
        told = not waiting  # whoever is about to wait will find it set
        for wake in waiting:
            told |= wake()
        return told

    def is_set(self) -> bool:
        """Tell whether whoever comes now need not wait."""
        return self._is_set

    def clear(self) -> None:
        """Let those who come from now on wait again."""
        self._is_set = False

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block this thread until the signal is set; tell whether it was, in time."""
        closed = threading.Lock()
        closed.acquire()
        wake = partial(_open, closed)
        if not self._enter(wake):
            return True
        try:
            return closed.acquire(timeout=-1 if timeout_s is None else timeout_s)
        finally:
            self._leave(wake)

    async def wait_async(self, timeout_s: float | None = None) -> bool:
        """Suspend this task until the signal is set; tell whether it was, in time."""
        loop = running_loop()
        future: Future[bool] = loop.create_future()
        wake = partial(_resolve_soon, loop, future)
        if not self._enter(wake):
            return True
        timer = None
        if timeout_s is not None:
            timer = loop.call_later(timeout_s, _resolve, future, False)
        try:
            return await future
        finally:
            self._leave(wake)
            if timer is not None:
                timer.cancel()

    def _enter(self, wake: Callable[[], bool]) -> bool:
        """Join those who wait; False if there is nothing to wait for."""
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
    closed.release()
    return True


def _resolve(future: Future[bool], result: bool) -> None:
    if not future.done():
        future.set_result(result)


def _resolve_soon(loop: AbstractEventLoop, future: Future[bool]) -> bool:
    try:
        loop.call_soon_threadsafe(_resolve, future, True)
    except RuntimeError:  # the loop is closed: its tasks are no more
        return False
    return True


class Slots:
    """A bounded number of slots, handed over in the order of asking.  Thread safe."""

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self._queue: deque[Signal] = deque()
        self._handed: set[Signal] = set()
        """Turns that have come, and whose owners have not noticed yet."""
        self.free = limit

    def acquire(self, timeout_s: float | None = None) -> bool:
        """Take a slot, or block this thread for one; tell whether there was one."""
        turn = self._queue_up()
        if turn is None:
            return True
        has_come = False
        try:
            has_come = turn.wait(timeout_s)
        finally:
            self._settle(turn, has_come=has_come)
        return has_come

    async def acquire_async(self, timeout_s: float | None = None) -> bool:
        """Take a slot, or suspend this task for one; tell whether there was one."""
        turn = self._queue_up()
        if turn is None:
            return True
        has_come = False
        try:
            has_come = await turn.wait_async(timeout_s)
        finally:
            self._settle(turn, has_come=has_come)
        return has_come

    def release(self) -> None:
        """Give a slot back, to whoever has waited longest."""
        while True:
            with self._lock:
                if not self._queue:
                    self.free += 1
                    return
                turn = self._queue.popleft()
                self._handed.add(turn)
            if turn.set():
                return
            with self._lock:
                if turn not in self._handed:
                    return
                self._handed.remove(turn)

    def _queue_up(self) -> Signal | None:
        with self._lock:
            if self.free:
                self.free -= 1
                return None
            turn = Signal()
            self._queue.append(turn)
            return turn

    def _settle(self, turn: Signal, *, has_come: bool) -> None:
        """End the wait; a slot that came too late goes to the next."""
        with self._lock:
            was_handed = turn in self._handed
            self._handed.discard(turn)
            if turn in self._queue:
                self._queue.remove(turn)
        if was_handed and not has_come:
            self.release()


class HeldTasks:
    """Tasks whose end would take locks, each held until it lets go.  Thread safe.

    Nobody else may hold a task whose loop has been closed under it: as garbage it would
    end in the middle of anything, even of what holds those locks.  So it is ended here,
    by a caller who holds none.
    """

    def __init__(self) -> None:
        self._tasks: dict[object, Task[Any] | None] = {}
        self._loops: dict[weakref.ref[AbstractEventLoop], None] = {}

    def hold(self) -> object:
        """Hold the running task, if any, until what this returns is released."""
        hold = object()
        loop = asyncio._get_running_loop()  # noqa: SLF001 documented for this
        if loop is not None:
            self._tasks[hold] = asyncio.current_task(loop)
            self._loops[weakref.ref(loop)] = None
            if len(self._loops) > 1:
                self.end_lost()
        return hold

    def release(self, hold: object) -> None:
        """Let go of the task."""
        self._tasks.pop(hold, None)

    def end_lost(self) -> None:
        """End the tasks of closed loops; for callers who hold no lock."""
        has_lost = False
        for known in self._loops.copy():
            loop = known()
            if loop is None or loop.is_closed():
                self._loops.pop(known, None)
                has_lost = True
        if not has_lost:
            return
        for hold, task in self._tasks.copy().items():
            if task is None or not task.get_loop().is_closed():
                continue
            if self._tasks.pop(hold, None) is not None:  # no other thread has it
                end_task(task)


_ending: dict[Task[Any], object] = {}
"""Tasks that some thread is just ending: one may be held in several places."""


def end_task(task: Task[Any]) -> None:
    """End a task whose loop is closed; what its own code raises is logged.

    That is nobody's error here: who comes by has nothing to do with the task.
    """
    mine = object()
    if _ending.setdefault(task, mine) is not mine:
        return
    try:
        task._log_destroy_pending = False  # type: ignore[attr-defined] # noqa: SLF001 no other way
        _close(task)
    finally:
        del _ending[task]


def _close(task: Task[Any]) -> None:
    coroutine = task.get_coro()
    if not asyncio.iscoroutine(coroutine):  # it was over before it was a task
        return
    for _ in range(MOST_REFUSALS):
        try:
            coroutine.close()
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 whatever it is
            if getattr(coroutine, "cr_frame", None) is None:
                _log.exception("a task of a closed event loop has failed: %.80r", task)
                return
            # Otherwise it has caught GeneratorExit, and awaits something else.
        else:
            return
