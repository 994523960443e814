"""Fences: a lock made of ``add`` protects what its owner reads afterwards.

L2 decides an ``add``, but L1 may not yet have heard of writes that L2 had carried out
before.  So an ``add`` that has won raises a *fence*: no look-up of this process hits L1
until the echo of the ``add``'s own message has been handled, because all messages of
earlier writes come before it.  A heartbeat sent since proves the same.  What L1 holds
and takes meanwhile is subject to the usual rules: the fence stops hits, no fills.

A new subscription empties L1 and so ends every fence.

Here is also what the rules compare: the gate, for look-ups, and of each key with
running calls what decides whether a fill of it may be stored.
"""

from __future__ import annotations

from typing import Any, Final

from cachebridge.core.outage import NEVER
from cachebridge.waiting.signals import Signal

NO_NUMBER: Final = 0
"""In place of the number of an ``add`` that raises no fence."""
NO_TOKEN: Final = -1
"""The token of a fill that may not store whatever happens."""
NONE: Final[frozenset[Any]] = frozenset()
"""No members, no writes."""


class KeyActivity:
    """The running fills and writes of one key.

    The sets are frozen: the keys of one call share them.  Two sets for each key would
    be most of the memory that ``set_many`` touches.
    """

    __slots__ = ("generation", "members", "writes")

    def __init__(self, members: frozenset[object]) -> None:
        self.members = members
        self.generation = 0
        self.writes: frozenset[int] = NONE


class Gate:
    """Until when a look-up may hit: the one figure that the hit path compares."""

    __slots__ = ("until",)

    def __init__(self) -> None:
        self.until = NEVER


class Fence:
    """A fence that is up, or was."""

    __slots__ = ("_ended", "_is_up", "is_announced", "since")

    def __init__(self, since: float, *, is_announced: bool) -> None:
        """``since``: when it was raised, by the clock of the rules."""
        self.since = since
        self.is_announced = is_announced
        """Whether a message was published whose echo ends it."""
        self._is_up = True
        self._ended: Signal | None = None

    def end(self) -> None:
        """Wake the callers that wait."""
        self._is_up = False
        if self._ended is not None:
            self._ended.set()

    def ended(self) -> Signal:
        """Return the signal to wait for, made when the first caller waits."""
        signal = self._ended = self._ended or Signal()
        if not self._is_up:
            signal.set()
        return signal


class Fences:
    """The fences of one engine.  Its methods are called under the lock of the rules."""

    def __init__(self) -> None:
        self.awaited: set[int] = set()
        """Numbers of the ``add``s under way whose echo has not been handled."""
        self.up: dict[int, Fence] = {}
        """By the number of the ``add``, in the order of raising."""
        self.hurry = Signal()
        """Set by a caller that waits; the listener then makes no pause."""

    def __bool__(self) -> bool:
        return bool(self.up or self.awaited)

    def end(self, number: int) -> bool:
        """End the fence of an ``add`` whose echo is handled; return whether it was."""
        self.awaited.discard(number)
        fence = self.up.pop(number, None)
        if fence is not None:
            fence.end()
        return fence is not None

    def announce(self) -> list[int]:
        """Return the numbers for which the caller is to publish a message, now."""
        silent = [n for n, fence in self.up.items() if not fence.is_announced]
        for number in silent:
            self.up[number].is_announced = True
        return silent

    def end_before(self, sent_at: float) -> None:
        """End those that were raised before a heartbeat was sent."""
        for number, fence in list(self.up.items()):
            if fence.since < sent_at:
                self.end(number)

    def reset(self) -> None:
        """Forget all of them: there is no caller that waits, as after a fork."""
        self.awaited.clear()
        self.up.clear()
        self.hurry = Signal()
