"""The pool of connections as tasks use it: waiting suspends, opening blocks nobody."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from cachebridge.waiting import Slots, running_loop

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

    from cachebridge.l2.pool import Link, Pool

MOST_AT_ONCE: Final = 64
"""Connections that tasks use at a time: there may be thousands of tasks."""


class AsyncPool:
    """See ``Pool``, whose connections these are.  For tasks of any event loop."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._turns = Slots(MOST_AT_ONCE)

    async def take(self, *, fresh: bool = False) -> Link:
        """Return a connected connection; see ``Pool.take``."""
        loop = running_loop()
        await self._turns.acquire_async()
        try:
            return await self._take_slot_and_link(loop, fresh=fresh)
        except BaseException:
            self._turns.release()
            raise

    async def _take_slot_and_link(
        self, loop: AbstractEventLoop, *, fresh: bool
    ) -> Link:
        pool = self._pool
        if pool.slots is not None and not await pool.slots.acquire_async(pool.wait_s):
            raise pool.all_busy()
        try:
            link = None if fresh else pool.pop_idle()
            return link or await _Opening(loop, pool).done
        except BaseException:
            pool.free_slot()
            raise

    def give_back(self, link: Link) -> None:
        """Return a connection whose replies have all been read."""
        self._pool.give_back(link)
        self._turns.release()

    def discard(self, link: Link) -> None:
        """Close a connection that was interrupted, whatever interrupted it."""
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
        self.done: Future[Link] = loop.create_future()
        thread = threading.Thread(
            target=self._open, name="cachebridge-connect", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as exc:  # the interpreter ends, or is at its limit
            raise ConnectionError(f"no thread to connect in: {exc}") from exc

    def _open(self) -> None:
        link, error = None, None
        try:
            link = self._pool.open()
        except BaseException as exc:  # noqa: BLE001 it is the caller's
            error = exc
        try:
            self._loop.call_soon_threadsafe(self._deliver, link, error)
        except RuntimeError:  # the loop is closed
            self._keep(link)

    def _deliver(self, link: Link | None, error: BaseException | None) -> None:
        if self.done.done():
            self._keep(link)
        elif link is not None:
            self.done.set_result(link)
        elif error is not None:
            self.done.set_exception(error)

    def _keep(self, link: Link | None) -> None:
        if link is not None:
            self._pool.keep(link)
