"""Background refreshes: a few daemon threads that come with work and go without it."""

from __future__ import annotations

import logging
import sys
import threading
import time
from contextvars import copy_context
from typing import TYPE_CHECKING, Final

from cachebridge.core.keys import shown_key
from cachebridge.core.notice import Notice
from cachebridge.engine.messages.hosting import only_forks
from cachebridge.events import event

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

_log = logging.getLogger("cachebridge.engine")

MAX_THREADS: Final = 4
MAX_WAITING: Final = 1000
IDLE_S: Final = 5.0


class Refresher:
    """Runs at most one task per key in the background.  Thread safe.

    A task that finds no room is dropped: the next reader of the stale value asks again.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        """Entered itself: the condition's own exit could be broken off, and keep it."""
        self._changed = threading.Condition(self._lock)
        self._waiting: dict[str, tuple[Context, Callable[[], object]]] = {}
        self._running: set[str] = set()
        self._failing = Notice()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self.dropped = 0

    def submit(self, key: str, task: Callable[[], object]) -> bool:
        """Run the task soon, in a copy of this context; return whether it will run.

        False if the key is being refreshed already, or there is no room.  Where a
        thread could do harm the task runs now.
        """
        if only_forks():
            return self._run_now(key, task)
        with self._lock:
            if key in self._running:
                return False
            is_new = key not in self._waiting
            if is_new and len(self._waiting) >= MAX_WAITING:
                self.dropped += 1
                return False
            if is_new:
                self._waiting[key] = copy_context(), task
            if len(self._waiting) <= self._idle:
                self._changed.notify_all()
            elif len(self._threads) < MAX_THREADS:
                return self._add_thread(key) and is_new
        return is_new

    def _run_now(self, key: str, task: Callable[[], object]) -> bool:
        if self.has(key):
            return False
        try:
            self._running.add(key)
            copy_context().run(task)
        except Exception:  # noqa: BLE001 the caller has its answer already
            self.tell(key)
        finally:
            self._running.discard(key)
        return True

    def _add_thread(self, key: str) -> bool:
        thread = threading.Thread(
            target=self._run, name="cachebridge-refresh", daemon=True
        )
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:  # the interpreter ends, or is at its limit
            self._threads.discard(thread)
            if not self._threads:
                self._waiting.pop(key, None)
                return False
        except BaseException:
            if not thread.is_alive():  # else, or if it begins yet, it is one of them
                self._threads.discard(thread)
            raise
        return True

    def tell(self, key: str) -> None:
        """Log the exception that is being handled, unless refreshes go on failing."""
        error = sys.exc_info()[0]
        what = "" if error is None else error.__qualname__
        if self._failing.begins(time.monotonic(), what):
            _log.exception(
                "refreshing %s failed; stats().load_errors counts",
                shown_key(key),
                extra=event("refresh.failed", key=shown_key(key), error=what),
            )

    def has(self, key: str) -> bool:
        """Return whether the key is being refreshed."""
        return key in self._running or key in self._waiting

    def is_idle(self) -> bool:
        """Return whether nothing runs or waits."""
        return not self._running and not self._waiting

    def stop(self, timeout_s: float) -> None:
        """Drop what waits, and wait so many seconds for what runs."""
        with self._lock:
            self._waiting.clear()
            self._changed.wait_for(lambda: not self._running, timeout_s)

    def _run(self) -> None:
        with self._lock:
            self._threads.add(threading.current_thread())
        while (work := self._next()) is not None:
            key, context, task = work
            try:
                context.run(task)
            except BaseException:  # noqa: BLE001 no caller above could handle it
                self.tell(key)
            finally:
                del task, context, work
                with self._lock:
                    self._running.discard(key)
                    self._changed.notify_all()

    def _next(self) -> tuple[str, Context, Callable[[], object]] | None:
        """Wait for work; None, and the thread is gone, if none comes for a while."""
        with self._lock:
            self._idle += 1
            arrived = self._changed.wait_for(lambda: self._waiting, IDLE_S)
            self._idle -= 1
            if arrived:
                key = next(iter(self._waiting))
                self._running.add(key)
                return key, *self._waiting.pop(key)
            self._threads.discard(threading.current_thread())
            return None
