"""The bus of ``memory://``: messages are handled before the write returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.bus.base import Receiver


class LocalBus:
    """Hands every frame straight to the receiver; never breaks."""

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

    def is_alive(self) -> bool:
        """Tell whether messages arrive."""
        return self._receiver.on_frame in self._subscribers


class NoBus:
    """``BUS="none"``: L1 is bounded by its TTL alone."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._started = False

    def start(self) -> None:
        """Let L1 be used without any message."""
        self._started = True
        self._receiver.on_subscribed()
        self._receiver.on_heartbeat(float("inf"), l1_on=None)

    def stop(self) -> None:
        """Let L1 rest."""
        self._started = False
        self._receiver.on_break("stopped")

    def is_alive(self) -> bool:
        """Tell whether L1 was put to use."""
        return self._started
