"""The bus over Redis pub/sub: one supervised listener thread per engine.

It reads a raw connection, because redis-py's PubSub subscribes again by itself inside
``get_message`` and so hides the gap in which messages were lost.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from redis.exceptions import ResponseError

from cachebridge.bus.session import Session

if TYPE_CHECKING:
    from cachebridge.bus.session import ListenerSettings

_log = logging.getLogger("cachebridge.bus")

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

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(
            target=self._run, name="cachebridge-listener", daemon=True
        )
        self._thread.start()

    def is_alive(self) -> bool:
        """Tell whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Make the thread end soon; do not wait for it."""
        with self._reporting:
            self._stopping.set()
        if self._session is not None:
            self._session.wake()

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
            except Exception as exc:  # noqa: BLE001 the supervisor: nothing may end it
                self._report(exc)
            failures = 1 if was_up else failures + 1
            longest = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** min(failures - 1, 10))
            self._stopping.wait(self._settings.jitter(longest / 2, longest))

    def _serve_once(self) -> bool:
        """Serve one session until it breaks; tell whether it had been up."""
        session = self._session = Session(
            self._settings, self._stopping, on_proof=self._restored
        )
        try:
            session.serve()
        except Exception as exc:  # noqa: BLE001 the same
            self._report(exc)
        finally:
            session.close()
        return session.was_up

    def _report(self, exc: Exception) -> None:
        """Tell the receiver about a break, and the log about each new problem.

        Not once it is stopped: then another listener may already have subscribed.
        """
        reason = f"{type(exc).__name__}: {exc}"
        with self._reporting:
            if self._stopping.is_set():
                return
            self._settings.receiver.on_break(reason)
        if reason == self._problem:
            return
        self._problem = reason
        level = logging.ERROR if isinstance(exc, ResponseError) else logging.WARNING
        _log.log(
            level,
            "no invalidation messages on %s: %s",
            self._settings.channels.shared,
            reason,
        )

    def _restored(self) -> None:
        if self._problem:
            self._problem = ""
            _log.warning(
                "invalidation messages on %s again", self._settings.channels.shared
            )
