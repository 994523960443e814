"""The bus over Redis pub/sub: one supervised listener thread per engine.

It reads a raw connection, because redis-py's PubSub subscribes again by itself inside
``get_message`` and so hides the gap in which messages were lost.

The heartbeat goes out on a command connection to a private channel of this process and
comes back through the very subscription that carries the invalidations.  The server's
output buffer is first in, first out, so the echo proves that every message for a write
before the sending has been handled.  It needs no trust in threads: a starved listener,
a half-open connection or a subscriber left on a demoted server just lets trust run out.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.connection import Connection

    from cachebridge.bus.base import Receiver

_log = logging.getLogger("cachebridge.bus")

BACKOFF_MIN_S: Final = 0.02
BACKOFF_MAX_S: Final = 2.0
NONCE_BYTES: Final = 16
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


class Listener:
    """Keeps the subscription and the trust that follows from it.

    ``start`` and ``stop`` may be called from any thread; everything else happens in the
    listener's own daemon thread, which the interpreter does not wait for at exit.
    """

    def __init__(
        self,
        make_connection: Callable[[], Connection],
        channels: Channels,
        receiver: Receiver,
        *,
        probe: bytes,
        heartbeat_s: float,
        trust_s: float,
        clock: Callable[[], float],
        jitter: Callable[[float, float], float],
    ) -> None:
        self._make_connection = make_connection
        self._channels = channels
        self._receiver = receiver
        self._probe = probe
        self._heartbeat_s = heartbeat_s
        self._trust_s = trust_s
        self._clock = clock
        self._jitter = jitter
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._bus: Connection | None = None
        self._problem = ""

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(
            target=self._run, name="cachebridge-listener", daemon=True
        )
        self._thread.start()

    def is_alive(self) -> bool:
        """Tell whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Make the thread end soon; do not wait for it."""
        self._stopping.set()
        bus = self._bus
        sock = bus and bus._sock  # noqa: SLF001 wake the thread out of its read
        if sock:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def join(self, timeout_s: float) -> None:
        """Wait for the thread's end for at most ``timeout_s``."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    # -- the thread ------------------------------------------------------------------

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            session = _Session(self)
            try:
                session.serve()
            except Exception as exc:  # noqa: BLE001 the supervisor: nothing may end it
                self._report(exc)
            finally:
                session.close()
            failures = 1 if session.was_up else failures + 1
            longest = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** min(failures - 1, 10))
            self._stopping.wait(self._jitter(longest / 2, longest))

    def _report(self, exc: Exception) -> None:
        """Tell the receiver about a break, and the log about each new problem."""
        reason = f"{type(exc).__name__}: {exc}"
        self._receiver.on_break(reason)
        if self._stopping.is_set() or reason == self._problem:
            return
        self._problem = reason
        level = logging.ERROR if isinstance(exc, ResponseError) else logging.WARNING
        _log.log(
            level, "no invalidation messages on %s: %s", self._channels.shared, reason
        )

    def _restored(self) -> None:
        if self._problem:
            self._problem = ""
            _log.warning("invalidation messages on %s again", self._channels.shared)


class _Session:
    """One life of the two connections, from subscribing to the first error."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._channels = listener._channels
        self._receiver = listener._receiver
        self._clock = listener._clock
        self._bus = listener._make_connection()
        self._commands = listener._make_connection()
        self._server_id: bytes | None = None
        self._nonce = b""
        self._sent_at = 0.0
        self._next_beat = 0.0
        self._shared = self._channels.shared.encode()
        self._private = self._channels.private.encode()
        self.was_up = False

    def serve(self) -> None:
        """Subscribe, then handle messages and heartbeats until something breaks."""
        listener, bus = self._listener, self._bus
        bus.connect()
        listener._bus = bus
        self._commands.connect()
        self._subscribe()
        self._receiver.on_subscribed()
        self.was_up = True
        self._send_heartbeat(probe=True)
        while not listener._stopping.is_set():
            wait_s = max(0.0, self._next_beat - self._clock())
            if bus.can_read(timeout=wait_s):
                self._handle(bus.read_response())
            if self._clock() >= self._next_beat:
                self._beat()

    def close(self) -> None:
        """Close both connections."""
        self._listener._bus = None
        for connection in (self._bus, self._commands):
            with contextlib.suppress(Exception):
                connection.disconnect()

    def _subscribe(self) -> None:
        """Subscribe and wait for every acknowledgement; a refusal raises."""
        self._bus.send_command("SUBSCRIBE", self._shared, self._private)
        for _ in range(2):
            kind = self._bus.read_response()[0]
            if kind != b"subscribe":
                raise RedisConnectionError(f"SUBSCRIBE was answered with {kind!r}")

    def _handle(self, reply: Any) -> None:
        kind, channel, payload = reply
        if kind != b"message":
            raise RedisConnectionError(f"unexpected {kind!r} on the subscription")
        if channel == self._shared:
            self._receiver.on_frame(payload)
        elif payload == self._nonce:
            self._echoed()

    def _beat(self) -> None:
        """Send the next heartbeat, unless the last is still under way."""
        now = self._clock()
        if not self._nonce:
            self._send_heartbeat()
        elif now - self._sent_at > self._listener._trust_s:
            raise RedisConnectionError("the heartbeat did not come back")
        else:
            self._schedule(now)

    def _schedule(self, now: float) -> None:
        beat_s = self._listener._heartbeat_s
        self._next_beat = now + self._listener._jitter(0.8 * beat_s, 1.2 * beat_s)

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
            words.insert(0, ("PUBLISH", channels.shared, self._listener._probe))
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
        self._receiver.on_heartbeat(self._sent_at, l1_on=switch != L1_OFF)
        self._listener._restored()

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
