"""The messages of one engine: what it tells the others, encoded and counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cachebridge.bus.session import channels_of
from cachebridge.codec.messages import Message, MessageType, encode_message
from cachebridge.core.direct import Direct
from cachebridge.core.keys import fits_message
from cachebridge.engine.receiver import wall_clock_us
from cachebridge.errors import UnsupportedOperationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cachebridge.core.coherence import Coherence
    from cachebridge.core.write import Write
    from cachebridge.engine.stores import Stores
    from cachebridge.stats import Counters


class Messages:
    """Base of ``Engine``, whose state it works with."""

    rules: Coherence
    counters: Counters
    stores: Stores
    has_bus: bool

    def message_of(self, write: Write | Direct, keys: Sequence[str]) -> bytes | None:
        """Encode the message that names what a write changes; None if nobody cares."""
        if isinstance(write, Direct) or not self.has_bus:
            return None
        self.counters.messages_sent += 1
        return encode_message(
            Message(
                MessageType.KEYS, write.origin, write.id, wall_clock_us(), tuple(keys)
            )
        )

    def has_messages(self) -> bool:
        """Tell whether messages of other processes arrive at this moment."""
        return self.rules.connected and self.has_bus

    def new_token(self) -> bytes:
        """Return a name for one load that no other load anywhere has."""
        return b"%b:%d" % (self.rules.origin, self.rules.next_write_id())

    def news_of(self, key: str) -> bytes | None:
        """Encode a message that wakes whoever waits for a load of the key."""
        if not self.has_bus or not fits_message(key):
            return None
        self.counters.messages_sent += 1
        return self._frame(MessageType.KEYS, keys=(key,))

    def retract_message(self, write: Write | Direct) -> None:
        """Uncount the message of a write that changed nothing and so told nobody."""
        if not isinstance(write, Direct) and self.has_bus:
            self.counters.messages_sent -= 1

    def prefix_message(self, prefix: str) -> bytes:
        """Encode the message that all keys which begin with ``prefix`` have changed."""
        self.counters.messages_sent += self.stores.publishes
        return self._frame(MessageType.PREFIX, keys=(prefix,))

    def clear_message(self) -> bytes:
        """Encode the message that every key has changed."""
        self.counters.messages_sent += self.stores.publishes
        return self._frame(MessageType.CLEAR)

    def switched_off(self) -> tuple[list[tuple[str, bytes]], None, bytes]:
        """Return what to store in L2, and its message, for L1 to be off everywhere."""
        key = channels_of(self.stores.bus_db, b"").switch_key
        self.counters.messages_sent += 1
        return [(key, b"off")], None, self._frame(MessageType.SWITCH, on=False)

    def switch_l1(self, *, on: bool) -> None:
        """Turn L1 on or off in every process; the key keeps it for those to come."""
        switchboard = self.stores.switchboard
        if switchboard is None:
            raise UnsupportedOperationError(
                "without a bus the other processes cannot be told: set BUS_LOCATION."
            )
        if on:
            key = channels_of(self.stores.bus_db, b"").switch_key
            self.counters.messages_sent += 1
            switchboard.delete([key], self._frame(MessageType.SWITCH, on=on))
        else:
            switchboard.store(*self.switched_off())
        self.rules.switch(on=on)

    def _frame(
        self,
        kind: MessageType,
        *,
        keys: tuple[str, ...] = (),
        on: bool = False,
        write_id: int = 0,
    ) -> bytes:
        origin = self.rules.origin
        return encode_message(
            Message(kind, origin, write_id, wall_clock_us(), keys, on)
        )
