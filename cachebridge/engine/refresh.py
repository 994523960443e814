"""Background refreshes: a few daemon threads that come with work and go without it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

_log = logging.getLogger("cachebridge.engine")

MAX_THREADS: Final = 4
MAX_WAITING: Final = 1000
IDLE_S: Final = 5.0


class Refresher:
    """Runs at most one task per key behind its callers.  Thread safe.

    Tasks that find no room are dropped: whoever reads the stale value next asks again.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[tuple[str, Context, Callable[[], None]]] = deque()
        self._keys: set[str] = set()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self.dropped = 0

    def submit(self, key: str, task: Callable[[], None]) -> bool:
        """Run the task soon, in a copy of this context; tell whether it is under way.

        False if the key is being refreshed already, or there is no room.
        """
        with self._changed:
            if key in self._keys:
                return False
            if len(self._waiting) >= MAX_WAITING:
                self.dropped += 1
                return False
            self._keys.add(key)
            self._waiting.append((key, copy_context(), task))
            if len(self._waiting) <= self._idle:
                self._changed.notify_all()
            elif len(self._threads) < MAX_THREADS:
                return self._add_thread(key)
        return True

    def _add_thread(self, key: str) -> bool:
        thread = threading.Thread(
            target=self._run, name="cachebridge-refresh", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the interpreter ends, or is at its limit
            if not self._threads:
                self._waiting.pop()
                self._keys.discard(key)
                return False
        else:
            self._threads.add(thread)
        return True

    def has(self, key: str) -> bool:
        """Tell whether the key is being refreshed."""
        return key in self._keys

    def is_idle(self) -> bool:
        """Tell whether nothing runs or waits."""
        return not self._keys

    def stop(self, timeout_s: float) -> None:
        """Drop what waits, and wait so many seconds for what runs."""
        with self._changed:
            for key, _, _ in self._waiting:
                self._keys.discard(key)
            self._waiting.clear()
            self._changed.wait_for(lambda: not self._keys, timeout_s)

    def _run(self) -> None:
        while (work := self._next()) is not None:
            key, context, task = work
            try:
                context.run(task)
            except BaseException:  # noqa: BLE001 nobody above could handle it
                _log.exception("refreshing %.80s failed", key)
            finally:
                del task, context, work
                with self._changed:
                    self._keys.discard(key)
                    self._changed.notify_all()

    def _next(self) -> tuple[str, Context, Callable[[], None]] | None:
        """Wait for work; None, and the thread is gone, if none comes for a while."""
        with self._changed:
            self._idle += 1
            arrived = self._changed.wait_for(lambda: self._waiting, IDLE_S)
            self._idle -= 1
            if arrived:
                return self._waiting.popleft()
            self._threads.discard(threading.current_thread())
            return None
