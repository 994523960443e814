"""Exceptions that strike the threads of a worker anywhere in a call of the cache.

As a time limit or a signal would; what such a call has changed is uncertain.
"""

from __future__ import annotations

import ctypes

# Else the first connection imports it; Python's lock of a module stays taken for ever
# if a thread is struck that has it.
import encodings.idna  # noqa: F401
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class StruckError(BaseException):
    """What strikes: no handler of an application's errors stops it."""


class Target:
    """One thread, to be struck while it is in a call and never outside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread = 0
        self._is_open = False

    def strike(self) -> bool:
        """Have the thread raise, if it is in a call that was not struck yet."""
        with self._lock:
            is_open, self._is_open = self._is_open, False
            if is_open:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._thread), ctypes.py_object(StruckError)
                )
        return is_open

    def open(self) -> None:
        """Let this thread be struck from now on."""
        self._thread = threading.get_ident()
        self._is_open = True

    def close(self) -> None:
        """Let this thread not be struck any more; what is under way comes here."""
        self._is_open = False
        with self._lock:
            pass
        _arrive()

    def during(self, call: Callable[[], T]) -> T:
        """Call, and be struck in between or not."""
        self.open()
        try:
            return call()
        finally:
            self.close()


def _arrive() -> None:
    """Python looks for exceptions where a function begins."""
