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

from cachebridge.waiting import running_loop

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
        self._tasks: dict[str, Task[None]] = {}
        self.dropped = 0

    def submit(
        self, key: str, refresh: Callable[[], Coroutine[Any, Any, None]]
    ) -> bool:
        """Begin the refresh soon, in a copy of this context; tell whether it will be.

        False if the key is being refreshed already, or there is no room.
        """
        loop = running_loop()
        with self._lock:
            if len(self._tasks) >= MAX_TASKS or key in self._tasks:
                self._forget_lost()
            if key in self._tasks or self._refresher.has(key):
                return False
            if len(self._tasks) >= MAX_TASKS:
                self.dropped += 1
                return False
            task = loop.create_task(_run(key, refresh), name="cachebridge-refresh")
            self._tasks[key] = task
        task.add_done_callback(partial(self._done, key))
        return True

    def is_idle(self) -> bool:
        """Tell whether no task runs."""
        with self._lock:
            self._forget_lost()
            return not self._tasks

    def stop(self) -> None:
        """Cancel what runs, without waiting for it."""
        with self._lock:
            self._forget_lost()
            tasks = list(self._tasks.values())
        for task in tasks:
            with suppress(RuntimeError):  # its loop has just been closed
                task.get_loop().call_soon_threadsafe(task.cancel)

    def forget(self) -> None:
        """Let go of every task: the child of a fork, whose loops are not ours."""
        for task in self._tasks.values():
            task._log_destroy_pending = False  # type: ignore[attr-defined] # noqa: SLF001 no other way

    def _done(self, key: str, task: Task[None]) -> None:
        with self._lock:
            if self._tasks.get(key) is task:
                del self._tasks[key]

    def _forget_lost(self) -> None:
        """End the tasks of closed loops, quietly: nobody will ever run them again."""
        for key, task in list(self._tasks.items()):
            if task.get_loop().is_closed():
                del self._tasks[key]
                task._log_destroy_pending = False  # type: ignore[attr-defined] # noqa: SLF001 no other way
                coroutine = task.get_coro()
                if iscoroutine(coroutine):
                    coroutine.close()


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
