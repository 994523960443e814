"""The bus inside of one process: messages are handled before the write returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.bus.settings import Receiver


class LocalBus:
    """Hands every frame straight to the receiver; never breaks.

    For ``memory://``; and with a list that no writer publishes to, as for
    ``BUS="none"``, L1 is bounded by its TTL alone.
    """

    def __init__(
        self, subscribers: list[Callable[[bytes], object]], receiver: Receiver
    ) -> None:
        self._subscribers = subscribers
        self._receiver = receiver

    def start(self) -> None:
        """Subscribe; L1 may be trusted for as long as this process lives."""
        self._subscribers.append(self._receiver.on_frame)
        self._receiver.on_subscribed()
        self._receiver.on_heartbeat(float("inf"), l1_on=None)

    def stop(self) -> None:
        """Unsubscribe."""
        if self._receiver.on_frame in self._subscribers:
            self._subscribers.remove(self._receiver.on_frame)
        self._receiver.on_break("stopped")

    def renew(self) -> None:
        """Do nothing: there is no connection."""

    def break_off(self, reason: str) -> None:
        """Do nothing: there is no server that could be the wrong one."""

    def join(self, timeout_s: float) -> None:
        """Return at once: there is no thread."""

    def is_alive(self) -> bool:
        """Return whether messages arrive."""
        return self._receiver.on_frame in self._subscribers
