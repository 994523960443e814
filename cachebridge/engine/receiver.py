"""From bus frames to coherence rules: no frame can do more than empty L1."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final, assert_never

from cachebridge.codec.messages import (
    MalformedMessageError,
    Message,
    MessageType,
    UnknownVersionError,
    decode_message,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cachebridge.core.coherence import Coherence
    from cachebridge.stats import Counters

_log = logging.getLogger("cachebridge.bus")

UNKNOWN_FLUSH_INTERVAL_S: Final = 1.0
SWEEP_PER_HEARTBEAT: Final = 1024


def wall_clock_us() -> int:
    """Microseconds of the wall clock: the only one that two processes share."""
    return time.time_ns() // 1000


class Receiver:
    """Applies what the bus brings; called by the bus's thread only."""

    def __init__(
        self,
        rules: Coherence,
        counters: Counters,
        *,
        trust_s: float,
        on_alive: Callable[[], None],
        on_proof: Callable[[], None],
        on_news: Callable[[Sequence[str]], None],
    ) -> None:
        self._on_alive = on_alive
        self._on_proof = on_proof
        self._on_news = on_news
        self._rules = rules
        self._counters = counters
        self._trust_s = trust_s
        self._unknown_flush_at = float("-inf")
        self._switched_at = float("-inf")
        self._flush_owed = False
        self._distrusted = False
        self.problem = ""

    def on_subscribed(self) -> None:
        """Begin with an empty L1; trust comes with the first heartbeat."""
        self.problem = ""
        self._rules.on_subscribed()

    def on_break(self, reason: str) -> None:
        """End trust at once."""
        self.problem = reason
        self._rules.on_break()

    def on_server_changed(self) -> None:
        """The server lost its data, and perhaps messages with it."""
        self._rules.flush("server")

    def on_heartbeat(self, sent_at: float, *, l1_on: bool | None) -> None:
        """Extend trust, follow the fleet's switch, let expired entries go."""
        self._on_alive()  # before L1 is trusted again: an outage may have filled it
        if l1_on is not None and sent_at >= self._switched_at:
            self._rules.switch(on=l1_on)
        if not self._distrusted and self._pay_flush():
            self._rules.extend_trust(sent_at + self._trust_s)
        self._rules.sweep(SWEEP_PER_HEARTBEAT)
        self._on_proof()

    def on_frame(self, frame: bytes) -> bool:
        """Apply one message; whatever is not understood empties L1.

        Returns whether it is the echo of an own write.
        """
        self._counters.messages_received += 1
        try:
            message = decode_message(frame)
        except UnknownVersionError as exc:
            self._distrust(exc)
        except MalformedMessageError as exc:
            self._counters.messages_malformed += 1
            _log.warning("a malformed message emptied L1: %s", exc)
            self._rules.flush("malformed")
        else:
            self._distrusted = False
            self._apply(message)
            return message.origin == self._rules.origin
        return False

    def _apply(self, message: Message) -> None:
        kind = message.type
        if kind is MessageType.KEYS:
            self._rules.on_keys(message.origin, message.write_id, message.keys)
            self._on_news(message.keys)
            if message.origin != self._rules.origin:
                self._counters.delayed((wall_clock_us() - message.sent_us) / 1e6)
        elif kind is MessageType.CLEAR:
            self._rules.flush("clear")
        elif kind is MessageType.PREFIX:
            for prefix in message.keys:
                self._rules.on_prefix(prefix)
        elif kind is MessageType.SWITCH:
            # A heartbeat sent before may have read the switch before it was thrown.
            self._switched_at = self._rules.clock()
            self._rules.switch(on=message.on)
        elif kind is not MessageType.HEARTBEAT:
            assert_never(kind)

    def _distrust(self, exc: UnknownVersionError) -> None:
        """A newer version writes to this bus: L1 rests until a known message comes."""
        if not self._distrusted:
            _log.warning("L1 rests: message of an unknown %s", exc)
        self._distrusted = True
        self._rules.end_trust()
        self._flush_owed = True
        self._pay_flush()

    def _pay_flush(self) -> bool:
        """Empty L1 of what unknown messages may be about; tell whether that is done.

        At most once per second, so that a rolling upgrade is no flush storm; until then
        trust does not return.
        """
        now = self._rules.clock()
        if (
            self._flush_owed
            and now - self._unknown_flush_at >= UNKNOWN_FLUSH_INTERVAL_S
        ):
            self._unknown_flush_at = now
            self._flush_owed = False
            self._rules.flush("version")
        return not self._flush_owed
