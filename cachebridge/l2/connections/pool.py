"""Idle connections of one engine, and the one rule about broken ones.

A connection that was interrupted by *any* exception, KeyboardInterrupt and greenlet
kills included, may still have a reply of its old command under way.  It is closed and
never used again: reusing it gives one caller the answer meant for another.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from cachebridge.errors import L2Error
from cachebridge.waiting.signals import Slots
from cachebridge.waiting.together import SENT, stops_when_sent

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from cachebridge.l2.connections.link import Link

MOST_UNSETTLED: Final = 64


class Era:
    """The time during which every idle link is known to lead to one server.

    An era ends when that server is left, and when the bus subscribes anew.  No link of
    an earlier era is used again: it may lead to another server.
    """

    __slots__ = ("meets",)

    def __init__(self, meets: Callable[[Link], bool] | None = None) -> None:
        self.meets = meets
        """Proves that a new link leads to the server of the era; None asks nothing."""


class Links(Protocol):
    """The connections to one server, as threads or as tasks use them.  Thread safe.

    The methods that end in ``now`` answer at once if they can; None says that the
    caller has to await the other.  For threads they always answer, since they may
    block: then no coroutine is made.
    """

    def take_now(self, *, fresh: bool = False) -> Link | None:
        """See ``take``."""

    async def take(self, *, fresh: bool = False) -> Link:
        """Return a connected connection; if ``fresh``, one that was just opened.

        Raises what connecting raises, or L2Error if all connections stay busy.
        """

    def exchange_now(self, link: Link, packed: bytes, count: int) -> list[Any] | None:
        """See ``exchange``."""

    def exchange(
        self, link: Link, packed: bytes, count: int
    ) -> Coroutine[Any, Any, list[Any]]:
        """Send a request and return its ``count`` replies; errors are among them.

        After any exception the link is unusable: discard it.
        """

    def give_back(self, link: Link) -> None:
        """Return a connection whose replies have all been read."""

    def free(self, ticket: object) -> None:
        """Let others have what a link's ticket held: ``give_back`` was interrupted.

        The connection is in the pool by then, or nothing refers to it, which closes it.
        """

    def discard(self, link: Link, token: bytes = b"") -> None:
        """Close a connection that was interrupted, whatever interrupted it.

        With the token of a lease that its request may take, ``settle`` closes it.
        """

    def settle(self, token: bytes) -> None:
        """Wait for the end of the interrupted request that may take this lease.

        Then the server has carried it out, or never will.  Blocks, at most for the
        socket timeout; a task has a thread do it.
        """

    def close_idle(self) -> None:
        """Close every idle connection."""

    def leave(self) -> None:
        """Never use the present connections again: they lead to the wrong server."""

    def forget(self) -> None:
        """Drop every connection without touching the sockets: the child of a fork."""


class Pool:
    """See ``Links``.  For threads; the pool of tasks shares the connections.

    Idle connections are used last in, first out; their number is unbounded unless
    ``limit`` is given.  No lock is needed: a deque's ``append`` and ``pop`` are atomic.
    """

    def __init__(
        self, open_link: Callable[[], Link], limit: int | None, wait_s: float
    ) -> None:
        self._open = open_link
        self._idle: deque[Link] = deque()
        self._unsettled: dict[bytes, Link] = {}
        """Interrupted connections, by the token of the lease that was asked for."""
        self.era = Era()
        self.login: bytes | None = None
        """The AUTH that connections need which were opened before, if any do."""
        self.on_stray: Callable[[], object] = self.leave
        """Called if a new connection does not lead to the server of the era."""
        self._limit = limit
        self.wait_s = wait_s
        self.on_forget: Callable[[], None] = lambda: None
        """Called by ``forget``: the pool of tasks begins anew as well."""
        self.slots = Slots(limit) if limit else None

    def take_now(self, *, fresh: bool = False) -> Link:
        """Return a connection; blocks until there is one."""
        if self.slots is None:
            return (None if fresh else self.pop_idle()) or self.open()
        ticket = object()
        try:
            self._take_slot(self.slots, ticket)
            link = (None if fresh else self.pop_idle()) or self.open()
        except BaseException:
            self.free(ticket)
            raise
        link.ticket = ticket
        return link

    async def take(self, *, fresh: bool = False) -> Link:
        """Return a connection; blocks until there is one."""
        return self.take_now(fresh=fresh)

    def exchange_now(self, link: Link, packed: bytes, count: int) -> list[Any] | None:
        """Send a request and block until its replies are there.

        None if other requests are to go out before they are read.
        """
        return None if self._stops_when_sent() else link.exchange(packed, count)

    async def exchange(self, link: Link, packed: bytes, count: int) -> list[Any]:
        """Send a request and block until its replies are there."""
        if not self._stops_when_sent():
            return link.exchange(packed, count)
        due = bool(link.login_due)
        sent_at = monotonic()
        link.send(link.with_login(packed) if due else packed)
        await SENT
        replies = link.receive(count + due, sent_at)
        return link.without_login(replies) if due else replies

    def _stops_when_sent(self) -> bool:
        """Return whether other requests go out first.

        Not while the caller holds a slot: two callers that each hold one and wait for
        another would wait for each other.
        """
        return self.slots is None and stops_when_sent()

    def give_back(self, link: Link) -> None:
        """Return a connection whose replies have all been read."""
        if self.slots is None:
            self._idle.append(link)
        else:
            ticket = link.ticket  # soon the next caller's
            self._idle.append(link)
            self.slots.release(ticket)

    def discard(self, link: Link, token: bytes = b"") -> None:
        """Close a connection that was interrupted, or have ``settle`` close it."""
        try:
            if token:
                self._keep_unsettled(link, token)
            else:
                link.close()
        finally:
            self.free(link.ticket)

    def _keep_unsettled(self, link: Link, token: bytes) -> None:
        link.hang_up()
        unsettled = self._unsettled
        unsettled[token] = link
        while len(unsettled) > MOST_UNSETTLED:
            with suppress(KeyError, StopIteration, RuntimeError):  # another thread's
                unsettled.pop(next(iter(unsettled))).close()

    def settle(self, token: bytes) -> None:
        """Wait for the end of the interrupted request that may take this lease."""
        link = self._unsettled.pop(token, None)
        if link is not None:
            link.see_off(self.wait_s)

    def close_idle(self) -> None:
        """Close every idle connection."""
        while (link := self._pop()) is not None:
            link.close()

    def leave(self) -> None:
        """Never use the present connections again: they lead to the wrong server."""
        self.era = Era()
        self.close_idle()

    def forget(self) -> None:
        """Drop idle connections without touching the sockets: they are the parent's."""
        self._idle = deque()
        self._unsettled = {}
        self.era = Era()
        if self._limit:
            self.slots = Slots(self._limit)
        self.on_forget()

    # -- parts of the above, for the pool of tasks ---------------------------------

    def pop_idle(self) -> Link | None:
        """Return an idle connection that the server has not hung up on, if any."""
        idle = self._idle
        while True:
            try:
                link = idle.pop()
            except IndexError:
                return None
            if link.era is self.era and not link.arrived(0):
                if link.login is not self.login:
                    link.login = self.login
                    link.login_due = self.login or b""
                return link
            link.close()

    def open(self) -> Link:
        """Open a connection, which the session of the bus proves, if there is one.

        Blocks; raises what connecting raises.
        """
        era = self.era
        link = self.open_unproven()
        try:
            meets = era.meets
            if meets is not None and not meets(link):
                self.on_stray()  # begins another era, so the link is used once
        except BaseException:
            link.close()
            raise
        link.era = era
        return link

    def keep(self, link: Link) -> None:
        """Add a connection that holds no slot to the idle ones."""
        self._idle.append(link)

    def all_busy(self) -> L2Error:
        """Return the exception for too many callers."""
        most = f"all {self._limit} of MAX_CONNECTIONS are busy"
        if self.slots is None:
            most = "too many tasks wait for one"
        return L2Error(f"no connection became free within {self.wait_s} s: {most}")

    def _take_slot(self, slots: Slots, ticket: object) -> None:
        if not slots.acquire(ticket, self.wait_s):
            raise self.all_busy()

    def free(self, ticket: object) -> None:
        """Let the next caller have the ticket's slot; may be repeated."""
        if self.slots is not None:
            self.slots.release(ticket)

    # -- for the session of the bus, whose heartbeats travel over these connections --

    def begin_era(self, meets: Callable[[Link], bool], proven: Link) -> Era:
        """Use no earlier link again but ``proven``, and each later one if it meets.

        One that does not makes the pool leave this server.
        """
        era = proven.era = self.era = Era(meets)
        return era

    def open_unproven(self) -> Link:
        """Open a connection, whatever server it leads to."""
        login = self.login
        link = self._open()
        link.login = login
        return link

    def take_oldest(self) -> Link | None:
        """Return the idle connection that was unused for the longest time, if any.

        It holds no slot: give it back with ``keep``.  Blocks if the credentials have
        changed since it was used.
        """
        while True:
            try:
                link = self._idle.popleft()
            except IndexError:
                return None
            if link.era is self.era and not link.is_stale() and self._logs_in(link):
                return link
            link.close()

    def _logs_in(self, link: Link) -> bool:
        """Give a link the current credentials; return whether it has them."""
        if link.login is self.login:
            return True
        link.login = login = self.login
        try:
            (reply,) = link.exchange(login or b"", 1)
        except OSError:
            return False
        return bool(reply == b"OK")

    def renew(self) -> None:
        """Replace the oldest idle connection by a new one; blocks.

        If the address leads elsewhere by now, the new one tells (see ``open``).
        """
        link = self.open()
        oldest = self.take_oldest()
        if oldest is not None:
            oldest.close()
        self.keep(link)

    def _pop(self) -> Link | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None
