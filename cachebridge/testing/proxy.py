"""A TCP proxy that misbehaves on request, between a client and a real server.

Knows nothing of the protocol it carries: it only delays, keeps or drops bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TypeVar

from cachebridge.testing.flows import Faults, Link
from cachebridge.testing.ports import LOOPBACK, free_port

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["FaultProxy"]

_CALL_TIMEOUT_S: Final = 10.0
_LATE_TIMEOUT_S: Final = 5.0
_BIND_ATTEMPTS: Final = 20
_FAULTS: Final = (
    "cut",
    "delay",
    "half_close",
    "hold_requests",
    "refuse",
    "release_held",
    "silence",
    "truncate",
)

T = TypeVar("T")


class FaultProxy:
    """A proxy on a free loopback port, passing bytes through until told otherwise.

    Every method has taken effect when it returns and may be called from any thread.
    Faults add up until restore(). As a context manager it stops at the end.
    """

    def __init__(self, upstream_host: str, upstream_port: int) -> None:
        self._upstream = (upstream_host, upstream_port)
        self._loop = asyncio.new_event_loop()
        self._faults = Faults(now=self._loop.time)
        self._links: dict[asyncio.Task[None], Link] = {}
        self._listener: socket.socket | None = None
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="cachebridge-fault-proxy", daemon=True
        )
        self._thread.start()
        try:
            self._port = self._call(self._listen_anywhere())
        except BaseException:
            self._end_loop()
            raise

    host: ClassVar = LOOPBACK
    """The loopback address clients connect to."""

    @property
    def port(self) -> int:
        """The TCP port clients connect to; always the same."""
        return self._port

    @property
    def url(self) -> str:
        """The address of database 0 of the server, by way of the proxy."""
        return f"redis://{self.host}:{self.port}/0"

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._links)

    @property
    def fired(self) -> dict[str, int]:
        """How often each fault met live traffic.

        delay, silence and hold_requests count the pieces of data they touched; cut,
        half_close, truncate and release_held count connections; refuse counts its
        calls, since it is the kernel that turns the clients away.
        """
        return {fault: self._faults.fired[fault] for fault in _FAULTS}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def lead_to(self, upstream_host: str, upstream_port: int) -> None:
        """Lead new connections to another server; open ones stay where they are.

        So behaves an address that was moved: a name, a virtual IP, a service.
        """
        self._call(self._lead_to(upstream_host, upstream_port))

    def delay(self, seconds: float) -> None:
        """Deliver all that arrives from now on so much later, both ways, in order."""
        self._call(self._delay(seconds))

    def cut(self) -> None:
        """Close all current connections at once; what was on the way is lost."""
        self._call(self._cut())

    def silence(self) -> None:
        """Forward nothing on any connection, old or new, without closing one.

        New connections are accepted. As when a network partition heals, restore()
        delivers what was sent meanwhile, even for a client that has gone by then.
        """
        self._call(self._silence())

    def half_close(self) -> None:
        """End the replies of current connections; their requests still get through."""
        self._call(self._half_close())

    def truncate(self, n_bytes: int) -> None:
        """Forward so many more bytes of replies on each current connection, then cut.

        Connections made later are not affected.
        """
        self._call(self._truncate(n_bytes))

    def refuse(self) -> None:
        """Turn new connections away, as a dead port does; open ones go on."""
        self._call(self._refuse())

    def hold_requests(self) -> None:
        """Keep back what clients send on current connections.

        New connections pass through. The held bytes reach the server with
        release_held(), even if the client has timed out and closed by then: this is
        how a write that failed is carried out late.
        """
        self._call(self._hold_requests())

    def release_held(self) -> int:
        """Deliver what hold_requests() kept; return on how many connections.

        Where the client has closed, returns only after the server has carried out what
        it was sent.
        """
        return self._call(self._release_held())

    def restore(self) -> None:
        """Pass everything through again, held and delayed bytes at once."""
        self._call(self._restore())

    def stop(self) -> None:
        """Close the port and all connections. Stopping twice is fine."""
        if self._loop.is_closed():
            return
        self._call(self._close())
        self._end_loop()

    def _call(self, action: Coroutine[Any, Any, T]) -> T:
        """Carry out an action on the event loop, where all state lives."""
        if self._loop.is_closed():
            action.close()
            raise RuntimeError("the proxy has been stopped")
        future = asyncio.run_coroutine_threadsafe(action, self._loop)
        return future.result(_CALL_TIMEOUT_S)

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self, port: int) -> None:
        # Not asyncio's server: closing that while it accepts a client leaks the socket.
        listener = socket.create_server((LOOPBACK, port))
        listener.setblocking(False)
        self._loop.add_reader(listener, self._accept, listener)
        self._listener = listener

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        """Make links for all clients that wait to be accepted."""
        with contextlib.suppress(BlockingIOError):
            while True:
                # A client that has gone again meanwhile is passed over.
                with contextlib.suppress(ConnectionError):
                    client, _ = listener.accept()
                    client.setblocking(False)
                    link = self._make_link(client)
                    task = self._loop.create_task(link.run(*self._upstream))
                    self._links[task] = link
                    task.add_done_callback(self._forget)

    def _make_link(self, client: socket.socket) -> Link:
        return Link(self._faults, client)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._links.pop(task).abort()

    def _current(self) -> dict[asyncio.Task[None], Link]:
        """Return the links, those of clients just connecting included."""
        if self._listener is not None:
            self._accept(self._listener)
        return self._links

    async def _listen_anywhere(self) -> int:
        for _ in range(_BIND_ATTEMPTS - 1):
            port = free_port()
            try:
                await self._listen(port)
            except OSError:
                continue  # another thread was quicker
            return port
        raise OSError("found no port to listen on")

    async def _lead_to(self, host: str, port: int) -> None:
        self._current()  # earlier connections stay with the old server
        self._upstream = (host, port)

    async def _delay(self, seconds: float) -> None:
        self._faults.delay_s = seconds

    async def _silence(self) -> None:
        self._faults.is_silent = True

    async def _cut(self) -> None:
        self._faults.fired["cut"] += len(self._current())
        await self._end_links()

    async def _half_close(self) -> None:
        self._faults.fired["half_close"] += len(self._current())
        for link in self._links.values():
            link.replies.mute()

    async def _truncate(self, n_bytes: int) -> None:
        for link in self._current().values():
            link.replies.budget = n_bytes

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._faults.fired["refuse"] += 1
            self._stop_listening()

    async def _hold_requests(self) -> None:
        for link in self._current().values():
            link.requests.is_held = True

    async def _release_held(self) -> int:
        released = 0
        orphans = []
        for task, link in self._links.items():
            flow = link.requests
            if not flow.is_held:
                continue
            flow.is_held = False
            if flow.has_bytes:
                released += 1
                if flow.has_ended:
                    orphans.append(task)
            flow.pump()
        self._faults.fired["release_held"] += released
        if orphans and not self._faults.is_silent:
            await asyncio.wait(orphans, timeout=_LATE_TIMEOUT_S)
        return released

    async def _restore(self) -> None:
        self._faults.delay_s = 0.0
        self._faults.is_silent = False
        for link in self._links.values():
            link.replies.budget = None
            link.replies.hasten()
            link.requests.hasten()
        await self._release_held()
        if self._listener is None:
            await self._listen(self._port)

    async def _end_links(self) -> None:
        tasks = tuple(self._links)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the transports close their sockets one turn later

    async def _close(self) -> None:
        self._stop_listening()
        await self._end_links()
