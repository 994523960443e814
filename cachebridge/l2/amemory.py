"""The memory store for tasks: it answers at once, so there is nothing to wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from cachebridge.l2.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

P = ParamSpec("P")
R = TypeVar("R")


def _at_once(
    method: Callable[Concatenate[MemoryStore, P], R],
) -> Callable[Concatenate[AsyncMemoryStore, P], Coroutine[Any, Any, R]]:
    """Make a coroutine function that calls the method and never suspends."""

    async def call(self: AsyncMemoryStore, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return method(self._store, *args, **kwargs)

    call.__name__ = method.__name__
    call.__doc__ = method.__doc__
    return call


class AsyncMemoryStore:
    """See ``AsyncL2Store``."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    get = _at_once(MemoryStore.get)
    get_many = _at_once(MemoryStore.get_many)
    exists = _at_once(MemoryStore.exists)
    store = _at_once(MemoryStore.store)
    add = _at_once(MemoryStore.add)
    touch = _at_once(MemoryStore.touch)
    delete = _at_once(MemoryStore.delete)
    incr = _at_once(MemoryStore.incr)
    replace = _at_once(MemoryStore.replace)
    look = _at_once(MemoryStore.look)
    store_loaded = _at_once(MemoryStore.store_loaded)
    store_absent = _at_once(MemoryStore.store_absent)
    release = _at_once(MemoryStore.release)
    release_unshared = _at_once(MemoryStore.release_unshared)
    clear = _at_once(MemoryStore.clear)
    scan = _at_once(MemoryStore.scan)
    flush_db = _at_once(MemoryStore.flush_db)
    publish = _at_once(MemoryStore.publish)
