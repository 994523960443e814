"""Has L1 up when a test begins, and adds up what it did for the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils.module_loading import import_string
from inside.bus import Canary

if TYPE_CHECKING:
    from inside.plan import Plan


class Watch:
    """Counts over all tests, from the statistics of the caches that settings name.

    A cache that only one method's settings name is not seen.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._make = import_string(plan.backend)
        self._before: dict[str, tuple[Canary, int, int]] = {}
        self.l1_hits = 0
        self.messages_sent = 0

    def begin(self) -> None:
        """Note the figures before a test; with remote writes, writing is not for us."""
        self._before = {}
        for location, params in self._served().items():
            canary = Canary(self._make, location, params)
            if not canary.is_needed:
                continue
            if not self._plan.remote_writes:
                canary.hold(lambda canary=canary: canary.set(0))
            hits = canary.stats().l1_hits - Canary.hits
            self._before[location] = canary, hits, canary.stats().messages_sent

    def end(self) -> None:
        """Add what has come since begin()."""
        for canary, hits, sent in self._before.values():
            now = canary.stats()
            self.l1_hits += max(0, now.l1_hits - Canary.hits - hits)
            self.messages_sent += max(0, now.messages_sent - sent)

    def _served(self) -> dict[str, dict[str, Any]]:
        return {
            params["LOCATION"]: params
            for params in settings.CACHES.values()
            if params["BACKEND"] == self._plan.serving
        }
