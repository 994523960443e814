"""The bus over Redis pub/sub: one supervised listener thread per engine.

It reads a raw connection, because redis-py's PubSub subscribes again by itself inside
``get_message`` and so hides the gap in which messages were lost.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from cachebridge.bus.session import Session
from cachebridge.bus.thread import BusThread
from cachebridge.core.notice import Notice
from cachebridge.diagnosis import diagnosis
from cachebridge.events import event
from cachebridge.resp import is_refusal
from cachebridge.texts import shown

if TYPE_CHECKING:
    from cachebridge.bus.settings import ListenerSettings

_log = logging.getLogger("cachebridge.bus")

SHOWN_REASON: Final = 1000
BACKOFF_MIN_S: Final = 0.02
BACKOFF_MAX_S: Final = 2.0


class Listener:
    """Keeps the subscription and the trust that follows from it.

    ``start`` and ``stop`` may be called from any thread; everything else happens in the
    listener's own daemon thread, which the interpreter does not wait for at exit.
    """

    def __init__(self, settings: ListenerSettings) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        self._reporting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._session: Session | None = None
        self._problem = ""
        """What the log says is wrong now."""
        self._told = Notice()

    def start(self) -> None:
        """Start the thread."""
        self._thread = BusThread(self._run, "cachebridge-listener")
        self._thread.start()

    def is_alive(self) -> bool:
        """Return whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Make the thread end soon; do not wait for it."""
        with self._reporting:
            self._stopping.set()
        if self._session is not None:
            self._session.wake()

    def break_off(self, reason: str) -> None:
        """End trust at once, and subscribe anew on a new connection."""
        if self._session is not None:
            self._session.give_up(reason)

    def renew(self) -> None:
        """Replace the subscription's connection, soon and without a gap."""
        if self._session is not None:
            self._session.renew()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread's end for at most ``timeout_s``."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    # -- the thread ------------------------------------------------------------------

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            was_up = False
            try:
                was_up = self._serve_once()
            except Exception as exc:  # noqa: BLE001 no error may end the supervisor
                self._report(exc)
            failures = 1 if was_up else failures + 1
            longest = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** min(failures - 1, 10))
            self._stopping.wait(self._settings.jitter(longest / 2, longest))

    def _serve_once(self) -> bool:
        """Serve one session until it breaks; return whether it had been up."""
        session = self._session = Session(
            self._settings, self._stopping, on_proof=self._restored
        )
        try:
            session.serve()
        except Exception as exc:  # noqa: BLE001 the same
            self._report(ConnectionError(session.gave_up) if session.gave_up else exc)
        finally:
            session.close()
        return session.was_up

    def _report(self, exc: Exception) -> None:
        """Tell the receiver about a break, and the log about each new problem.

        A stopped listener reports nothing: another may already have subscribed.
        """
        reason = shown(f"{type(exc).__name__}: {exc}{diagnosis(exc)}", SHOWN_REASON)
        with self._reporting:
            if self._stopping.is_set():
                return
            self._settings.receiver.on_break(reason)
        is_told = self._told.begins(self._settings.clock(), reason)
        if reason == self._problem or not is_told:
            return
        self._problem = reason
        level = logging.ERROR if is_refusal(exc) else logging.WARNING
        _log.log(
            level,
            "no invalidation messages on %s: %s",
            self._settings.channels.shared,
            reason,
            extra=event("bus.broken", channel=self._settings.channels.shared),
        )

    def _restored(self) -> None:
        if self._problem:
            self._problem = ""
            channel = self._settings.channels.shared
            _log.warning(
                "invalidation messages on %s again",
                channel,
                extra=event("bus.again", channel=channel),
            )
