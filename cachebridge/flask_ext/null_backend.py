"""The backend that keeps nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachelib import NullCache

from cachebridge.core.entry import ABSENT, MISSING, Missing
from cachebridge.core.loading import Loaded
from cachebridge.core.ttl import to_milliseconds
from cachebridge.flask_ext.callbacks import awaited

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

    async def aload_here(
        self,
        key: str,  # noqa: ARG002 the signature of the backend that keeps something
        loader: Callable[[], Any],
        timeout: int | timedelta | None,  # noqa: ARG002 the same
    ) -> Any:
        """Run the loader, a plain one or a coroutine function."""
        loaded = await awaited(loader())
        return loaded.value if isinstance(loaded, Loaded) else loaded

    async def aget_or_load(
        self,
        key: str,
        loader: Callable[[], Any],
        timeout: int | timedelta | None = None,
        *,
        default: Any = None,
        **_terms: float | None,
    ) -> Any:
        """Run the loader, a plain one or a coroutine function."""
        value = await self.aload_here(key, loader, timeout)
        return default if value is ABSENT else value

    def keep_alive(
        self, key: str, timeout: int, slack_s: float, *, is_new: bool = False
    ) -> None:
        """Do nothing: there is no key."""

    def ttl_ms(self, timeout: int | timedelta | None) -> int | None:
        """Return a timeout in milliseconds."""
        seconds = self._normalize_timeout(timeout)
        return None if seconds == 0 else to_milliseconds(seconds)

    # -- the same for tasks: nothing of it waits ---------------------------------------

    async def alookup(self, key: str) -> Missing:
        """See ``lookup``."""
        return self.lookup(key)

    async def aget(self, key: str) -> Any:
        """See ``get``."""
        return self.get(key)

    async def aget_many(self, *keys: str) -> list[Any]:
        """See ``get_many``."""
        return self.get_many(*keys)

    async def aget_dict(self, *keys: str) -> dict[str, Any]:
        """See ``get_dict``."""
        return self.get_dict(*keys)

    async def ahas(self, key: str) -> bool:
        """See ``has``."""
        return self.has(key)

    async def aset(
        self, key: str, value: Any, timeout: int | timedelta | None = None
    ) -> bool | None:
        """See ``set``."""
        return self.set(key, value, timeout)

    async def aadd(
        self, key: str, value: Any, timeout: int | timedelta | None = None
    ) -> bool:
        """See ``add``."""
        return self.add(key, value, timeout)

    async def aset_many(
        self, mapping: dict[str, Any], timeout: int | timedelta | None = None
    ) -> list[Any]:
        """See ``set_many``."""
        return self.set_many(mapping, timeout)

    async def adelete(self, key: str) -> bool:
        """See ``delete``."""
        return self.delete(key)

    async def adelete_many(self, *keys: str) -> list[Any]:
        """See ``delete_many``."""
        return self.delete_many(*keys)

    async def aclear(self) -> bool:
        """See ``clear``."""
        return self.clear()

    async def akeep_alive(
        self, key: str, timeout: int, slack_s: float, *, is_new: bool = False
    ) -> None:
        """See ``keep_alive``."""
