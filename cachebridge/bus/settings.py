"""What a listener is given: names, numbers, and what it needs of other rooms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.connection import Connection

ELSEWHERE: Final = "the address leads to another server now"


@dataclass(frozen=True, slots=True)
class Channels:
    """Names in Redis, one set per database; pub/sub itself ignores the database."""

    shared: str
    private: str
    """Begins the names of the channels that this process alone hears."""
    server_id_key: str
    switch_key: str
    mark_key: str
    """Written by each heartbeat of this process."""


HOME: Final = b"home"
"""The hash tag of the keys that a cluster has once for all its masters."""


def channels_of(db: int, origin: bytes, tag: bytes = b"") -> Channels:
    """Name the channels and keys of a database for one process.

    ``tag`` is the hash tag of the keys, at a master of a cluster.
    """
    shared = f"cachebridge:{db}"
    end = f"{{{tag.decode()}}}" if tag else ""
    return Channels(
        shared=shared,
        private=f"{shared}:{origin.hex()}",
        server_id_key=f"cachebridge:server-id{end}",
        switch_key=f"cachebridge:l1{end}",
        mark_key=f"cachebridge:mark:{origin.hex()}{end}",
    )


class CommandLink(Protocol):
    """A connection that commands use, and a heartbeat in between."""

    def exchange(self, packed: bytes, count: int) -> list[Any]:
        """Send a request and return its ``count`` replies; errors are among them."""

    def send(self, packed: bytes) -> None:
        """Send a request whose replies ``receive`` will take, later."""

    def receive(self, count: int) -> list[Any]:
        """Return the ``count`` replies to what was sent."""

    def close(self) -> None:
        """Close the connection."""


class Era(Protocol):
    """How long a session proves new connections."""

    meets: Callable[[Any], bool] | None


class Commands(Protocol):
    """The connections that commands use, as a session needs them."""

    def open_unproven(self) -> Any:
        """Open a connection, whatever server it leads to."""

    def begin_era(self, meets: Callable[[Any], bool], proven: Any) -> Era:
        """Use no earlier link again but ``proven``, and each later one if it meets."""

    def open(self) -> Any:
        """Open a connection, and let the session prove it."""

    def take_oldest(self) -> Any:
        """Return the idle link that was unused for the longest time, or None."""

    def keep(self, link: Any) -> None:
        """Give a link back."""


class Receiver(Protocol):
    """Handles messages and changes of the bus, in the bus's thread.  Must not raise."""

    def on_subscribed(self) -> None:
        """Every subscription is acknowledged: messages arrive from now on."""

    def on_break(self, reason: str) -> None:
        """Messages may be lost from now on, until the next ``on_subscribed``."""

    def on_frame(self, frame: bytes) -> bool:
        """Handle a message; return whether it came from this very process."""

    def on_ask(self, frame: bytes) -> None:
        """Take what another process asks; the answer is given elsewhere, later."""

    def pause(self, seconds: float) -> None:
        """Handle nothing for so long, unless a caller waits for an echo."""

    def on_server_known(self, server_id: bytes) -> None:
        """The server whose messages arrive calls itself so."""

    def on_server_changed(self) -> None:
        """The server has lost its data: a restart, a FLUSHALL, a failover."""

    def waits_for_beat(self) -> bool:
        """Return whether a caller waits for the next heartbeat."""

    def l1_is_on(self) -> bool:
        """Return whether the switch is on by its key, or by a caller of the process."""

    def on_heartbeat(self, sent_at: float, *, l1_on: bool | None) -> None:
        """All messages sent before ``sent_at`` (own clock) have been handled.

        ``l1_on`` is the switch that the fleet shares, None where none is shared, or the
        server has none: it may have evicted it, and so says nothing.
        """


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """Parts and numbers of a listener; times are seconds."""

    make_connection: Callable[[], Connection]
    """Makes the connection of the subscription."""
    commands: Commands
    channels: Channels
    receiver: Receiver
    test_message: bytes
    """A harmless message, sent once to the shared channel to test the right to it."""
    on_run: Callable[[str], None] | None
    """Told, before ``on_subscribed``, which run of the server is subscribed at: its id,
    or an empty text if the server does not say.  None if no caller wants to know."""
    is_asked: bool
    """Whether this session hears what other processes ask (``bus/asks.py``)."""
    leave: Callable[[str], None]
    """Ends trust and every idle connection: this server is not the right one."""
    hears_itself: bool
    """Whether the subscription is at the server of ``commands``, not at a replica."""
    heartbeat_s: float
    trust_s: float
    clock: Callable[[], float]
    jitter: Callable[[float, float], float]
    """Draws a number between two, as ``random.uniform`` does."""
