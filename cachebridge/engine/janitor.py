"""The janitor: one thread that lets expired entries of all caches go, though unread."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from typing import Final, Protocol
from weakref import WeakKeyDictionary, finalize

from cachebridge.engine.messages.hosting import freezes_threads, only_forks
from cachebridge.events import event

_log = logging.getLogger("cachebridge.engine")

SLICE: Final = 256
"""Entries of each queue in one slice: it holds the lock for less than a millisecond."""
REACH: Final = 40 * SLICE
"""Entries from the old end that a round looks at: the walk to later ones is long."""
PAUSE_S: Final = 0.001
ROUNDS: Final = 2
"""Rounds in the time within which an expired entry has to be gone."""
_noticing = threading.Lock()


class Swept(Protocol):
    """What the janitor cleans; it keeps no owner alive."""

    def begin_sweep(self) -> int:
        """Return how many entries there are; called once before each round."""

    def sweep_slice(self, limit: int, start: int) -> int:
        """Remove the expired among ``limit`` entries of each queue; return how many.

        It passes over the ``start`` oldest.
        """


class Janitor:
    """Visits each owner in turn; its thread runs while there is one.  Thread safe."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, without owners, as in the child of a fork."""
        self._pid = os.getpid()
        # Reentrant: garbage may be found while it is held, and fill a cache.
        self._lock = threading.RLock()
        self._due: WeakKeyDictionary[Swept, tuple[float, float]] = WeakKeyDictionary()
        """When the next round of an owner is due, and the time between two."""
        self._bell = threading.Lock()
        """Held until it is rung; ``release`` is safe wherever garbage is found."""
        self.thread: threading.Thread | None = None

    def _notice_fork(self) -> None:
        if self._pid != os.getpid():  # not all forks call Python's hooks
            with _noticing:
                if self._pid != os.getpid():
                    self.reset()

    def watch(self, owner: Swept, within_s: float) -> bool:
        """Let the owner's expired entries go within so many seconds; 0 is never.

        Returns whether it is visited: not where a thread could do harm, or could not
        run, nor where none is to be had at this moment.
        """
        if not within_s or only_forks() or freezes_threads():
            return False
        self._notice_fork()
        every_s = within_s / ROUNDS
        with self._lock:
            if owner not in self._due:
                finalize(owner, self._ring).atexit = False
            self._due[owner] = (time.monotonic() + every_s, every_s)
            if self.thread is not None and self.thread.is_alive():
                self._ring()
                return True
            # gevent may have patched ``threading`` since the last one was made.
            self._bell = threading.Lock()
            thread = self.thread = threading.Thread(
                target=self._run, name="cachebridge-janitor", daemon=True
            )
        try:  # without the lock: starting a thread lets other greenlets run
            thread.start()
        except RuntimeError:  # the interpreter ends, or is at its limit
            with self._lock:
                if self.thread is thread:
                    self.thread = None
                self._due.pop(owner, None)
            return False
        return True

    def _ring(self) -> None:
        """Let the thread look whether a round is due, or whether it is to end."""
        with suppress(RuntimeError):  # it was rung already
            self._bell.release()

    def forget(self, owner: Swept) -> None:
        """Visit the owner no more."""
        self._notice_fork()
        with self._lock:
            self._due.pop(owner, None)
        self._ring()

    def _run(self) -> None:
        bell = self._bell
        bell.acquire(blocking=False)
        while (wait_s := self._wait()) is not None:
            if not bell.acquire(timeout=wait_s):
                self._visit()

    def _wait(self) -> float | None:
        """Return the seconds until a round is due; None, and the thread ends."""
        with self._lock:
            if self.thread is not threading.current_thread():
                return None  # two callers have started one each
            due = [at for at, _ in self._due.values()]
            if due:
                return max(0.0, min(due) - time.monotonic())
            self.thread = None
            return None

    def _visit(self) -> None:
        with self._lock:
            now = time.monotonic()
            owners = [owner for owner, (at, _) in self._due.items() if at <= now]
            for owner in owners:
                every_s = self._due[owner][1]
                self._due[owner] = (now + every_s, every_s)
        while owners:
            try:
                sweep(owners.pop())
            except Exception:  # noqa: BLE001 of one owner; there are others
                told = event("sweep.failed")
                _log.exception("expired entries could not be removed", extra=told)


def sweep(owner: Swept) -> None:
    """Go round once, slice by slice; the lock is free between two.

    No entry is passed over: those that leave make the others move towards the old end.
    """
    start, count = 0, owner.begin_sweep()
    while start < min(count, REACH):
        gone = owner.sweep_slice(SLICE, start)
        count -= gone
        start += max(0, SLICE - gone)
        time.sleep(PAUSE_S)


JANITOR: Final = Janitor()
os.register_at_fork(after_in_child=JANITOR.reset)
