"""What a bus expects of the engine that listens to it."""

from __future__ import annotations

from typing import Protocol


class Receiver(Protocol):
    """Handles what the bus brings, in the bus's thread.  Must not raise."""

    def on_subscribed(self) -> None:
        """Every subscription is acknowledged: messages arrive from now on."""

    def on_break(self, reason: str) -> None:
        """Messages may be lost from now on, until the next ``on_subscribed``."""

    def on_frame(self, frame: bytes) -> bool:
        """A message has arrived; tell whether it came from this very process."""

    def on_server_changed(self) -> None:
        """The server has lost its data: a restart, a FLUSHALL, a failover."""

    def on_heartbeat(self, sent_at: float, *, l1_on: bool | None) -> None:
        """All messages sent before ``sent_at`` (own clock) have been handled.

        ``l1_on`` is the switch that the fleet shares, None where none is shared.
        """
