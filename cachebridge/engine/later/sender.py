"""The background thread that sends what callers have left in the process."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from cachebridge.engine.messages.hosting import only_forks

if TYPE_CHECKING:
    from collections.abc import Callable


IDLE_S: Final = 10.0
"""A thread that has had nothing to send for so long ends."""


class Sender:
    """One daemon thread, started when there is something to send.  Thread safe.

    ``pause_s`` says in how many seconds ``send`` is to be called; None: not before
    ``wake``.  Then the thread may end: ``ensure`` after ``wake`` starts another.
    ``send`` raises nothing.
    """

    def __init__(
        self,
        name: str,
        *,
        pause_s: Callable[[], float | None],
        send: Callable[[], None],
    ) -> None:
        self._name = name
        self._pause_s = pause_s
        self._send = send
        self.reset()

    def reset(self) -> None:
        """Begin anew in the child of a fork, which has no such thread."""
        # Reentrant: garbage may be found while it is held, and have something to send.
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._awaited: threading.Thread | None = None
        """The thread that ``close`` waits for."""

    def ensure(self) -> bool:
        """See that the thread runs; return whether it does.

        In a process that only forks none may; at its end none can be started.
        """
        thread = self._thread
        if thread is not None and thread.is_alive():
            return True
        with self._lock:
            is_alive = self._thread is not None and self._thread.is_alive()
            if is_alive or only_forks():
                return is_alive
            # gevent may have patched ``threading`` since the last one was made.
            self._wake = wake = threading.Event()
            self._thread = thread = threading.Thread(
                target=self._run, args=(wake,), name=self._name, daemon=True
            )
        try:  # without the lock: it lets other greenlets run
            thread.start()
        except RuntimeError:  # at the limit of threads, or at exit
            with self._lock:
                if self._thread is thread:
                    self._thread = None
            return False
        return True

    def is_started(self) -> bool:
        """Return whether there is a thread that has not been told to end."""
        return self._thread is not None

    def wake(self) -> None:
        """Have the thread ask anew how long to wait."""
        self._wake.set()

    def _run(self, wake: threading.Event) -> None:
        """Send, time and again, until the sender is closed."""
        while self._wake is wake and self._thread is threading.current_thread():
            pause_s = self._pause_s()
            if wake.wait(IDLE_S if pause_s is None else pause_s):
                wake.clear()
            elif pause_s is not None:
                self._send()
            elif self._ends(wake):
                return

    def _ends(self, wake: threading.Event) -> bool:
        """Return whether the thread with this event ends, having nothing to send.

        It leaves, and then looks for a call of ``wake``.  Either it sees the call, and
        goes on, or ``ensure`` comes after the call and sees that it has left.
        """
        with self._lock:
            if self._wake is not wake:
                return True  # another has taken its place
            thread, self._thread = self._thread, None
            if wake.is_set():
                self._thread = thread
            return self._thread is None

    def is_awaited(self) -> bool:
        """Return whether this thread is the one that ``close`` waits for."""
        return self._awaited is threading.current_thread()

    def close(self, patience_s: float) -> None:
        """End the thread, and wait so long at most for what it is sending."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            self._awaited = thread
            with suppress(RuntimeError):  # it has not begun
                thread.join(patience_s)
