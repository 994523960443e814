"""Messages to publish beside a store that cannot publish them itself.

Messages that the bus does not take are owed, by key: a late message may name more keys
than were changed, never fewer.  They are published when the bus is back, and at the
engine's stop.  Until then peers keep old values for ``L1_TTL`` at most.

A change without an answer may be carried out, now or later.  Its message is published
when the store has answered for as long as a request may take, and not during an outage:
then it would drop the entries that every process has to go on with.
"""

from __future__ import annotations

import itertools
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias

from cachebridge.codec.messages import MessageType, batches, decode_message
from cachebridge.errors import L2Error
from cachebridge.waiting.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.l2.store import L2Store

MAX_OWED: Final = 10_000
"""If there are more keys, every L1 is emptied instead."""
MOST_PASSES: Final = 10

Name: TypeAlias = tuple[MessageType, str]


class Outbox:
    """The messages of one engine that are to be published.  Thread safe."""

    def __init__(
        self,
        bus: L2Store,
        *,
        frame: Callable[[MessageType, tuple[str, ...]], bytes],
        catch_up: Callable[[], object],
        is_away: Callable[[], bool],
        settle_s: float,
        clock: Callable[[], float],
    ) -> None:
        """``bus`` is for threads: what is owed is published in the background.

        ``catch_up`` calls ``settle`` and ``flush_if_possible`` soon, in the background.
        ``is_away`` returns whether the store counts as away.  After the store has
        answered for ``settle_s`` seconds, no old request can be under way any more.
        """
        self._bus = bus
        self._frame = frame
        self._catch_up = catch_up
        self._is_away = is_away
        self._settle_s = settle_s
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Begin anew in the child of a fork: the parent publishes its own messages."""
        self._lock = threading.Lock()
        self._owed: dict[Name, int] = {}
        self._doubts: dict[Name, int] = {}
        self._answered_at: float | None = None
        self._stamp = itertools.count().__next__

    def __len__(self) -> int:
        return len(self._owed) + len(self._doubts)

    @property
    def doubts(self) -> bool:
        """Whether a message waits for the store to answer."""
        return bool(self._doubts)

    def over(self, bus: L2Store) -> Sender:
        """Return the outbox as a store uses it whose calls wait as those of ``bus``."""
        return Sender(self, bus)

    def owing(self, message: bytes) -> Owing:
        """Owe the message unless it is published in the context, entered twice."""
        return Owing(self, message)

    def owe(self, message: bytes) -> None:
        """Publish in the background."""
        self.keep(message)
        self.go_on()

    def doubt(self, message: bytes) -> None:
        """Publish once the change can be carried out no more.

        Unless there is an outage, publish now as well: it may have been carried out.
        """
        with self._lock:
            self._doubts = self._joined(self._doubts, message)
            self._answered_at = None
        if not self._is_away():
            self.keep(message)
        self.go_on()

    def go_on(self) -> None:
        """Publish what is left in the background."""
        if self._owed or self._doubts:
            self._catch_up()

    def keep(self, message: bytes) -> None:
        """Owe the message, for a later publication."""
        with self._lock:
            self._owed = self._joined(self._owed, message)

    def _joined(self, kept: dict[Name, int], message: bytes) -> dict[Name, int]:
        decoded = decode_message(message)
        for key in decoded.keys or ("",):
            kept[decoded.type, key] = self._stamp()
        if len(kept) > MAX_OWED:
            return {(MessageType.CLEAR, ""): self._stamp()}
        return kept

    def settle(self, *, answers: bool) -> None:
        """Owe what is in doubt if the store ``answers`` and has done so long enough."""
        with self._lock:
            if not answers:
                self._answered_at = None
            elif self._answered_at is None:
                self._answered_at = self._clock()
            elif self._clock() - self._answered_at >= self._settle_s:
                self._owed |= self._doubts
                self._doubts.clear()

    def give_up(self) -> None:
        """Owe what is in doubt now: there is no time left to wait."""
        with self._lock:
            self._owed |= self._doubts
            self._doubts.clear()

    async def flush_if_possible(self) -> None:
        """Publish what is owed, and what becomes owed meanwhile; failures stay owed.

        Waits as ``bus`` does, for threads.
        """
        with suppress(L2Error):
            for _ in range(MOST_PASSES):
                if not self._owed:
                    return
                await self._flush()

    async def _flush(self) -> None:
        owed = self._owed.copy()
        for kind in MessageType:
            keys = [key for owed_kind, key in owed if owed_kind is kind]
            names = kind in {MessageType.KEYS, MessageType.PREFIX}
            for batch in batches(keys) if keys else []:
                frame = self._frame(kind, tuple(batch) if names else ())
                await self._bus.publish(frame)
                with self._lock:
                    for key in batch:
                        if self._owed.get((kind, key)) == owed[kind, key]:
                            del self._owed[kind, key]  # not owed anew meanwhile


class Owing(Guard):
    """See ``Outbox.owing``."""

    __slots__ = ("_message", "_outbox")

    def __init__(self, outbox: Outbox, message: bytes) -> None:
        super().__init__()
        self._outbox = outbox
        self._message = message

    def _give_back(self, error: BaseException | None) -> None:
        if error is not None:
            self._outbox.keep(self._message)
        if not isinstance(error, L2Error):  # else later: the bus is away
            self._outbox.go_on()


class Sender:
    """See ``cachebridge.l2.two_steps.Outbox``: one side's way to the bus."""

    def __init__(self, outbox: Outbox, bus: L2Store) -> None:
        self._outbox = outbox
        self._bus = bus

    async def send(self, message: bytes) -> None:
        """Publish now, or later if that fails."""
        with suppress(L2Error), (owing := self._outbox.owing(message)), owing:
            await self._bus.publish(message)

    def doubt(self, message: bytes) -> None:
        """Publish in the background: the change may be carried out, also later."""
        self._outbox.doubt(message)
