"""From bus frames to coherence rules: no frame can do more than empty L1."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, assert_never

from cachebridge.codec.messages import (
    MalformedMessageError,
    Message,
    MessageType,
    UnknownVersionError,
    decode_message,
)
from cachebridge.core.notice import Notice
from cachebridge.engine.messages.outgoing import wall_clock_us
from cachebridge.events import event

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cachebridge.core.coherence import Coherence
    from cachebridge.stats import Counters

_log = logging.getLogger("cachebridge.bus")

UNKNOWN_FLUSH_INTERVAL_S: Final = 1.0


class Receiver:
    """Applies what the bus brings; called by the bus's thread, ``on_break`` by any."""

    def __init__(
        self,
        rules: Coherence,
        counters: Counters,
        *,
        trust_s: float,
        on_alive: Callable[[], None],
        on_proof: Callable[[], None],
        on_keys_changed: Callable[[Sequence[str]], None],
        on_server_known: Callable[[bytes], None],
    ) -> None:
        self.on_server_known = on_server_known
        self._on_alive = on_alive
        self._on_proof = on_proof
        self._on_keys_changed = on_keys_changed
        self._rules = rules
        self._counters = counters
        self._trust_s = trust_s
        self._unknown_flush_at = float("-inf")
        self._switched_at = float("-inf")
        self._keeps_off = False
        """Whether the key of the switch last said so, or a caller of this process."""
        self._must_flush = False
        self._distrusted = False
        self._malformed = Notice()
        self._unknown = Notice()
        self.problem = ""
        self.on_ask: Callable[[bytes], None] = lambda _frame: None
        """Takes what other processes ask, in the bus's thread; must not raise."""

    def on_subscribed(self) -> None:
        """Begin with an empty L1; trust comes with the first heartbeat."""
        self.problem = ""
        self._rules.on_subscribed()

    def on_break(self, reason: str) -> None:
        """End trust at once."""
        self.problem = reason
        self._rules.on_break()

    def pause(self, seconds: float) -> None:
        """Wait until a read waits for the end of a fence, at most so many seconds."""
        hurry = self._rules.fences.hurry
        hurry.wait(seconds)
        hurry.clear()

    def on_server_changed(self) -> None:
        """The server lost its data, and perhaps messages with it."""
        self._rules.flush("server")

    def waits_for_beat(self) -> bool:
        """Return whether a fence is up that only heartbeats end.

        While trust is ended none does: the next subscription will.
        """
        rules = self._rules
        waits = bool(rules.fences.up) and rules.connected
        return waits and not rules.echo_proves_all

    def l1_is_on(self) -> bool:
        """Return whether the switch is on by its key, or by a caller of the process.

        A message alone turns L1 off until the next heartbeat: a client may forge one.
        """
        return not self._keeps_off

    def switch(self, *, on: bool) -> None:
        """Turn L1 on or off, as a caller of this process has told the whole fleet."""
        self._switched_at = self._rules.clock()
        self._keeps_off = not on
        self._rules.switch(on=on)

    def on_heartbeat(self, sent_at: float, *, l1_on: bool | None) -> None:
        """Extend trust, and follow the fleet's switch."""
        self._on_alive()  # before L1 is trusted again: an outage may have filled it
        if sent_at >= self._switched_at:
            if l1_on is not None:
                self._keeps_off = not l1_on
            self._rules.switch(on=self.l1_is_on())
        self._rules.on_heartbeat(sent_at)
        if not self._distrusted and self._flush_if_due():
            self._rules.extend_trust(sent_at + self._trust_s)
            if self._rules.sharing is not None:
                self._rules.sharing.on_proof(sent_at)
        self._on_proof()

    def on_frame(self, frame: bytes) -> bool:
        """Apply one message; a message that cannot be understood empties L1.

        Returns whether it is the echo of an own write.
        """
        self._counters.messages_received += 1
        try:
            message = decode_message(frame)
        except UnknownVersionError as exc:
            self._distrust(exc)
        except MalformedMessageError as exc:
            self._counters.messages_malformed += 1
            if self._malformed.begins(self._rules.clock()):
                _log.warning(
                    "malformed messages empty L1; the first: %s",
                    exc,
                    extra=event("message.malformed"),
                )
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
            self._on_keys_changed(message.keys)
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
            if message.on:  # a flush may take the key before a heartbeat reads it
                self._keeps_off = False
            self._rules.switch(on=message.on)
        elif kind is not MessageType.HEARTBEAT:
            assert_never(kind)

    def _distrust(self, exc: UnknownVersionError) -> None:
        """A newer version writes to this bus: L1 rests until a known message comes."""
        self._counters.messages_unknown += 1
        if self._unknown.begins(self._rules.clock()):
            _log.warning(
                "L1 rests after each message of an unknown %s",
                exc,
                extra=event("message.unknown"),
            )
        self._distrusted = True
        self._rules.end_trust()
        self._must_flush = True
        self._flush_if_due()

    def _flush_if_due(self) -> bool:
        """Empty L1 of what unknown messages may be about; return whether that is done.

        At most once per second, so that a rolling upgrade is no flush storm; until then
        trust does not return.
        """
        now = self._rules.clock()
        if (
            self._must_flush
            and now - self._unknown_flush_at >= UNKNOWN_FLUSH_INTERVAL_S
        ):
            self._unknown_flush_at = now
            self._must_flush = False
            self._rules.flush("version")
        return not self._must_flush
