"""What the fault proxy is made of: links, each with a delayed byte flow either way.

Everything here runs on the proxy's event loop. Both sides are read at all times, so
that what a client has sent is kept even when the client goes away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

__all__ = ["Faults", "Flow", "Link"]


@dataclass(slots=True)
class Faults:
    """The faults that hold for all links, and the count of what they met."""

    now: Callable[[], float]
    delay_s: float = 0.0
    is_silent: bool = False
    fired: Counter[str] = field(default_factory=Counter)


class Flow:
    """One direction of a link: pieces in order, each with the time it is due.

    A piece is bytes, or None for the end of the stream; ``on_end`` is called when that
    is due, or when the byte budget is used up.
    """

    def __init__(self, faults: Faults, on_end: Callable[[], None]) -> None:
        self._faults = faults
        self._on_end = on_end
        self._pieces: deque[tuple[float, bytes | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.target: asyncio.Transport | None = None
        self.budget: int | None = None
        self.is_held = False
        self.is_muted = False
        self.has_ended = False

    @property
    def has_bytes(self) -> bool:
        """Whether bytes, and not only the end, wait for delivery."""
        return any(piece is not None for _, piece in self._pieces)

    def feed(self, piece: bytes | None) -> None:
        """Take a piece from the source and deliver what may be delivered."""
        if self.has_ended:
            return
        if piece is None:
            self.has_ended = True
        else:
            self._count_faults()
        self._pieces.append((self._faults.now() + self._faults.delay_s, piece))
        self.pump()

    def pump(self) -> None:
        """Deliver the pieces that are due, and come back when the next one is."""
        self._stop_timer()
        if self.is_muted and self.target is not None:
            _end_stream(self.target)
        while self._pieces and self.target is not None:
            if self.is_held or self._faults.is_silent:
                return
            due, piece = self._pieces[0]
            wait_s = due - self._faults.now()
            if wait_s > 0:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(wait_s, self.pump)
                return
            self._pieces.popleft()
            self._deliver(piece, self.target)

    def mute(self) -> None:
        """End the stream to the target now; take pieces on, but deliver none."""
        self.is_muted = True
        self.pump()

    def hasten(self) -> None:
        """Make everything due now, and deliver it."""
        self._pieces = deque((0.0, piece) for _, piece in self._pieces)
        self.pump()

    def discard(self) -> None:
        """Forget what has not been delivered."""
        self._pieces.clear()
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _deliver(self, piece: bytes | None, target: asyncio.Transport) -> None:
        if piece is None:
            self._on_end()
        elif self.is_muted or target.is_closing():
            return
        elif self.budget is None:
            target.write(piece)
        else:
            target.write(piece[: self.budget])
            self.budget -= len(piece)
            if self.budget <= 0:
                self._faults.fired["truncate"] += 1
                self._on_end()

    def _count_faults(self) -> None:
        if self._faults.delay_s:
            self._faults.fired["delay"] += 1
        if self._faults.is_silent:
            self._faults.fired["silence"] += 1
        if self.is_held:
            self._faults.fired["hold_requests"] += 1


class Link:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(self, faults: Faults, client: socket.socket) -> None:
        self._client = client
        self.requests = Flow(faults, self._end_requests)
        self.replies = Flow(faults, self.close)
        self._transports: list[asyncio.Transport] = []
        self._sides_left = 2
        self._gone = asyncio.Event()

    async def run(self, host: str, port: int) -> None:
        """Connect both sides, and end when both are gone."""
        loop = asyncio.get_running_loop()
        # A server that cannot be reached shows to the client as a closed connection.
        with contextlib.suppress(OSError):
            await loop.connect_accepted_socket(
                lambda: _Side(self, self.requests, self.replies), self._client
            )
            await loop.create_connection(
                lambda: _Side(self, self.replies, self.requests), host, port
            )
            await self._gone.wait()

    def close(self) -> None:
        """Close both sides as soon as what was delivered to them has been sent."""
        self.requests.discard()
        for transport in self._transports:
            transport.close()

    def abort(self) -> None:
        """Close both sides at once; what is on the way is lost."""
        self.requests.discard()
        self.replies.discard()
        for transport in self._transports:
            transport.abort()
        if not self._transports:
            self._client.close()

    def connect(self, transport: asyncio.Transport) -> None:
        """Note that one of the sides is there."""
        self._transports.append(transport)

    def lose(self) -> None:
        """Note that one of the sides is gone; the link ends with the other."""
        self._sides_left -= 1
        if not self._sides_left:
            self._gone.set()

    def _end_requests(self) -> None:
        if self.requests.target is not None:
            _end_stream(self.requests.target)


def _end_stream(target: asyncio.Transport) -> None:
    """Close one direction; closing it twice does nothing."""
    # The peer may have reset the connection, and the news not be here yet.
    with contextlib.suppress(OSError):
        target.write_eof()


class _Side(asyncio.Protocol):
    """One side of a link: the source of one flow and the target of the other."""

    def __init__(self, link: Link, outgoing: Flow, incoming: Flow) -> None:
        self._link = link
        self._outgoing = outgoing
        self._incoming = incoming

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Deliver what the other side may have sent already."""
        self._incoming.target = cast("asyncio.Transport", transport)
        self._link.connect(self._incoming.target)
        self._incoming.pump()

    def data_received(self, data: bytes) -> None:
        """Feed the bytes."""
        self._outgoing.feed(data)

    def eof_received(self) -> bool:
        """Feed the end; keep the connection open for what goes the other way."""
        self._outgoing.feed(None)
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Feed the end, unless it came before; tell the link."""
        self._outgoing.feed(None)
        self._link.lose()
