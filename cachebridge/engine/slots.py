"""MAX_LOADS: how many loaders run at a time in a process."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_has_slot: ContextVar[bool] = ContextVar("cachebridge_has_slot", default=False)


class LoadSlots:
    """A bounded number of slots, one for each running loader.  Thread safe.

    A loader that loads another key in the same context shares the slot of the outer
    one: it would wait for itself otherwise.
    """

    def __init__(self, limit: int) -> None:
        self._free = threading.Semaphore(limit)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a slot and hold it while the context is open."""
        if _has_slot.get():
            yield
            return
        with self._free:
            token = _has_slot.set(True)
            try:
                yield
            finally:
                _has_slot.reset(token)


def begin_elsewhere() -> None:
    """Forget the slot of the context that this one is a copy of."""
    _has_slot.set(False)


class NoSlots:
    """As many loaders as callers."""

    _slot = nullcontext()

    def slot(self) -> AbstractContextManager[None]:
        """Wait for nothing."""
        return self._slot


def make_slots(limit: int | None) -> LoadSlots | NoSlots:
    """Return slots for at most ``limit`` loaders, None for any number."""
    return NoSlots() if limit is None else LoadSlots(limit)
