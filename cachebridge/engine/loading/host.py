"""What loads need of the engine around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from cachebridge.engine.removals import OperationsHost

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.core.lease import LeaseGet
    from cachebridge.core.outage import PendingKeys
    from cachebridge.engine.loading.refresh import Refresher
    from cachebridge.engine.loading.single_flight import SingleFlight
    from cachebridge.engine.loading.slots import LoadSlots
    from cachebridge.engine.loading.task_refresh import TaskRefresher
    from cachebridge.errors import L2Error


class OutageLog(Protocol):
    """What a load reports of an outage."""

    refusals: dict[str, tuple[str, float]]

    @property
    def pending_deletes(self) -> PendingKeys:
        """Keys whose delete is pending."""

    def note(self, exc: L2Error, kind: str) -> None:
        """Count and log that L2 has failed."""

    def accepted(self, kind: str) -> None:
        """Note that L2 accepts loaded values again."""


class LoadHost(OperationsHost, Protocol):
    """What loads need of their engine."""

    single_flight: SingleFlight
    load_slots: LoadSlots
    clock: Callable[[], float]

    @property
    def outage(self) -> OutageLog:
        """Counts and logs outages."""

    refresher: Refresher
    task_refresher: TaskRefresher

    def is_refreshing(self, key: str) -> bool:
        """Return whether this process loads the key anew in the background."""


class LoadStarter(Protocol):
    """Starts loads in the background: ``loading.Loading``."""

    def refresh(self, load: Any, lease: LeaseGet) -> None:
        """Load the value anew, in the background."""

    async def abandon(self, load: Any, lease: LeaseGet) -> None:
        """Give the lease back of a load that is broken off."""
