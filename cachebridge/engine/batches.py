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

from cachebridge.engine.messages.hosting import only_forks
from cachebridge.errors import L2Error
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
        self.reset()

    def reset(self) -> None:
        """Begin anew in the child of a fork: the parent sends its own sums."""
        self._lock = threading.Lock()
        self._local = threading.local()
        self._owners: list[tuple[ref[Owner], Cells]] = []
        self._owed: Cells = {}
        """Sums that were claimed, and could not be sent."""
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def send_every(self, interval_s: float) -> None:
        """Send all sums at least this often."""
        with self._lock:
            if interval_s < self._interval_s:
                self._interval_s = interval_s
                self._wake.set()

    def add(self, key: str, n: int, ttl_ms: int | None) -> None:
        """Add to the sum of a key; takes no lock, and waits for nothing.

        The TTL is for a counter that does not exist.
        """
        if self._host.pid != getpid():
            self._host.notice_fork()
        try:
            cell = self._local.owner.cells[key]
        except (AttributeError, KeyError):
            cell = self._open(key, ttl_ms)
        cell.added += n

    def _open(self, key: str, ttl_ms: int | None) -> Cell:
        """Make this thread's cell for a key, and see to it that sums are sent."""
        owner: Owner | None = getattr(self._local, "owner", None)
        thread = None
        with self._lock:
            if owner is None:
                owner = self._local.owner = Owner()
                self._owners.append((ref(owner), owner.cells))
            if len(owner.cells) >= MOST_CELLS:
                for name, each in list(owner.cells.items()):
                    if each.added == each.claimed:
                        del owner.cells[name]
            cell = owner.cells[key] = Cell(ttl_ms)
            is_sending = self._thread is not None and self._thread.is_alive()
            if not is_sending and not only_forks():
                # gevent may have patched ``threading`` since the last one was made.
                self._wake = wake = threading.Event()
                self._thread = thread = threading.Thread(
                    target=self._send_now_and_then,
                    args=(wake,),
                    name="cachebridge-batches",
                    daemon=True,
                )
        if thread is not None:  # without the lock: it lets other greenlets run
            thread.start()
        return cell

    def _claim(self, key: str | None) -> Cells:
        """Return what is to be sent, of one key or of all; it counts as sent now."""
        with self._lock:
            sums: Cells = {}
            if key is None:
                sums, self._owed = self._owed, sums
            elif key in self._owed:
                sums[key] = self._owed.pop(key)
            for at in range(len(self._owners) - 1, -1, -1):
                owner, cells = self._owners[at]
                is_over = owner() is None
                for name in list(cells) if key is None else (key,):
                    if (cell := cells.get(name)) is not None:
                        added = cell.added
                        _sum_up(sums, name, added - cell.claimed, cell.ttl_ms)
                        cell.claimed = added
                if is_over and key is None:
                    del self._owners[at]
        return sums

    async def flush(self, io: IO, key: str | None = None) -> None:
        """Send the sums of one key, or of all.

        Raises L2Error if that fails: what was certainly not sent is sent later, and
        what may have arrived is not sent again.
        """
        sums = self._claim(key)
        operations = self._operations(io)
        try:
            while sums:
                name = next(iter(sums))
                cell = sums.pop(name)
                try:
                    await operations.count(name, cell.added, UNBOUNDED, cell.ttl_ms)
                except L2Error as exc:
                    if exc.is_unsent:
                        sums[name] = cell
                    raise
                except TypeError:
                    _log.exception("a batched count is lost")
        finally:
            if sums:
                with self._lock:
                    for name, cell in sums.items():
                        _sum_up(self._owed, name, cell.added, cell.ttl_ms)

    def _send_now_and_then(self, wake: threading.Event) -> None:
        """Send all sums, time and again, until the batches were closed."""
        while self._wake is wake and self._thread is threading.current_thread():
            if wake.wait(self._interval_s):
                wake.clear()  # the interval has changed, or this is the end
            else:
                self._try_to_send()

    def _try_to_send(self) -> None:
        try:
            run(self.flush(THREADS))
        except L2Error as exc:
            _log.debug("batched counts wait for the shared store: %s", exc)
        except Exception:  # noqa: BLE001 the thread has to go on
            _log.exception("batched counts could not be sent")

    def close(self) -> None:
        """Send what there is, and end the thread; a later ``add`` starts another."""
        if self._host.pid != getpid():
            return
        with self._lock:
            thread, self._thread = self._thread, None
            self._local = threading.local()
            self._wake.set()
        if thread is not None:
            self._try_to_send()


def _sum_up(sums: Cells, name: str, n: int, ttl_ms: int | None) -> None:
    if n:
        cell = sums.get(name)
        if cell is None:
            cell = sums[name] = Cell(ttl_ms)
        cell.added += n
