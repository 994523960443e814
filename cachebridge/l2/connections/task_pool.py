"""The pool of connections as tasks use it: a wait suspends, opening blocks no loop."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from cachebridge.errors import L2Error
from cachebridge.l2.connections.task_exchange import exchange
from cachebridge.waiting.closed_loops import HeldTasks
from cachebridge.waiting.signals import Slots, is_on_loop, running_loop

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Coroutine

    from cachebridge.l2.connections.link import Link
    from cachebridge.l2.connections.pool import Pool

CHECK_S: Final = 0.1
PATIENCE_CHECKS: Final = 50
"""How long an opened connection waits for the loop that wanted it, before others."""
TOO_BUSY: Final = "the event loop was too busy to take the connection it has opened"
MOST_AT_ONCE: Final = 64
"""Connections that tasks use at a time: there may be thousands of tasks."""


class TaskPool:
    """See ``Links``.  For tasks of any event loop, on the connections of ``pool``."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        pool.on_forget = self._reset
        self._reset()

    def _reset(self) -> None:
        """Begin anew, also in the child of a fork, where no task is waiting."""
        self._turns = Slots(MOST_AT_ONCE)
        self._held = HeldTasks()
        """The tasks that wait for a connection, and those that have one."""

    def take_now(self, *, fresh: bool = False) -> Link | None:
        """Return an idle connection if there is one and it is this task's turn."""
        if fresh or not is_on_loop():
            return None
        ticket, link = object(), None
        try:
            self._held.hold(ticket)
            link = self._take_idle(ticket)
        finally:
            if link is None:
                try:
                    self.free(ticket)
                except BaseException:  # it was interrupted
                    self.free(ticket)
                    raise
        return link

    def _take_idle(self, ticket: object) -> Link | None:
        pool = self._pool
        if not self._turns.acquire_now(ticket):
            return None
        if pool.slots is not None and not pool.slots.acquire_now(ticket):
            return None
        link = pool.pop_idle()
        if link is not None:
            link.ticket = ticket
        return link

    async def take(self, *, fresh: bool = False) -> Link:
        """Return a connected connection; suspends until there is one."""
        loop, pool, ticket = running_loop(), self._pool, object()
        try:
            self._held.hold(ticket)
            await self._take_slot(self._turns, ticket)
            if pool.slots is not None:
                await self._take_slot(pool.slots, ticket)
            link = None if fresh else pool.pop_idle()
            if link is None:
                link = await _Opening(loop, pool).opened()
        except BaseException:
            self.free(ticket)
            raise
        link.ticket = ticket
        return link

    async def _take_slot(self, slots: Slots, ticket: object) -> None:
        if not await slots.acquire_async(ticket, self._pool.wait_s):
            raise self._pool.all_busy()

    def free(self, ticket: object) -> None:
        """Give back the task's turn and its slot; may be repeated."""
        self._held.release(ticket, None)
        self._pool.free(ticket)
        self._turns.release(ticket)

    def exchange_now(self, _link: Link, _packed: bytes, _count: int) -> None:
        """Return None: a task has to await the replies."""

    def exchange(
        self, link: Link, packed: bytes, count: int
    ) -> Coroutine[Any, Any, list[Any]]:
        """Send a request and suspend until its replies are there."""
        return exchange(link, packed, count)

    def give_back(self, link: Link) -> None:
        """Return a connection whose replies have all been read."""
        ticket = link.ticket  # soon the next caller's
        self._pool.give_back(link)
        self.free(ticket)

    def discard(self, link: Link, token: bytes = b"") -> None:
        """Close a connection that was interrupted, or have ``settle`` close it."""
        try:
            self._pool.discard(link, token)
        finally:
            self.free(link.ticket)

    def settle(self, token: bytes) -> None:
        """Do nothing: what a task has left behind, a thread gives back."""

    def close_idle(self) -> None:
        """Close every idle connection, those of threads too: they are the same."""
        self._pool.close_idle()

    def leave(self) -> None:
        """Never use the present connections again, those of threads either."""
        self._pool.leave()

    def forget(self) -> None:
        """Drop every connection, those of threads too: they are the same."""
        self._pool.forget()


class _Opening:
    """Opens a connection in a thread of its own: finding the address needs one anyway.

    It is opened, authenticated and encrypted by the same code as for threads.  If the
    task does not wait any more, the connection is kept for the next caller.
    """

    def __init__(self, loop: AbstractEventLoop, pool: Pool) -> None:
        self._loop = loop
        self._pool = pool
        self._done: Future[Link] = loop.create_future()
        self._is_wanted = True
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._link: Link | None = None
        self._error: BaseException | None = None
        thread = threading.Thread(
            target=self._open, name="cachebridge-connect", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as exc:  # the interpreter ends, or is at its limit
            raise ConnectionError(f"no thread to connect in: {exc}") from exc

    async def opened(self) -> Link:
        """Return the connection; raises what opening it has raised."""
        try:
            return await self._done
        except BaseException:
            self._is_wanted = False
            if self._has_succeeded():  # and so has a cancellation, at the same time
                self._pool.keep(self._done.result())
            raise

    def _has_succeeded(self) -> bool:
        done = self._done
        return done.done() and not done.cancelled() and done.exception() is None

    def _open(self) -> None:
        link, error = None, None
        try:
            link = self._pool.open()
        except BaseException as exc:  # noqa: BLE001 raised in the task
            error = exc
        self._link, self._error = link, error
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._deliver)
            for _ in range(PATIENCE_CHECKS):
                if self._arrived.wait(CHECK_S) or self._loop.is_closed():
                    break
        self._keep_unwanted()

    def _deliver(self) -> None:
        """Hand the connection to the task that waits for it, if it still does."""
        link, error = self._claim(), self._error
        self._arrived.set()
        if self._done.done() or not self._is_wanted:
            if link is not None:
                self._pool.keep(link)
        elif link is not None:
            self._done.set_result(link)
        else:
            self._done.set_exception(error or L2Error(TOO_BUSY))

    def _keep_unwanted(self) -> None:
        link = self._claim()
        if link is not None:
            self._pool.keep(link)

    def _claim(self) -> Link | None:
        with self._lock:
            link, self._link = self._link, None
            return link
