"""Messages to publish beside a store that cannot publish them itself.

What the bus does not take is owed, by key: late, a message may name more than was
changed, never less.  It is published when the bus is back, and at the engine's stop;
until then peers that hear nothing keep old values for ``L1_TTL`` at most.
"""

from __future__ import annotations

import itertools
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from cachebridge.codec.messages import MessageType, batches, decode_message
from cachebridge.errors import L2Error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cachebridge.l2.aredis import AsyncRedisStore
    from cachebridge.l2.redis import RedisStore

MAX_OWED: Final = 10_000
"""If there are more keys, every L1 is emptied instead."""
NAME: Final = "\0outbox"
"""The name under which messages are published in the background."""


class Outbox:
    """See ``cachebridge.l2.memcached.store.Outbox``.  Thread safe."""

    def __init__(
        self,
        bus: RedisStore,
        async_bus: AsyncRedisStore,
        *,
        frame: Callable[[MessageType, tuple[str, ...]], bytes],
        submit: Callable[[str, Callable[[], None]], object],
    ) -> None:
        self._bus = bus
        self._async_bus = async_bus
        self._frame = frame
        self._submit = submit
        self.reset()

    def reset(self) -> None:
        """Begin anew in the child of a fork: the parent publishes what it owes."""
        self._lock = threading.Lock()
        self._owed: dict[tuple[MessageType, str], int] = {}
        self._stamp = itertools.count().__next__

    def __len__(self) -> int:
        return len(self._owed)

    def send(self, message: bytes) -> None:
        """Publish now, or later if that fails."""
        with self._owing(message):
            self._bus.publish(message)

    async def send_async(self, message: bytes) -> None:
        """The same for a task."""
        with self._owing(message):
            await self._async_bus.publish(message)

    @contextmanager
    def _owing(self, message: bytes) -> Iterator[None]:
        """Owe the message if it is not published in the context, whatever ends that."""
        try:
            yield
        except L2Error:
            self._keep(message)
        except BaseException:
            self.owe(message)
            raise
        else:
            self._go_on()

    def owe(self, message: bytes) -> None:
        """Publish behind the caller."""
        self._keep(message)
        self._go_on()

    def _go_on(self) -> None:
        if self._owed:
            self._submit(NAME, self.flush_if_possible)

    def _keep(self, message: bytes) -> None:
        decoded = decode_message(message)
        with self._lock:
            for key in decoded.keys or ("",):
                self._owed[decoded.type, key] = self._stamp()
            if len(self._owed) > MAX_OWED:
                self._owed = {(MessageType.CLEAR, ""): self._stamp()}

    def flush_if_possible(self) -> None:
        """Publish what is owed; what fails stays owed."""
        with suppress(L2Error):
            self._flush()

    def _flush(self) -> None:
        owed = self._owed.copy()
        for kind in MessageType:
            keys = [key for owed_kind, key in owed if owed_kind is kind]
            names = kind in {MessageType.KEYS, MessageType.PREFIX}
            for batch in batches(keys) if keys else []:
                self._bus.publish(self._frame(kind, tuple(batch) if names else ()))
                with self._lock:
                    for key in batch:
                        if self._owed.get((kind, key)) == owed[kind, key]:
                            del self._owed[kind, key]  # not owed anew meanwhile
