"""The lock of those that write: of this process's threads, and of all processes.

A process that dies gives it back.  One that is stopped keeps it, so no wait is without
bound.  It belongs to the open file: a forked child must open the file anew.
"""

from __future__ import annotations

import os
import time
from threading import Lock
from typing import TYPE_CHECKING, Final
from weakref import finalize

from cachebridge.waiting.guard import Guard

try:
    import fcntl
except ImportError:  # Windows: there is no such file, then
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE_S: Final = 0.00005


class WriteLock:
    """Taken by ``hold``.  Thread safe; reading needs no lock."""

    def __init__(
        self, fd: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``fd`` is the file's, None for memory that no other process has."""
        self.fd = fd
        self.clock = clock
        self.threads = Lock()

    def owns(self, fd: int) -> None:
        """Close the file when this lock is gone."""
        finalize(self, os.close, fd)

    def hold(self, patience_s: float) -> Hold:
        """Return a guard whose ``is_held`` says whether the lock could be had in time.

        ``with hold, hold``: whatever strikes, the lock is given back.
        """
        return Hold(self, patience_s)


class Hold(Guard):
    """See ``WriteLock.hold``."""

    __slots__ = ("_has_file", "_has_thread", "_lock", "_patience_s", "is_held")

    def __init__(self, lock: WriteLock, patience_s: float) -> None:
        self._is_taken = self._is_over = False
        self._lock = lock
        self._patience_s = patience_s
        self.is_held = self._has_thread = self._has_file = False

    def _take(self) -> None:
        lock = self._lock
        # A struck thread keeps the lock only between these two words.
        self._has_thread = lock.threads.acquire(timeout=self._patience_s)
        if not self._has_thread:
            return
        if lock.fd is None:
            self.is_held = True
            return
        self._has_file = True  # before it is: to give back what is not there is no harm
        self.is_held = self._take_file(lock.fd)
        self._has_file = self.is_held

    def _take_file(self, fd: int) -> bool:
        give_up_at = 0.0
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                now = self._lock.clock()
                give_up_at = give_up_at or now + self._patience_s
                if now >= give_up_at:
                    return False
                time.sleep(PAUSE_S)
            else:
                return True

    def _give_back(self, _error: BaseException | None) -> None:
        self.is_held = False
        if self._has_file and self._lock.fd is not None:
            fcntl.flock(self._lock.fd, fcntl.LOCK_UN)
            self._has_file = False
        if self._has_thread:
            self._has_thread = False
            self._lock.threads.release()
