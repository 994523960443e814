"""Tasks whose event loop was closed while they waited: held until they can be ended.

asyncio is imported where there is a task, which has imported it already.
"""

from __future__ import annotations

import logging
import weakref
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, Final

from cachebridge.events import event
from cachebridge.waiting.signals import current_loop

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task

_log = logging.getLogger("cachebridge.engine")

MOST_REFUSALS: Final = 10
"""How often a coroutine that is being closed may go on awaiting."""


class HeldTasks:
    """Strong references to suspended tasks whose cleanup takes locks.  Thread safe.

    A task whose loop was closed must not become garbage: it would end at a random
    point, even in code that holds those locks.  So it is ended here, by a caller that
    holds none.
    """

    def __init__(self) -> None:
        self._tasks: dict[object, Task[Any] | None] = {}
        self._loops: dict[weakref.ref[AbstractEventLoop], None] = {}
        self.release = self._tasks.pop
        """``release(hold, None)`` lets go of the task; nothing can interrupt it."""

    def hold(self, hold: object) -> None:
        """Hold the running task, if any, until ``hold`` (a new object) is released."""
        loop = current_loop()
        if loop is not None:
            import asyncio  # noqa: PLC0415 see above

            self._tasks[hold] = asyncio.current_task(loop)
            self._loops[weakref.ref(loop)] = None
            if len(self._loops) > 1:
                self.end_lost()

    def end_lost(self) -> None:
        """End the tasks of closed loops; only for callers that hold no lock."""
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
"""Tasks that a thread is ending now: one task may be held in several places."""


def end_task(task: Task[Any]) -> None:
    """End a task whose loop is closed, and log what its own code raises.

    It is not raised: the caller that ends the task has nothing to do with it.
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
    from asyncio import CancelledError  # noqa: PLC0415 see above

    coroutine = task.get_coro()
    if not iscoroutine(coroutine):  # it was over before it was a task
        return
    for _ in range(MOST_REFUSALS):
        try:
            coroutine.close()
        except (Exception, CancelledError):  # noqa: BLE001 whatever it is
            if getattr(coroutine, "cr_frame", None) is None:
                _log.exception(
                    "a task of a closed event loop has failed: %.80r",
                    task,
                    extra=event("task.failed"),
                )
                return
            # Otherwise it has caught GeneratorExit, and awaits something else.
        else:
            return
