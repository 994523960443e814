"""Counters in L2: changes within bounds, and refusals that L1 remembers.

L1 may hold the value at which a change was refused, by a fill.  The process answers
with it until a message, its TTL or an end of trust takes it away.  A *take*, which
subtracts, needs no message to peers unless the counter has a ceiling: it makes no
remembered refusal of another take wrong.  Every other change has its message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cachebridge.codec.values import number
from cachebridge.core.keys import shown_key
from cachebridge.core.ttl import FOREVER_MS, GONE_MS
from cachebridge.waiting.guard import Guard
from cachebridge.waiting.signals import Slots

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cachebridge.core.direct import Direct
    from cachebridge.core.fill import Fill
    from cachebridge.core.write import Write
    from cachebridge.engine.removals import OperationsHost
    from cachebridge.engine.values import Values
    from cachebridge.l2.store import Bounds, Counted, L2Store
    from cachebridge.stats import Counters
    from cachebridge.waiting.io import IO

TURNS: Final = 64
"""Keys that share one wait for each other without need; that is rare enough."""
NO_WRITER: Final = b""
"""An origin that no process has: what comes from it is no echo."""


class Turn(Guard):
    """A caller's turn to count with a key, where two at a time hinder each other.

    A store that compares and sets lets one of all callers win.  With turns these are as
    many as there are processes, not threads.  Nothing depends on it.
    """

    __slots__ = ("_patience_s", "_slots")

    def __init__(self, engine: OperationsHost, key: str) -> None:
        super().__init__()
        turns = engine.count_turns
        self._slots = turns[hash(key) % len(turns)] if turns else None
        self._patience_s = engine.options.socket_timeout

    async def wait(self, io: IO) -> None:
        """Wait for the turn, for a while at most; then go on without."""
        if self._slots is not None and io.may_wait():
            await io.acquire(self._slots, self, self._patience_s)

    def _give_back(self, _error: BaseException | None) -> None:
        if self._slots is not None:
            self._slots.release(self)


def make_turns(*, compares: bool) -> tuple[Slots, ...]:
    """Make the turns of an engine whose store ``compares`` and sets; else none."""
    return tuple([Slots(1) for _ in range(TURNS)]) if compares else ()


class Counting:
    """The counting part of ``Operations``, which makes what this one declares."""

    engine: OperationsHost
    counters: Counters
    io: IO
    values: Values
    l2: L2Store
    open_fill: Callable[[Sequence[str]], Fill | Direct]
    open_write: Callable[[Sequence[str]], Write | Direct]
    count_read: Callable[[], None]
    message: Callable[[Write | Direct], bytes | None]
    publishes: bool
    degrades: bool

    async def count(
        self, key: str, delta: int, bounds: Bounds, ttl_ms: int | None
    ) -> bool:
        """Add to a counter; return whether the bounds allowed it.

        A counter that does not exist is 0, and is made with the TTL.  Raises TypeError
        if the key holds no integer.
        """
        if self._is_refused(key, delta, bounds):
            return False
        self.count_read()
        is_told = self.publishes and (delta > 0 or bounds.ceiling is not None)
        message = self.engine.outgoing.of_count(key) if is_told else None
        with self.open_fill((key,)) as fill, fill:
            counted: Counted | None = None
            try:
                with (turn := Turn(self.engine, key)), turn:
                    await turn.wait(self.io)
                    counted = await self.l2.count(key, delta, bounds, ttl_ms, message)
            finally:
                if is_told and (counted is None or counted.changed):
                    for rules in self.engine.rules.everywhere():
                        rules.on_keys(NO_WRITER, 0, (key,))
            if counted is None:
                raise TypeError(f"the value of {shown_key(key)} is no counter")
            if counted.changed:
                self.counters.messages_sent += message is not None
            elif self.engine.outgoing.arrive():
                self._remember(fill, key, counted)
        return counted.changed

    def _is_refused(self, key: str, delta: int, bounds: Bounds) -> bool:
        """Return whether L1 knows that the bounds do not allow it."""
        entry = self.engine.local_reads.usable_entry(key, in_outage=self.degrades)
        if entry is None:
            return False
        value = self.values.copies.value_of(entry)
        if type(value) is not int or bounds.allow(value, delta):
            return False
        self.engine.l1.note(key)
        self.counters.l1_hits += 1
        return True

    def _remember(self, fill: Fill | Direct, key: str, counted: Counted) -> None:
        """Let L1 have the value at which a change was refused."""
        value, left_ms = counted.value, counted.ttl_ms
        if left_ms == GONE_MS:
            left_ms = FOREVER_MS  # until it is made, which has a message
        content = self.values.serialize(key, value)
        self.values.take_read(fill, key, value, content, left_ms)

    async def counted(self, key: str) -> int | None:
        """Return the value of a counter, from L2; 0 if it does not exist.

        Counters are digits, whatever the serializer, and have no signature.
        """
        raw, _ = await self.l2.get(key)
        try:
            value = 0 if raw is None else number(raw)
        except ValueError:
            value = None
        if type(value) is not int:
            raise TypeError(f"the value of {shown_key(key)} is no counter")
        return value

    async def set_count(self, key: str, value: int, ttl_ms: int | None) -> bool:
        """Set a counter and its TTL; return whether L2 had room."""
        with self.open_write((key,)) as write, write:
            items = ((key, b"%d" % value),)
            return not await self.l2.store(items, ttl_ms, self.message(write))
