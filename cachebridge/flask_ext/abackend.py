"""The backend's asynchronous methods: translate, call the engine, translate back.

The twins of those in ``backend.py``; a test compares them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cachebridge.core.entry import ABSENT, MISSING, Missing
from cachebridge.core.loading import Loaded
from cachebridge.errors import CounterUnavailableError, MissingKeyError
from cachebridge.flask_ext.null_backend import never

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta

    from cachebridge.config import CacheOptions
    from cachebridge.core.keys import KeyPattern
    from cachebridge.core.loading import LoadTerms
    from cachebridge.engine.binding import Binding
    from cachebridge.engine.engine import Engine
    from cachebridge.engine.guarded import Guarded

INC_ATTEMPTS: Final = 3
"""Rounds of finding no number and finding one; during an outage there is no end."""


class AsyncMethods:
    """The methods of ``CacheBridgeBackend`` that begin with ``a``.

    A hit never suspends.  For tasks of any event loop.
    """

    if TYPE_CHECKING:
        _binding: Binding
        _engine: Engine
        _options: CacheOptions
        _foreground: LoadTerms
        probe: Callable[[str], Any | Missing]

        def _locate(self, key: Any) -> tuple[Guarded, str]: ...

        def _must_prolong(self, key: str, slack_s: float) -> bool: ...

        def _pattern_to_clear(self) -> KeyPattern: ...

        def ttl_ms(self, timeout: int | timedelta | None) -> int | None:
            """Return a timeout as the engine takes it."""

    # -- reading -----------------------------------------------------------------------

    async def aget(self, key: str) -> Any:
        """See ``get``."""
        value = await self.alookup(key)
        return None if value is MISSING else value

    async def alookup(self, key: str) -> Any | Missing:
        """See ``lookup``."""
        if type(key) is str:
            value = self.probe(key)
            if value is not MISSING:
                return value
        operations, full_key = self._locate(key)
        return await operations.aio.get(full_key)

    async def aget_many(self, *keys: str) -> list[Any]:
        """See ``get_many``."""
        found = await self._afind(keys)
        return [found.get(key) for key in keys]

    async def aget_dict(self, *keys: str) -> dict[str, Any]:
        """See ``get_dict``."""
        found = await self._afind(keys)
        return {key: found.get(key) for key in keys}

    async def _afind(self, keys: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        missed = list(keys)
        if self.probe is not never:
            found, missed = self._binding.probe_many(missed)
        for operations, names in self._binding.group(missed, self._locate):
            for full_key, value in (await operations.aio.get_many(names)).items():
                found[names[full_key]] = value
        return found

    async def ahas(self, key: str) -> bool:
        """See ``has``."""
        operations, full_key = self._locate(key)
        return await operations.aio.has_key(full_key)

    async def aget_or_load(
        self,
        key: str,
        loader: Callable[[], Any],
        timeout: int | timedelta | None = None,
        *,
        default: Any = None,
        lease_ttl: float | None = None,
        stale_ttl: float | None = None,
        stale_if_error: float | None = None,
        negative_ttl: float | None = None,
        early_refresh: float | None = None,
    ) -> Any:
        """See ``get_or_load``; the loader may be a coroutine function."""
        if type(key) is str:
            value = self.probe(key)
            if value is not MISSING:
                return value
        operations, full_key = self._locate(key)
        terms = self._binding.terms_with(
            lease_ttl=lease_ttl,
            stale_ttl=stale_ttl,
            stale_if_error=stale_if_error,
            negative_ttl=negative_ttl,
            early_refresh=early_refresh,
        )
        ttl_ms = self.ttl_ms(timeout)
        value = await operations.aio.get_or_load(full_key, loader, ttl_ms, terms)
        return default if value is ABSENT else value

    async def aload_here(
        self, key: str, loader: Callable[[], Any], timeout: int | timedelta | None
    ) -> Any:
        """See ``load_here``; the loader runs in this very task."""
        value = self.probe(key)
        if value is not MISSING:
            return value
        operations, full_key = self._locate(key)
        ttl_ms = self.ttl_ms(timeout)
        value = await operations.aio.get_or_load(
            full_key, loader, ttl_ms, self._foreground
        )
        return value.value if isinstance(value, Loaded) else value

    # -- writing -----------------------------------------------------------------------

    async def aset(
        self, key: str, value: Any, timeout: int | timedelta | None = None
    ) -> bool | None:
        """See ``set``."""
        operations, full_key = self._locate(key)
        return await operations.aio.set(full_key, value, self.ttl_ms(timeout))

    async def aadd(
        self, key: str, value: Any, timeout: int | timedelta | None = None
    ) -> bool:
        """See ``add``."""
        operations, full_key = self._locate(key)
        return await operations.aio.add(full_key, value, self.ttl_ms(timeout))

    async def aset_many(
        self, mapping: Mapping[str, Any], timeout: int | timedelta | None = None
    ) -> list[Any]:
        """See ``set_many``."""
        ttl_ms = self.ttl_ms(timeout)
        failed: set[Any] = set()
        for operations, names in self._binding.group(mapping, self._locate):
            values = {full_key: mapping[key] for full_key, key in names.items()}
            refused = await operations.aio.set_many(values, ttl_ms)
            failed.update(names[each] for each in refused)
        return [key for key in mapping if key not in failed]

    async def atouch(self, key: str, timeout: int | timedelta | None = None) -> bool:
        """See ``touch``."""
        operations, full_key = self._locate(key)
        return await operations.aio.touch(full_key, self.ttl_ms(timeout))

    async def akeep_alive(
        self, key: str, timeout: int, slack_s: float, *, is_new: bool = False
    ) -> None:
        """See ``keep_alive``."""
        is_due = self._must_prolong(key, slack_s)
        if is_due and (not is_new or self._options.ttl_jitter):
            await self.atouch(key, timeout)

    async def adelete(self, key: str) -> bool:
        """See ``delete``."""
        operations, full_key = self._locate(key)
        return await operations.aio.delete(full_key)

    async def adelete_many(self, *keys: str) -> list[Any]:
        """See ``delete_many``."""
        owed = self._engine.outage.debts
        gone: set[Any] = set()
        for operations, names in self._binding.group(keys, self._locate):
            await operations.aio.delete_many(names)
            gone.update(
                name for each, name in names.items() if not owed.concern([each])
            )
        return [key for key in keys if key in gone]

    async def aunlink(self, *keys: str) -> int:
        """See ``unlink``."""
        return sum(
            [
                await operations.aio.delete_many(names)
                for operations, names in self._binding.group(keys, self._locate)
            ]
        )

    async def ainc(self, key: str, delta: int = 1) -> int | None:
        """See ``inc``."""
        operations, full_key = self._locate(key)
        for _ in range(INC_ATTEMPTS):
            try:
                return int(await operations.aio.incr(full_key, delta))
            except CounterUnavailableError:
                return None
            except MissingKeyError:
                if await operations.aio.add(full_key, delta, None):
                    return delta
        return None

    async def adec(self, key: str, delta: int = 1) -> int | None:
        """See ``dec``."""
        return await self.ainc(key, -delta)

    async def aclear(self) -> bool:
        """See ``clear``."""
        if self._options.clear_flushes_db:
            return await self._binding.coherent.aio.flush_db()
        return await self._binding.coherent.aio.clear(self._pattern_to_clear())
