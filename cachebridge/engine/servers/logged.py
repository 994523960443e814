"""A server whose comings and goings are logged, and nothing more."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from cachebridge.events import event

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger("cachebridge.engine")


class Logged:
    """See ``BreakerWatcher``."""

    def __init__(self, label: str, *, away: str, back: str) -> None:
        """The texts say what its being away means, and its coming back."""
        self._label = label
        self._away = away
        self._back = back

    def on_open(self, reason: str, since: float) -> Callable[[], None]:  # noqa: ARG002
        """See ``BreakerWatcher``."""
        told = event("server.away", location=self._label)
        text = "%s %s: %s"
        return partial(_log.warning, text, self._label, self._away, reason, extra=told)

    def on_close(self) -> Callable[[], None]:
        """See ``BreakerWatcher``."""
        told = event("server.back", location=self._label)
        return partial(_log.warning, "%s %s", self._label, self._back, extra=told)
