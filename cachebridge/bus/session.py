"""One life of a listener's connections, from subscribing to the first error.

The heartbeat goes out on a command connection to a private channel of this process and
comes back through the very subscription that carries the invalidations.  The server's
output buffer is first in, first out, so the echo proves that every message for a write
before the sending has been handled.  It needs no trust in threads: a starved listener,
a half-open connection or a subscriber left on a demoted server just lets trust run out.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError

from cachebridge.bus.subscription import Subscription

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from redis.connection import Connection

    from cachebridge.bus.base import Receiver

NONCE_BYTES: Final = 16
ECHO_PAUSE_S: Final = 0.0005
"""What a message of another process may be late by, in a process that just wrote."""
TICKS_PER_BEAT: Final = 5
"""How often per heartbeat the thread looks at the clock while nothing arrives."""
L1_OFF: Final = b"off"


@dataclass(frozen=True, slots=True)
class Channels:
    """Names in Redis, one set per database; pub/sub itself ignores the database."""

    shared: str
    private: str
    server_id_key: str
    switch_key: str


def channels_of(db: int, origin: bytes) -> Channels:
    """Name the channels and keys of a database for one process."""
    shared = f"cachebridge:{db}"
    return Channels(
        shared=shared,
        private=f"{shared}:{origin.hex()}",
        server_id_key="cachebridge:server-id",
        switch_key="cachebridge:l1",
    )


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """What a listener works with; times are seconds."""

    make_connection: Callable[[], Connection]
    channels: Channels
    receiver: Receiver
    probe: bytes
    """A harmless message, sent once to the shared channel to test the right to it."""
    heartbeat_s: float
    trust_s: float
    clock: Callable[[], float]
    jitter: Callable[[float, float], float]
    """Draws a number between two, as ``random.uniform`` does."""


class Session:
    """One life of the two connections, from subscribing to the first error."""

    def __init__(
        self,
        settings: ListenerSettings,
        stopping: threading.Event,
        *,
        on_proof: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._stopping = stopping
        self._on_proof = on_proof
        self._channels = settings.channels
        self._receiver = settings.receiver
        self._clock = settings.clock
        self._commands = settings.make_connection()
        self._server_id: bytes | None = None
        self._nonce = b""
        self._sent_at = 0.0
        self._next_beat = 0.0
        self._shared = self._channels.shared.encode()
        self._private = self._channels.private.encode()
        self._subscription = Subscription(
            settings.make_connection(), [self._shared, self._private]
        )
        self.was_up = False
        """Whether a heartbeat has come back: all rights are there, the bus works."""

    def serve(self) -> None:
        """Subscribe, then handle messages and heartbeats until something breaks."""
        self._commands.connect()
        # A server that loads its data takes subscriptions, and nothing else yet: L1
        # must not be flushed for it, while it is all that callers have.
        self._commands.send_command("PING", check_health=False)
        self._commands.read_response()
        early = self._subscription.open(self._settings.heartbeat_s / TICKS_PER_BEAT)
        self._receiver.on_subscribed()
        self._send_heartbeat(probe=True)
        for reply in early:
            self._handle(reply)
        while not self._stopping.is_set():
            self._handle_arrived(self._subscription.receive())
            if self._clock() >= self._next_beat:
                self._beat()

    def wake(self) -> None:
        """End the read that the thread waits in, from another thread."""
        self._subscription.wake()

    def close(self) -> None:
        """Close both connections."""
        self._subscription.close()
        with contextlib.suppress(Exception):
            self._commands.disconnect()

    def _handle_arrived(self, replies: list[Any]) -> None:
        """Handle replies, and pause for a moment if all were echoes of own writes.

        Nobody waits for those, and woken for each of them this thread would take the
        interpreter from the writer as often: a pause lets them gather.
        """
        echoes = [self._handle(reply) for reply in replies]
        if echoes and all(echoes):
            time.sleep(ECHO_PAUSE_S)

    def _handle(self, reply: Any) -> bool:
        """Handle one message; tell whether it was the echo of an own write."""
        match reply:
            case [b"message", bytes(channel), bytes(payload)]:
                pass
            case _:
                raise RedisConnectionError(f"unexpected {reply!r:.80} while subscribed")
        if channel == self._shared:
            return self._receiver.on_frame(payload)
        if payload == self._nonce:
            self._echoed()
        return False

    def _beat(self) -> None:
        """Send the next heartbeat, unless the last is still under way."""
        now = self._clock()
        if not self._nonce:
            self._send_heartbeat()
        elif now - self._sent_at > self._settings.trust_s:
            raise RedisConnectionError("the heartbeat did not come back")
        else:
            self._schedule(now)

    def _schedule(self, now: float) -> None:
        beat_s = self._settings.heartbeat_s
        self._next_beat = now + self._settings.jitter(0.8 * beat_s, 1.2 * beat_s)

    def _send_heartbeat(self, *, probe: bool = False) -> None:
        """MGET first: what it finds was so before the echo that vouches for it."""
        channels, connection = self._channels, self._commands
        self._nonce = os.urandom(NONCE_BYTES)
        self._sent_at = self._clock()
        self._schedule(self._sent_at)
        words: list[tuple[str | bytes, ...]] = [
            ("MGET", channels.server_id_key, channels.switch_key),
            ("PUBLISH", channels.private, self._nonce),
        ]
        if probe:
            words.insert(0, ("PUBLISH", channels.shared, self._settings.probe))
        connection.send_packed_command(
            connection.pack_commands(words), check_health=False
        )
        if probe:
            connection.read_response()

    def _echoed(self) -> None:
        """The heartbeat came back: its replies are here too."""
        self._nonce = b""
        server_id, switch = self._commands.read_response()
        self._commands.read_response()
        if server_id is None:
            self._name_server()
            return
        if server_id != self._server_id:
            if self._server_id is not None:
                self._receiver.on_server_changed()
            self._server_id = server_id
        self.was_up = True
        self._receiver.on_heartbeat(self._sent_at, l1_on=switch != L1_OFF)
        self._on_proof()

    def _name_server(self) -> None:
        """The server has no id: it is new or has lost its data.  Give it one."""
        if self._server_id is not None:
            self._receiver.on_server_changed()
            self._server_id = None
        self._commands.send_command(
            "SET", self._channels.server_id_key, os.urandom(8).hex(), "NX"
        )
        self._commands.read_response()
        self._send_heartbeat()
