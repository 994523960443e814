"""The watch over failovers: one thread per engine that asks sentinels, or a cluster.

To ask when connecting is not enough: after a planned failover the old master goes on
to take writes for ten seconds, and they are lost.  A subscription to ``+switch-master``
would be no better: the event comes when the failover has ended, a second after the
promotion, and it is lost while a sentinel is away.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Final

from cachebridge.bus.thread import BusThread, is_bus_thread
from cachebridge.events import event

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger("cachebridge.bus")

INTERVAL_S: Final = 0.5
"""How often it asks, in seconds."""
PAUSE_S: Final = 0.05
"""How often at most."""


class MasterWatch:
    """Asks again and again whether the master has moved.  Thread safe; never raises.

    ``moved`` asks, and returns a reason for people if it has; ``on_move`` is called
    with it.
    """

    def __init__(
        self,
        moved: Callable[[], str],
        *,
        on_move: Callable[[str], None],
        on_tick: Callable[[], None],
        label: str,
    ) -> None:
        self._moved = moved
        self._on_move = on_move
        self._on_tick = on_tick
        self._label = label
        self.reset()

    def reset(self) -> None:
        """Forget the thread, which in the child of a fork does not run."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._problem = ""

    def start(self) -> None:
        """Start the thread for a caller, unless the interpreter is about to end.

        Threads of the bus connect as well, perhaps while they are stopped.
        """
        if self._pid != os.getpid():
            self.reset()
        with self._lock:
            if self.is_alive() and not self._stopping.is_set():
                return
            if is_bus_thread():
                return  # a caller has started it, and may have stopped it since
            self._stopping = threading.Event()
            thread = BusThread(self._run, "cachebridge-watch", self._stopping)
            try:
                thread.start()
            except RuntimeError:
                return
            self._thread = thread

    def is_alive(self) -> bool:
        """Return whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Make the thread end soon; do not wait for it."""
        self._stopping.set()
        self._hurry.set()

    def hurry(self) -> None:
        """Ask as soon as possible."""
        self._hurry.set()

    def _run(self, stopping: threading.Event) -> None:
        while not stopping.wait(PAUSE_S):
            self._hurry.wait(INTERVAL_S - PAUSE_S)
            self._hurry.clear()
            if stopping.is_set():
                return
            try:
                reason = self._moved()
                if reason and not stopping.is_set():
                    told = event("server.moved", location=self._label)
                    _log.warning("%s: %s", self._label, reason, extra=told)
                    self._on_move(reason)
                self._report("")
            except Exception as exc:  # noqa: BLE001 no error may end the watch
                self._report(f"{type(exc).__name__}: {exc}")
            self._on_tick()

    def _report(self, problem: str) -> None:
        """Log each new problem once, and its end."""
        if problem == self._problem:
            return
        if not self._problem or not problem:
            text = problem or "is watched for failovers again"
            name = "watch.broken" if problem else "watch.again"
            told = event(name, location=self._label)
            _log.warning("%s: %s", self._label, text, extra=told)
        self._problem = problem
