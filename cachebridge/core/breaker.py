"""The circuit breaker: a shared store that is away costs microseconds, not timeouts.

Closed, every call goes through.  After some failures in a row it opens: calls fail at
once, save for one trial now and then.  The first answer to any command closes it again.
The bus's heartbeat is none, it needs no new connection; but it has one sent in the
background, so that a caller seldom has to be the trial.

Source: M. Nygard, Release It!, 2007, "Circuit Breaker".
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Protocol

from cachebridge.errors import L2UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

RETRY_MAX_S: Final = 10.0


class BreakerWatcher(Protocol):
    """Told of each change of state, in the thread that causes it, one at a time.

    What it returns, if anything, is called when nothing is locked any more.
    """

    def on_open(self, reason: str, since: float) -> Callable[[], None] | None:
        """The store is away; ``since`` is the time of the first failure."""

    def on_close(self) -> Callable[[], None] | None:
        """The store has answered; the caller has not seen the answer yet."""


class Breaker:
    """Thread safe.  ``failures`` of 0 as the threshold never opens.

    Users ask ``is_open`` before each call, and call ``admit`` if so; afterwards
    ``fail``, or ``succeed`` if ``failures`` is not 0.
    """

    kind: type[L2UnavailableError] = L2UnavailableError
    """What is raised while the server is away; a client may know more of its kind."""

    def __init__(
        self,
        *,
        threshold: int,
        retry_s: float,
        clock: Callable[[], float],
        jitter: Callable[[float, float], float],
        watcher: BreakerWatcher,
    ) -> None:
        self._threshold = threshold
        self._first_retry_s = retry_s
        self._clock = clock
        self._jitter = jitter
        self._watcher = watcher
        self.reset()

    def reset(self) -> None:
        """Begin closed (also after a fork), without a report."""
        self._lock = threading.Lock()
        self._retry_s = self._first_retry_s
        self._retry_at = 0.0
        self.failures = 0
        self._failing_since = 0.0
        self.is_open = False
        self.reason = ""

    def sibling(self, watcher: BreakerWatcher) -> Breaker:
        """Make another with the same settings, for one server of several."""
        return Breaker(
            threshold=self._threshold,
            retry_s=self._first_retry_s,
            clock=self._clock,
            jitter=self._jitter,
            watcher=watcher,
        )

    def refuses(self) -> bool:
        """Return cheaply whether ``admit`` would raise."""
        return self.is_open and self._clock() < self._retry_at

    def admit(self) -> None:
        """Let one caller through as the half-open trial when it is time, refuse others.

        Raises L2UnavailableError.
        """
        with self._lock:
            if not self.is_open:
                return
            wait_s = self._retry_at - self._clock()
            if wait_s <= 0:
                self._schedule()
                return
        refusal = self.kind(
            f"not asked, it is away (next try in {wait_s:.1f} s): {self.reason}"
        )
        refusal.is_unsent = True
        raise refusal

    def fail(self, reason: str) -> None:
        """Note that the store could not be reached, or not in time."""
        with self._lock:
            self._count(self.failures + 1, reason)
            if self.is_open or not 0 < self._threshold <= self.failures:
                return
            report = self._open(reason)
        if report is not None:
            report()

    def trip(self, reason: str) -> Callable[[], None] | None:
        """Open at once, the store is known to be away; returns the watcher's report."""
        with self._lock:
            self._count(max(self.failures, 1), reason)
            return None if self.is_open else self._open(reason)

    def _count(self, failures: int, reason: str) -> None:
        if not self.failures:
            self._failing_since = self._clock()
        self.failures = failures
        self.reason = reason

    def _open(self, reason: str) -> Callable[[], None] | None:
        self._retry_s = self._first_retry_s
        self._schedule()
        self.is_open = True
        return self._watcher.on_open(reason, self._failing_since)

    def succeed(self) -> None:
        """Note that the store has answered."""
        report = self.close()
        if report is not None:
            report()

    def close(self) -> Callable[[], None] | None:
        """Close, for a caller that holds a lock; return the watcher's report."""
        report = None
        with self._lock:
            if self.is_open:
                report = self._watcher.on_close()
                self.is_open = False
            # Last: a caller that sees 0 does not come here: all this must be done.
            self.failures = 0
        return report

    def _schedule(self) -> None:
        """Set the time of the next trial, later each time."""
        wait_s = self._jitter(0.8 * self._retry_s, self._retry_s)
        self._retry_at = self._clock() + wait_s
        self._retry_s = min(2 * self._retry_s, max(RETRY_MAX_S, self._first_retry_s))
