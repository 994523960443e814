"""Finds the store that the processes of this host share, once the server is known."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final, Protocol

from cachebridge.core.host.sharing import Sharing
from cachebridge.events import event
from cachebridge.l1.shared.files import (
    NotSharedError,
    default_directory,
    open_store,
    why_no_room,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.config import EngineOptions
    from cachebridge.core.coherence import Coherence

BEATS: Final = 2
"""For so many heartbeats a process waits for another's proof."""
ON: Final = "on"
_log = logging.getLogger("cachebridge.l1")


class SharesL1(Protocol):
    """What decides whether a host can share anything of a server."""

    label: str
    has_bus: bool

    @property
    def bus_db(self) -> int:
        """The number of the database, whose keys the processes share."""

    @property
    def redis(self) -> object:
        """The server of the keys; None if that is no single Redis."""

    @property
    def bus(self) -> object:
        """The server of the messages, if there is one."""

    @property
    def replicas(self) -> object:
        """The replicas, if one of them is read from."""


def why_not_shared(stores: SharesL1) -> str:
    """Return why no process can share what it reads of these stores; empty if it can.

    All that is shared has to be of one node, the one that the messages come from.
    """
    if not hasattr(os, "geteuid"):
        return "L1_SHARED needs Linux or macOS"
    if stores.redis is None or stores.redis is not stores.bus:
        return f"L1_SHARED is for one Redis or Valkey, not for {stores.label}"
    if not stores.has_bus:
        return "L1_SHARED needs messages: BUS is 'none'"
    if stores.replicas is not None:
        return "L1_SHARED and REPLICAS exclude each other: replicas lag behind"
    return ""


class HostL1:
    """The shared store of one engine: open, or the reason why it is not."""

    def __init__(
        self,
        rules: Coherence,
        stores: SharesL1,
        options: EngineOptions,
        clock: Callable[[], float],
    ) -> None:
        wanted = options.l1_shared
        self._rules = rules
        self._wanted = wanted
        self._channel = f"cachebridge:{stores.bus_db}"
        self._clock = clock
        self._logged = ""
        self.problem = "" if wanted is None else why_not_shared(stores)
        self.is_possible = wanted is not None and not self.problem
        if self.is_possible:
            rules.sharing = Sharing(rules, patience_s=BEATS * options.bus_heartbeat)

    @property
    def state(self) -> str:
        """Empty without L1_SHARED, ``ON``, or what is not as it should be."""
        sharing = self._rules.sharing
        if sharing is None or sharing.store is None:
            return self.problem or (
                "not listening yet: no reads so far" if self._wanted else ""
            )
        return ON if sharing.is_trusted else "waits for a proof of another process"

    def foreseen_problem(self) -> str:
        """Return why nothing will be shared here, as far as can be known; else empty.

        Makes no file, and asks no server.
        """
        if self._wanted is None or not self.is_possible:
            return self.problem
        return why_no_room(
            self._wanted.directory or default_directory(), self._wanted.size
        )

    def on_run(self, run_id: str) -> None:
        """A subscription begins at this run of the server, in the bus's thread.

        With no id, it does not say which it is.
        """
        sharing, wanted = self._rules.sharing, self._wanted
        if sharing is None or wanted is None:
            return
        sharing.use(None)
        if not run_id:
            self._report("the server does not answer INFO server, which has its run_id")
            return
        try:
            directory = wanted.directory or default_directory()
            store = open_store(
                run_id, self._channel, wanted.size, directory, clock=self._clock
            )
        except NotSharedError as exc:
            self._report(str(exc))
        else:
            self.problem = ""
            sharing.use(store)

    def close(self) -> None:
        """Leave the file to the others: this process stops listening."""
        if (sharing := self._rules.sharing) is not None:
            sharing.use(None)

    def _report(self, problem: str) -> None:
        self.problem = problem
        if problem != self._logged:
            self._logged = problem
            _log.warning(
                "this process shares no L1 with others of its host: %s",
                problem,
                extra=event("l1.not_shared", reason=problem),
            )
