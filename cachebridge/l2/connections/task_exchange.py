"""One exchange of a task with the server, over the bare socket of a pooled connection.

No connection belongs to an event loop: a loop watches the socket only while a call
runs.  So threads and the tasks of all loops share one pool, and a loop that is closed
leaves nothing behind.
"""

from __future__ import annotations

from contextlib import suppress
from ssl import SSLWantReadError, SSLWantWriteError
from typing import TYPE_CHECKING, Any

from cachebridge.resp import HUNG_UP, READ_BYTES, NotAReplyError
from cachebridge.waiting.signals import running_loop

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

    from cachebridge.l2.connections.link import Link

_NOT_YET = (BlockingIOError, InterruptedError, SSLWantReadError)


async def exchange(link: Link, packed: bytes, count: int) -> list[Any]:
    """Send a request and return its ``count`` replies; errors are among them.

    The socket timeout is for the whole.  After any exception, cancellation included,
    the link is unusable: close it.
    """
    if link.login_due:
        request = link.with_login(packed)
        return link.without_login(await exchange(link, request, count + 1))
    loop = running_loop()
    talk = _Talk(loop, link, packed, count)
    timer = None
    link.socket.settimeout(0)
    try:
        talk.send()  # first: what follows overlaps with the server's work
        loop.add_reader(talk.fd, talk.go_on)
        if link.timeout_s is not None:
            timer = loop.call_later(link.timeout_s, talk.expire)
        return await talk.answered
    finally:
        if timer is not None:
            timer.cancel()
        talk.end()


class _Talk:
    """One exchange: what the loop calls when the socket is ready."""

    __slots__ = (
        "_awaits_room",
        "_count",
        "_link",
        "_loop",
        "_replies",
        "_unsent",
        "answered",
        "fd",
    )

    def __init__(
        self, loop: AbstractEventLoop, link: Link, packed: bytes, count: int
    ) -> None:
        self._loop = loop
        self._link = link
        self._unsent: bytes | memoryview = packed
        self._count = count
        self._replies: list[Any] = []
        self._awaits_room = False
        self.fd = link.socket.fileno()
        self.answered: Future[list[Any]] = loop.create_future()

    def go_on(self) -> None:
        """Send and receive what can be sent and received now."""
        if self.answered.done():
            return
        try:
            if self._awaits_room:
                self.send()
            self._receive()
        except Exception as exc:  # noqa: BLE001 raised in the task
            self.answered.set_exception(exc)

    def send(self) -> None:
        """Send as much of the request as there is room for."""
        send = self._link.socket.send
        try:
            while self._unsent:
                sent = send(self._unsent)
                self._unsent = (
                    memoryview(self._unsent)[sent:]
                    if (sent < len(self._unsent))
                    else b""
                )
        except (SSLWantWriteError, *_NOT_YET):
            self._await_room(wanted=True)
        else:
            self._await_room(wanted=False)

    def _await_room(self, *, wanted: bool) -> None:
        """Begin or end to watch for room to write."""
        if wanted == self._awaits_room:
            return
        self._awaits_room = wanted
        if wanted:
            self._loop.add_writer(self.fd, self.go_on)
        else:
            self._loop.remove_writer(self.fd)

    def _receive(self) -> None:
        link, replies = self._link, self._replies
        try:
            while len(replies) < self._count:
                data = link.socket.recv(READ_BYTES)
                if not data:
                    raise ConnectionError(HUNG_UP)
                replies += link.parser.feed(data)
        except SSLWantWriteError:
            self._await_room(wanted=True)
            return
        except _NOT_YET:
            return
        if len(replies) > self._count:
            raise NotAReplyError("more replies than questions")
        self.answered.set_result(replies)

    def expire(self) -> None:
        """The time is up."""
        if not self.answered.done():
            self.answered.set_exception(TimeoutError("timed out"))

    def end(self) -> None:
        """Leave the socket as it was."""
        if not self._loop.is_closed():
            self._loop.remove_reader(self.fd)
            if self._awaits_room:
                self._loop.remove_writer(self.fd)
        with suppress(OSError):  # collected as garbage, it may be closed already
            self._link.socket.settimeout(self._link.timeout_s)
