"""MAX_LOADS: how many loaders run at a time in a process."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING

from cachebridge.waiting import Slots, is_on_loop

if TYPE_CHECKING:
    from contextvars import Token

_slot: ContextVar[Slot | None] = ContextVar("cachebridge_slot", default=None)


class LoadSlots:
    """A bounded number of slots, one for each running loader of threads and tasks.

    Thread safe.  A loader that loads another key in the same context shares the slot of
    the outer one: it would wait for itself otherwise.  One that waits for another's
    load gives its slot up for good: that load may be waiting for it.
    """

    def __init__(self, limit: int) -> None:
        self._slots = Slots(limit)

    def slot(self) -> Slot:
        """Return a context that waits for a slot and holds it while it is open."""
        return Slot(self._slots)


class Slot:
    """One load's slot: a context manager for threads, and one for tasks.

    A thread that runs an event loop takes one if there is one, and goes on without: a
    task of that loop may be what holds them.
    """

    __slots__ = ("_is_taken", "_slots", "_token", "is_over")

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._is_taken = False
        self._token: Token[Slot | None] | None = None
        self.is_over = False
        """Whether its load has ended; what that has started may still run."""

    def __enter__(self) -> None:
        if _slot_here() is None:
            self._is_taken = self._slots.acquire(0 if is_on_loop() else None)
            self._token = _slot.set(self)

    async def __aenter__(self) -> None:
        if _slot_here() is None:
            self._is_taken = await self._slots.acquire_async()
            self._token = _slot.set(self)

    def __exit__(self, *_exc: object) -> None:
        if self._token is not None:
            with suppress(ValueError):  # a coroutine that is closed somewhere else
                _slot.reset(self._token)
        self.is_over = True
        self.give_up()

    def give_up(self) -> None:
        """Let another loader have the slot; once."""
        if self._is_taken:
            self._is_taken = False
            self._slots.release()

    async def __aexit__(self, *exc: object) -> None:
        self.__exit__(*exc)


def _slot_here() -> Slot | None:
    """Return the slot of the load that this context is part of."""
    slot = _slot.get()
    return None if slot is None or slot.is_over else slot


def begin_elsewhere() -> None:
    """Forget the slot of the context that this one is a copy of."""
    _slot.set(None)


def give_up_slot() -> None:
    """Go on without a slot, if this context has one: it is about to wait."""
    if (slot := _slot.get()) is not None:
        slot.give_up()


class NoSlots:
    """As many loaders as callers."""

    _slot = nullcontext()

    def slot(self) -> nullcontext[None]:
        """Wait for nothing."""
        return self._slot


def make_slots(limit: int | None) -> LoadSlots | NoSlots:
    """Return slots for at most ``limit`` loaders, None for any number."""
    return NoSlots() if limit is None else LoadSlots(limit)
