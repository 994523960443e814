"""Counts that are summed in the process, and sent to L2 now and then.

Each thread adds to cells of its own, which need no lock: their sums only grow, and one
claim at a time reads what has been added since the last.  A claimed sum is sent once:
it comes back only if L2 certainly did not get it.
"""

from __future__ import annotations

import logging
import threading
from os import getpid
from typing import TYPE_CHECKING, Final, Protocol
from weakref import ref

from cachebridge.core.keys import shown_key
from cachebridge.engine.later.sender import Sender
from cachebridge.engine.messages.hosting import only_forks
from cachebridge.errors import L2Error
from cachebridge.events import event
from cachebridge.l2.store import Bounds
from cachebridge.waiting.io import THREADS
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.engine.operations import Operations
    from cachebridge.waiting.io import IO

UNBOUNDED: Final = Bounds()
MOST_CELLS: Final = 1_000
"""Cells of one thread above which it drops those that were sent."""
CLOSE_PATIENCE_S: Final = 5.0
"""How long ``close`` waits for the one sum that the thread is sending."""
_log = logging.getLogger("cachebridge.engine")


class BatchesHost(Protocol):
    """What batches need of their engine."""

    pid: int

    def notice_fork(self) -> None:
        """Begin anew if this is another process."""


class Cell:
    """What one thread has added to one counter, and how much of it was claimed."""

    __slots__ = ("added", "claimed", "ttl_ms")

    def __init__(self, ttl_ms: int | None) -> None:
        self.added = self.claimed = 0
        self.ttl_ms = ttl_ms


Cells = dict[str, Cell]
"""The cells of one thread by full key."""


class Owner:
    """Lives as long as its thread; what a dead thread has left can be dropped."""

    __slots__ = ("__weakref__", "cells")

    def __init__(self) -> None:
        self.cells: Cells = {}


class Batches:
    """The batched counts of one engine.  Thread safe."""

    def __init__(
        self, host: BatchesHost, operations: Callable[[IO], Operations]
    ) -> None:
        """``operations`` makes those of coherent keys."""
        self._host = host
        self._operations = operations
        self._interval_s = float("inf")
        self._sender = Sender(
            "cachebridge-batches",
            pause_s=lambda: self._interval_s,
            send=self._try_to_send,
        )
        self.reset()

    def reset(self) -> None:
        """Begin anew in the child of a fork: the parent sends its own sums."""
        # Reentrant: garbage may be found while it is held, and count.
        self._lock = threading.RLock()
        self._local = threading.local()
        self._owners: list[tuple[ref[Owner], Cells]] = []
        self._owed: Cells = {}
        """Sums that were claimed, and could not be sent."""
        self._sender.reset()

    def send_every(self, interval_s: float) -> None:
        """Send all sums at least this often."""
        with self._lock:
            if interval_s < self._interval_s:
                self._interval_s = interval_s
                self._sender.wake()

    def add(self, key: str, n: int, ttl_ms: int | None) -> None:
        """Add to the sum of a key; takes no lock, and waits for nothing.

        The TTL is for a counter that does not exist.
        """
        if self._host.pid != getpid():
            self._host.notice_fork()
        try:
            owner = self._local.owner  # held, or a claim might take it for dead
            owner.cells[key].added += n
        except (AttributeError, KeyError):
            self._open(key, n, ttl_ms)

    def _open(self, key: str, n: int, ttl_ms: int | None) -> None:
        """Add to a new cell of this thread, once a thread sends the sums.

        Where none is to be had, the next ``add`` comes here again.  In a process that
        only forks none may be: ``flush`` and ``close`` send.
        """
        self._sender.ensure()
        with self._lock:
            if not self._sender.is_started() and not only_forks():
                cell = Cell(ttl_ms)
                cell.added = n
                _claim_cell(self._owed, key, cell)
                return
            owner: Owner | None = getattr(self._local, "owner", None)
            if owner is None:
                owner = Owner()
                self._owners.append((ref(owner), owner.cells))
                self._local.owner = owner
            cells = owner.cells
            if len(cells) >= MOST_CELLS:
                for name, each in list(cells.items()):
                    if each.added == each.claimed:
                        del cells[name]
            cells.setdefault(key, Cell(ttl_ms)).added += n

    def _claim(self, key: str | None, sums: Cells) -> None:
        """Move what is to be sent, of one key or of all, into ``sums``."""
        with self._lock:
            for name in list(self._owed) if key is None else (key,):
                if (cell := self._owed.pop(name, None)) is not None:
                    _claim_cell(sums, name, cell)
            for at in range(len(self._owners) - 1, -1, -1):
                owner, cells = self._owners[at]
                is_over = owner() is None
                for name in list(cells) if key is None else (key,):
                    if (cell := cells.get(name)) is not None:
                        _claim_cell(sums, name, cell)
                if is_over and key is None:
                    del self._owners[at]

    async def flush(self, io: IO, key: str | None = None) -> bool:
        """Send the sums of one key, or of all; return whether L2 took each.

        It takes none for a key that holds no counter, or one beyond ``COUNTABLE``.
        Raises L2Error if that fails: what was certainly not sent is sent later, and
        what may have arrived is not sent again.
        """
        sums: Cells = {}
        operations, all_taken = self._operations(io), True
        try:
            self._claim(key, sums)
            while sums and not self._sender.is_awaited():
                name = next(iter(sums))
                cell = sums.pop(name)
                try:
                    taken = await operations.count(
                        name, cell.added, UNBOUNDED, cell.ttl_ms
                    )
                except L2Error as exc:
                    if exc.is_unsent:
                        sums[name] = cell
                    raise
                except TypeError:
                    _log.exception("a batched count is lost", extra=event("count.lost"))
                    all_taken = False
                else:
                    if not taken:
                        shown = shown_key(name)
                        _log.error(
                            "a batched count is lost: %s would pass 2**53",
                            shown,
                            extra=event("count.lost", key=shown),
                        )
                        all_taken = False
        finally:
            if sums:
                with self._lock:
                    for name, cell in sums.items():
                        _claim_cell(self._owed, name, cell)
        return all_taken

    def _try_to_send(self) -> None:
        try:
            run(self.flush(THREADS))
        except L2Error as exc:
            told = event("count.waits")
            _log.debug("batched counts wait for the shared store: %s", exc, extra=told)
        except Exception:  # noqa: BLE001 the thread has to go on
            told = event("count.failed")
            _log.exception("batched counts could not be sent", extra=told)

    def close(self) -> None:
        """Send what there is, and end the thread; a later ``add`` starts another.

        What the thread has begun to send comes first: it gives the rest back.
        """
        if self._host.pid != getpid():
            return
        self._sender.close(CLOSE_PATIENCE_S)
        with self._lock:
            self._local = threading.local()
        self._try_to_send()


def _claim_cell(sums: Cells, name: str, cell: Cell) -> None:
    """Move to ``sums`` what was added to the cell and is not claimed yet."""
    n = cell.added - cell.claimed
    if n:
        total = sums.get(name)
        if total is None:
            total = sums[name] = Cell(cell.ttl_ms)
        total.added += n  # from here no call, so no interruption, until both are done
        cell.claimed += n
