"""Background refreshes by tasks, for loaders that are coroutine functions.

They run on the caller's event loop, where the loader's own connections belong.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from functools import partial
from inspect import isawaitable, iscoroutine
from typing import TYPE_CHECKING, Any, Final

from cachebridge.waiting import end_task, running_loop

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Awaitable, Callable, Coroutine

    from cachebridge.engine.refresh import Refresher

_log = logging.getLogger("cachebridge.engine")

MAX_TASKS: Final = 100
LOOK_AGAIN_S: Final = 1.0


class TaskRefresher:
    """Runs at most one task per key behind its callers, on their event loops.

    Thread safe.  Tasks that find no room are dropped: whoever reads the stale value
    next asks again.  A loop that is closed takes its tasks along.
    """

    def __init__(self, refresher: Refresher) -> None:
        self._refresher = refresher
        self._lock = threading.Lock()
        self._tasks: dict[str, Task[None] | None] = {}
        """None stands for one that is being made."""
        self.dropped = 0

    def submit(
        self, key: str, refresh: Callable[[], Coroutine[Any, Any, None]]
    ) -> bool:
        """Begin the refresh soon, in a copy of this context; tell whether it will be.

        False if the key is being refreshed already, or there is no room.
        """
        loop = running_loop()
        if len(self._tasks) >= MAX_TASKS or key in self._tasks:
            self._end_lost()
        with self._lock:
            if key in self._tasks or self._refresher.has(key):
                return False
            if len(self._tasks) >= MAX_TASKS:
                self.dropped += 1
                return False
            self._tasks[key] = None
        self._begin(loop, key, refresh)
        return True

    def _begin(
        self,
        loop: AbstractEventLoop,
        key: str,
        refresh: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """Make the task, without the lock: an eager loop runs it at once."""
        coroutine = _run(key, refresh)
        try:
            task = loop.create_task(coroutine, name="cachebridge-refresh")
        except BaseException:
            coroutine.close()
            self._done(key, None)
            raise
        if task.done():
            self._done(key, None)
            return
        with self._lock:
            self._tasks[key] = task
        task.add_done_callback(partial(self._done, key))

    def has(self, key: str) -> bool:
        """Tell whether the key is being refreshed."""
        return key in self._tasks

    def is_idle(self) -> bool:
        """Tell whether no task runs."""
        self._end_lost()
        return not self._tasks

    def stop(self) -> None:
        """Cancel what runs, without waiting for it."""
        self._end_lost()
        with self._lock:
            tasks = list(self._tasks.values())
        for task in tasks:
            if task is None:
                continue
            with suppress(RuntimeError):  # its loop has just been closed
                task.get_loop().call_soon_threadsafe(task.cancel)

    def forget(self) -> None:
        """Let go of every task: the child of a fork, whose loops are not ours."""
        for task in self._tasks.values():
            if task is not None:
                task._log_destroy_pending = False  # type: ignore[attr-defined] # noqa: SLF001 no other way

    def _done(self, key: str, task: Task[None] | None) -> None:
        with self._lock:
            if key in self._tasks and self._tasks[key] is task:
                del self._tasks[key]

    def _end_lost(self) -> None:
        """End the tasks of closed loops: nobody will ever run them again."""
        with self._lock:
            lost = {
                key: task
                for key, task in self._tasks.items()
                if task is not None and task.get_loop().is_closed()
            }
            for key in lost:
                del self._tasks[key]
        for task in lost.values():
            end_task(task)


async def _run(key: str, refresh: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        await refresh()
    except Exception:  # noqa: BLE001 nobody above could handle it
        _log.exception("refreshing %.80s failed", key)


async def loaded_by(loader: Callable[[], Any]) -> Any:
    """Call a loader, a plain one or a coroutine function, and return what it loads."""
    loaded = loader()
    return await loaded if isawaitable(loaded) else loaded


def loader_for_thread(loader: Callable[[], Any]) -> Callable[[], Any]:
    """Let a loader run in a thread; what it wants awaited is awaited on this loop."""
    loop = running_loop()

    def load() -> Any:
        loaded = loader()
        return _await_on(loop, loaded) if isawaitable(loaded) else loaded

    return load


def _await_on(loop: AbstractEventLoop, awaitable: Awaitable[Any]) -> Any:
    """Block this thread until the loop has awaited it; raise if the loop is closed."""

    async def finish() -> Any:
        return await awaitable

    coroutine = finish()
    try:
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    except RuntimeError:
        coroutine.close()
        if iscoroutine(awaitable):
            awaitable.close()
        raise
    while True:
        try:
            return future.result(LOOK_AGAIN_S)
        except TimeoutError:
            if future.done():
                raise
            if loop.is_closed():
                raise RuntimeError("the event loop of the loader is closed") from None
