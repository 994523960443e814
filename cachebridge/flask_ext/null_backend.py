"""The backend that keeps nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachelib import NullCache

from cachebridge.core.entry import ABSENT, MISSING, Missing
from cachebridge.core.loading import Loaded
from cachebridge.core.ttl import to_milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta


def never(_key: str) -> Missing:
    """Find nothing: the probe of a cache without one."""
    return MISSING


class NullBackend(NullCache):
    """A cache that keeps nothing, for ``CACHE_TYPE = "NullCache"``."""

    probe: Callable[[str], Missing]

    def __init__(self, default_timeout: int | timedelta = 300) -> None:
        super().__init__(default_timeout)
        self.probe = never

    def lookup(self, key: str) -> Missing:
        """Find nothing."""
        return never(key)

    def get_or_load(
        self,
        key: str,
        loader: Callable[[], Any],
        timeout: int | timedelta | None = None,
        *,
        default: Any = None,
        **_terms: float | None,
    ) -> Any:
        """Run the loader."""
        value = self.load_here(key, loader, timeout)
        return default if value is ABSENT else value

    def load_here(
        self,
        key: str,  # noqa: ARG002 the signature of the backend that keeps something
        loader: Callable[[], Any],
        timeout: int | timedelta | None,  # noqa: ARG002 the same
    ) -> Any:
        """Run the loader."""
        loaded = loader()
        return loaded.value if isinstance(loaded, Loaded) else loaded

    def keep_alive(
        self, key: str, timeout: int, slack_s: float, *, is_new: bool = False
    ) -> None:
        """Do nothing: there is no key."""

    def ttl_ms(self, timeout: int | timedelta | None) -> int | None:
        """Return a timeout in milliseconds."""
        seconds = self._normalize_timeout(timeout)
        return None if seconds == 0 else to_milliseconds(seconds)
