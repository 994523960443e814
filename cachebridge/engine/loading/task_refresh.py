"""Background refreshes by tasks, for loaders that are coroutine functions.

They run on the caller's event loop, where the loader's own connections belong.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial
from inspect import isawaitable, iscoroutine
from typing import TYPE_CHECKING, Any, Final

from cachebridge.waiting.closed_loops import end_task
from cachebridge.waiting.signals import running_loop

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Awaitable, Callable, Coroutine

    from cachebridge.engine.loading.refresh import Refresher

MAX_TASKS: Final = 100
LOOK_AGAIN_S: Final = 1.0


class TaskRefresher:
    """Runs at most one task per key in the background, on its caller's event loop.

    Thread safe.  A task that finds no room is dropped: the next reader of the stale
    value asks again.  A loop that is closed takes its tasks along.
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
        """Begin soon, in a copy of this context; return whether the refresh will run.

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
        try:
            self._begin(loop, key, refresh)
        except BaseException:
            if self._tasks.get(key) is None:
                self._tasks.pop(key, None)
            raise
        return True

    def _begin(
        self,
        loop: AbstractEventLoop,
        key: str,
        refresh: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """Make the task, without the lock: an eager loop runs it at once."""
        coroutine = self._run(key, refresh)
        try:
            task = loop.create_task(coroutine, name="cachebridge-refresh")
        except BaseException:
            coroutine.close()
            raise
        if task.done():
            self._done(key, None)
            return
        with self._lock:
            self._tasks[key] = task
        task.add_done_callback(partial(self._done, key))

    def has(self, key: str) -> bool:
        """Return whether the key is being refreshed."""
        return key in self._tasks

    def is_idle(self) -> bool:
        """Return whether no task runs."""
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

    async def _run(
        self, key: str, refresh: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        try:
            await refresh()
        except Exception:  # noqa: BLE001 no caller above could handle it
            self._refresher.tell(key)

    def _end_lost(self) -> None:
        """End the tasks of closed loops, which will never run again."""
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
    import asyncio  # noqa: PLC0415 it is there: a loop runs

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
