"""The pool of connections as tasks use it: waiting suspends, opening blocks nobody."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from cachebridge.errors import L2Error
from cachebridge.waiting import HeldTasks, Slots, running_loop

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

    from cachebridge.l2.pool import Link, Pool

CHECK_S: Final = 0.1
PATIENCE_CHECKS: Final = 50
"""How long an opened connection waits for the loop that wanted it, before others."""
TOO_BUSY: Final = "the event loop was too busy to take the connection it has opened"
MOST_AT_ONCE: Final = 64
"""Connections that tasks use at a time: there may be thousands of tasks."""


class AsyncPool:
    """See ``Pool``, whose connections these are.  For tasks of any event loop."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._turns = Slots(MOST_AT_ONCE)
        self._held = HeldTasks()
        """Those that wait for a connection, and those that have one."""
        self._holds: dict[Link, object] = {}

    async def take(self, *, fresh: bool = False) -> Link:
        """Return a connected connection; see ``Pool.take``."""
        loop = running_loop()
        hold = self._held.hold()
        try:
            await self._turns.acquire_async()
            link = await self._take_in_turn(loop, fresh=fresh)
        except BaseException:
            self._held.release(hold)
            raise
        self._holds[link] = hold
        return link

    async def _take_in_turn(self, loop: AbstractEventLoop, *, fresh: bool) -> Link:
        pool = self._pool
        try:
            if pool.slots is not None:
                await self._take_slot(pool.slots)
            try:
                link = None if fresh else pool.pop_idle()
                return link or await _Opening(loop, pool).opened()
            except BaseException:
                pool.free_slot()
                raise
        except BaseException:
            self._turns.release()
            raise

    async def _take_slot(self, slots: Slots) -> None:
        if not await slots.acquire_async(self._pool.wait_s):
            raise self._pool.all_busy()

    def give_back(self, link: Link) -> None:
        """Return a connection whose replies have all been read."""
        self._held.release(self._holds.pop(link))
        self._pool.give_back(link)
        self._turns.release()

    def discard(self, link: Link) -> None:
        """Close a connection that was interrupted, whatever interrupted it."""
        self._held.release(self._holds.pop(link))
        try:
            self._pool.discard(link)
        finally:
            self._turns.release()


class _Opening:
    """Opens a connection in a thread of its own: finding the address needs one anyway.

    So it is opened, authenticated and encrypted by the same code as for threads.  If
    nobody waits for it any more, it is kept for the next caller.
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
        except BaseException as exc:  # noqa: BLE001 it is the caller's
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
