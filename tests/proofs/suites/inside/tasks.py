"""A cache whose every call is made by a task: Django's tests of plain methods, awaited.

Django tests the asynchronous methods of its dummy backend only; this runs all that it
asks of a backend through them.
"""

from __future__ import annotations

import asyncio
import threading
from functools import cache as once
from typing import TYPE_CHECKING, Any

from cachebridge.django_backend import CacheBridge

if TYPE_CHECKING:
    from django.core.cache.backends.base import BaseCache

METHODS = (
    *("get", "get_many", "get_or_set", "has_key", "add", "set", "set_many", "touch"),
    *("incr", "decr", "delete", "delete_many", "clear"),
    *("incr_version", "decr_version"),
)


@once
def event_loop() -> asyncio.AbstractEventLoop:
    """Return a loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="suite-loop", daemon=True).start()
    return loop


def _awaited(name: str) -> Any:
    def method(self: BaseCache, *args: Any, **kwargs: Any) -> Any:
        call = getattr(CacheBridge, f"a{name}")(self, *args, **kwargs)
        return asyncio.run_coroutine_threadsafe(call, event_loop()).result(30.0)

    method.__name__ = name
    return method


class TaskBridge(CacheBridge):
    """``get`` asks ``aget`` in a task, and so on."""

    def __contains__(self, key: Any) -> bool:
        return bool(self.has_key(key))


for each in METHODS:
    setattr(TaskBridge, each, _awaited(each))
