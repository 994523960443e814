"""One text of tests for both sides: a cache whose every call is made by a task."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache as once
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge import Cache

SIDES = ["threads", "tasks"]


@once
def event_loop() -> asyncio.AbstractEventLoop:
    """Return a loop that runs in a thread of its own until the end of the process."""
    loop = asyncio.new_event_loop()
    loop.set_default_executor(ThreadPoolExecutor(100))  # as many loaders may block
    threading.Thread(target=loop.run_forever, name="tests-loop", daemon=True).start()
    return loop


class TaskFace:
    """Calls ``aget`` where ``get`` is asked for, and so on, each in a task of one loop.

    Threads that call at the same time become tasks that run at the same time.  Loaders
    run in threads, so that they may wait for each other as the tests have it.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._cache, f"a{name}", None)
        if method is None:
            return getattr(self._cache, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if name in {"get_or_load", "get_or_set"} and callable(args[1]):
                args = (args[0], in_thread(args[1]), *args[2:])
            return on_loop(method, *args, **kwargs)

        return call

    def __contains__(self, key: Any) -> bool:
        return bool(self.has_key(key))


def on_loop(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a coroutine function in a task of the loop, in a copy of this context."""

    async def call() -> Any:
        return await method(*args, **kwargs)

    return asyncio.run_coroutine_threadsafe(call(), event_loop()).result(30.0)


def in_thread(loader: Callable[[], Any]) -> Callable[[], Any]:
    """Make a coroutine function of a loader that may block."""

    async def load() -> Any:
        return await asyncio.to_thread(loader)

    return load


def on_side(side: str, cache: Any) -> Any:
    """Return the cache as it is, or as tasks use it."""
    return cache if side == "threads" else TaskFace(cache)
