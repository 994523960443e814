"""MAX_LOADS: how many loaders run at a time in a process."""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING

from cachebridge.waiting.guard import Guard
from cachebridge.waiting.signals import Slots

if TYPE_CHECKING:
    from contextvars import Token

    from cachebridge.waiting.io import IO

_slot: ContextVar[Slot | None] = ContextVar("cachebridge_slot", default=None)


class LoadSlots:
    """At most ``limit`` slots, one for each running loader of threads and tasks.

    With None as the limit no loader waits.  Thread safe.  A loader that loads another
    key in the same context shares the slot of the outer one: it would wait for itself
    otherwise.  A loader that waits for another's load gives its slot up for good: that
    load may be waiting for it.
    """

    def __init__(self, limit: int | None) -> None:
        self._slots = None if limit is None else Slots(limit)

    def slot(self, io: IO) -> Slot:
        """Return the slot of a load, a guard: ``with slot, slot``."""
        return Slot(self._slots, io)


class Slot(Guard):
    """One load's slot; ``take`` waits for it.  Its context is entered before that."""

    __slots__ = ("_io", "_slots", "_token", "is_over")

    def __init__(self, slots: Slots | None, io: IO) -> None:
        super().__init__()
        self._slots = slots
        self._io = io
        self._token: Token[Slot | None] | None = None
        self.is_over = False
        """Whether its load has ended; what that has started may still run."""

    async def take(self, patience_s: float) -> None:
        """Wait for a slot, at most so many seconds; then go on without.

        A caller that must not wait does not: a task of its event loop may hold them
        all.  Nor does one whose context is part of a load that has a slot.
        """
        if self._slots is not None and _slot_here() is None:
            timeout_s = patience_s if self._io.may_wait() else 0
            await self._io.acquire(self._slots, self, timeout_s)
            self._token = _slot.set(self)

    def _give_back(self, _error: BaseException | None) -> None:
        if self._slots is None:
            return
        self.give_up()
        self.is_over = True
        if self._token is not None:
            with suppress(ValueError, RuntimeError):  # closed elsewhere; reset before
                _slot.reset(self._token)

    def give_up(self) -> None:
        """Let another loader have the slot, or the place in the queue."""
        if self._slots is not None:
            self._slots.release(self)


def _slot_here() -> Slot | None:
    """Return the slot of the load that this context is part of."""
    slot = _slot.get()
    return None if slot is None or slot.is_over else slot


def forget_slot() -> None:
    """Begin without a slot in a context that is a copy of another's."""
    _slot.set(None)


def give_up_slot() -> None:
    """Go on without a slot, if this context has one: it is about to wait."""
    if (slot := _slot.get()) is not None:
        slot.give_up()
