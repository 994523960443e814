"""The messages that one engine publishes: encoded and counted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cachebridge.codec.messages import Message, MessageType, encode_message
from cachebridge.core.direct import Direct
from cachebridge.core.fence import NO_NUMBER
from cachebridge.core.keys import fits_message

if TYPE_CHECKING:
    from cachebridge.core.coherence import Coherence
    from cachebridge.core.write import Write
    from cachebridge.stats import Counters


def wall_clock_us() -> int:
    """Microseconds of the wall clock: the only one that two processes share."""
    return time.time_ns() // 1000


class OutgoingMessages:
    """Makes the messages of one engine.  Thread safe."""

    def __init__(
        self,
        rules: Coherence,
        counters: Counters,
        *,
        has_bus: bool,
        publishes: bool,
        switch_key: str,
    ) -> None:
        """``has_bus``: peers listen.  ``publishes``: a message goes anywhere at all.

        ``switch_key`` names the key of L2 that says whether L1 is on in the fleet.
        """
        self._rules = rules
        self._counters = counters
        self._has_bus = has_bus
        self._publishes = publishes
        self.switch_key = switch_key

    def message_of(self, write: Write | Direct) -> bytes | None:
        """Encode the message that names what a write changes; None if no peer cares."""
        if isinstance(write, Direct) or not self._has_bus:
            return None
        self._counters.messages_sent += 1
        return encode_message(
            Message(
                MessageType.KEYS,
                write.origin,
                write.id,
                wall_clock_us(),
                tuple(write.keys),
            )
        )

    def number_of_add(self, write: Write | Direct) -> int:
        """Return the number whose echo ends the fence of an ``add``.

        An ``add`` of a key that no L1 holds publishes nothing: ``loop_back`` will do.
        """
        if not self._has_bus:
            return NO_NUMBER
        return self._rules.next_write_id() if isinstance(write, Direct) else write.id

    def loop_back(self, number: int) -> bytes:
        """Encode a message of no keys, for the sake of its echo."""
        self._counters.messages_sent += 1
        return self.frame(MessageType.KEYS, write_id=number)

    def retract(self, write: Write | Direct) -> None:
        """Uncount the message of a write that changed nothing and was not published."""
        if not isinstance(write, Direct) and self._has_bus:
            self._counters.messages_sent -= 1

    def arrive(self) -> bool:
        """Return whether messages of other processes arrive at this moment."""
        return self._rules.connected and self._has_bus

    def new_token(self) -> bytes:
        """Return a name for one load that no other load anywhere has."""
        return b"%b:%d" % (self._rules.origin, self._rules.next_write_id())

    def load_ended(self, key: str) -> bytes | None:
        """Encode a message that wakes the callers that wait for a load of the key."""
        if not self._has_bus or not fits_message(key):
            return None
        self._counters.messages_sent += 1
        return self.frame(MessageType.KEYS, (key,))

    def of_count(self, key: str) -> bytes | None:
        """Encode the message that a counter has changed; None if no peer cares.

        The caller counts it: it is published with a change only.
        """
        return self.late(MessageType.KEYS, (key,)) if self._has_bus else None

    def prefix_message(self, prefix: str) -> bytes:
        """Encode the message that all keys which begin with ``prefix`` have changed."""
        self._counters.messages_sent += self._publishes
        return self.frame(MessageType.PREFIX, (prefix,))

    def clear_message(self) -> bytes:
        """Encode the message that every key has changed."""
        self._counters.messages_sent += self._publishes
        return self.frame(MessageType.CLEAR)

    def switched(self, *, on: bool) -> tuple[str, bytes, bytes]:
        """Return the key, the word and the message that turn L1 on or off everywhere.

        "on" is a word of its own: a key that is not there says nothing.
        """
        self._counters.messages_sent += 1
        word = b"on" if on else b"off"
        return self.switch_key, word, self.frame(MessageType.SWITCH, on=on)

    def late(self, kind: MessageType, keys: tuple[str, ...]) -> bytes:
        """Encode a message about earlier changes, by no peer taken for an echo."""
        return self.frame(kind, keys, write_id=self._rules.next_write_id())

    def frame(
        self,
        kind: MessageType,
        keys: tuple[str, ...] = (),
        *,
        on: bool = False,
        write_id: int = 0,
    ) -> bytes:
        """Encode a message of this engine."""
        origin = self._rules.origin
        return encode_message(
            Message(kind, origin, write_id, wall_clock_us(), keys, on)
        )
