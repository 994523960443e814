"""A fault proxy in front of a node's cluster bus, which tells its senders apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cachebridge.testing.flows import Faults, Flow, Link
from cachebridge.testing.ports import LOOPBACK
from cachebridge.testing.proxy import FaultProxy

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

__all__ = ["BusProxy"]

# Each node connects to each other one. What it sends begins with a header, the same in
# all versions of the protocol, that has its id here.
_ID: Final = slice(40, 80)


class BusProxy(FaultProxy):
    """A proxy whose port a node announces as that of its bus.

    The node's own messages go through the proxies of the others.
    """

    def __init__(self) -> None:
        """Made before the node, which must know the port; lead_to() it."""
        self._shut_out: set[bytes] = set()
        super().__init__(LOOPBACK, 0)

    def shut_out(self, sender: str) -> None:
        """Close the connections of the node with this id at once, and all to come."""
        self._call(self._ban(sender.encode("ascii")))

    async def _ban(self, sender: bytes) -> None:
        self._shut_out.add(sender)
        for link in self._links.values():
            if isinstance(link, _BusLink) and link.sender == sender:
                link.abort()

    async def _restore(self) -> None:
        self._shut_out.clear()
        await super()._restore()

    def _make_link(self, client: socket.socket) -> Link:
        return _BusLink(self._faults, client, self._shut_out.__contains__)


class _BusLink(Link):
    """The connection of another node, closed as soon as it proves to be shut out."""

    def __init__(
        self,
        faults: Faults,
        client: socket.socket,
        is_shut_out: Callable[[bytes], bool],
    ) -> None:
        super().__init__(faults, client)
        self.sender = b""
        self._is_shut_out = is_shut_out
        self.requests = _Headed(faults, self._end_requests, self._admit)

    def _admit(self, header: bytes) -> bool:
        self.sender = header[_ID]
        if is_out := self._is_shut_out(self.sender):
            self.abort()
        return not is_out


class _Headed(Flow):
    """A flow whose first bytes are kept back until they say whether it may go on."""

    def __init__(
        self,
        faults: Faults,
        on_end: Callable[[], None],
        admit: Callable[[bytes], bool],
    ) -> None:
        super().__init__(faults, on_end)
        self._header: bytes | None = b""
        self._admit = admit

    def feed(self, piece: bytes | None) -> None:
        """Take a piece from the source."""
        if self._header is not None and piece is not None:
            self._header += piece
            if len(self._header) < _ID.stop or not self._admit(self._header):
                return
            piece, self._header = self._header, None
        super().feed(piece)
