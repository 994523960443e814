"""Several servers that fail one by one: which are away, and when all are."""

from __future__ import annotations

import logging
import threading
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from cachebridge.errors import L2Error, L2UnavailableError
from cachebridge.events import event

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import TypeAlias

    from cachebridge.core.breaker import Breaker

    Report: TypeAlias = Callable[[], None]

_log = logging.getLogger("cachebridge.l2")


QUICK_S: Final = 0.1
"""A server that refuses connections has said so by then."""


async def ping_any(
    servers: Iterable[tuple[Breaker, Callable[[], Awaitable[object]]]],
) -> None:
    """Ask servers whether they answer, each by its function; raise if none does.

    So that a caller waits for one timeout, not for one of each, servers that are known
    to be away are asked last, and only while the answers come quickly.  Raises the
    first L2Error.
    """
    began, answers = monotonic(), False
    failures: list[L2Error] = []
    for breaker, ping in sorted(servers, key=lambda server: server[0].is_open):
        if failures and breaker.is_open and monotonic() - began > QUICK_S:
            break
        try:
            await ping()
            answers = True
        except L2Error as exc:
            failures.append(exc)
    if not answers:
        raise next(iter(failures), L2UnavailableError("there are no servers"))


class ServerGroup:
    """The servers of one store, by label.  Thread safe."""

    def __init__(self, breaker: Breaker) -> None:
        """``breaker`` is the store's: open while no server answers."""
        self._breaker = breaker
        self._members: frozenset[str] = frozenset()
        self.reset()

    def reset(self) -> None:
        """Begin anew in the child of a fork: all servers are there."""
        self._lock = threading.Lock()
        self._away: set[str] = set()
        self._breaker.reset()

    def breaker_for(self, label: str) -> Breaker:
        """Make the breaker of one of the servers."""
        return self._breaker.sibling(_Watcher(self, label))

    def set_members(self, labels: Iterable[str], away: Iterable[str] = ()) -> None:
        """Say which servers there are now, and which new ones are ``away`` already."""
        with self._lock:
            self._members = frozenset(labels)
            self._away = {*self._away, *away} & self._members
            all_away = bool(self._members) and self._away == self._members
            report = None if all_away else self._breaker.close()
        if report is not None:
            report()

    def on_away(self, label: str, reason: str) -> Report | None:
        """Note that a server is away; if it was the last, there is an outage."""
        with self._lock:
            if label not in self._members:
                return None
            self._away.add(label)
            all_away = self._away == self._members
            return self._breaker.trip(reason) if all_away else None

    def on_back(self, label: str) -> Report | None:
        """Note that a server has answered again: then the store is there."""
        with self._lock:
            self._away.discard(label)
            return self._breaker.close() if label in self._members else None


class _Watcher:
    """Logs what happens to one server of several, and tells the group."""

    def __init__(self, group: ServerGroup, label: str) -> None:
        self._group = group
        self._label = label

    def on_open(self, reason: str, since: float) -> Report:  # noqa: ARG002
        """See ``BreakerWatcher``."""
        report = self._group.on_away(self._label, reason)
        text = "%s is away, its keys are degraded: %s"
        told = event("server.away", location=self._label)
        return partial(_say, report, told, text, self._label, reason)

    def on_close(self) -> Report:
        """See ``BreakerWatcher``."""
        report = self._group.on_back(self._label)
        told = event("server.back", location=self._label)
        return partial(_say, report, told, "%s is back", self._label)


def _say(report: Report | None, told: dict[str, Any], text: str, *args: str) -> None:
    """Log, now that no lock is held, and let the group report."""
    _log.warning(text, *args, extra=told)
    if report is not None:
        report()
