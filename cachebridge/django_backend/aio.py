"""Django's asynchronous cache methods: translate, call the engine, translate back.

The twins of those in ``backend.py``; a test compares them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT

from cachebridge.core.entry import ABSENT, MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cachebridge.core.keys import KeyPattern
    from cachebridge.engine.binding import Binding
    from cachebridge.engine.guarded import Guarded


class AsyncMethods:
    """The methods of ``CacheBridge`` that begin with ``a``.  A hit never suspends.

    ``aincr_version``, ``adecr_version`` and ``aclose`` are Django's own, made of these.
    """

    if TYPE_CHECKING:
        _binding: Binding
        _probe: Callable[[str], Any]

        def _locate(self, key: Any, version: int | None) -> tuple[Guarded, str]: ...

        def _locate_many(
            self, keys: list[Any], version: int | None
        ) -> tuple[list[str], dict[Guarded, list[str]]]: ...

        def _probe_many(
            self, keys: list[Any], version: int | None
        ) -> tuple[dict[Any, Any], list[Any]]: ...

        def _group(
            self, keys: Iterable[Any], version: int | None
        ) -> list[tuple[Guarded, dict[str, Any]]]: ...

        def _ttl_ms(self, timeout: Any) -> int | None: ...

        def _sure_pattern(self) -> KeyPattern: ...

    # -- reading -----------------------------------------------------------------------

    async def aget(
        self, key: Any, default: Any = None, version: int | None = None
    ) -> Any:
        """See ``get``."""
        if version is None and type(key) is str:
            value = self._probe(key)
            if value is not MISSING:
                return value
        operations, full_key = self._locate(key, version)
        value = await operations.aio.get(full_key)
        return default if value is MISSING else value

    async def aget_many(
        self, keys: Iterable[Any], version: int | None = None
    ) -> dict[Any, Any]:
        """See ``get_many``."""
        wanted = list(keys)
        found, missed = self._probe_many(wanted, version)
        if not missed:
            return found
        full_keys, names = self._locate_many(missed, version)
        values: dict[str, Any] = {}
        for operations, group in names.items():
            values.update(await operations.aio.get_many(group))
        for key, full_key in zip(missed, full_keys, strict=True):
            if full_key in values:
                found[key] = values[full_key]
        return in_order(found, wanted, missed)

    async def ahas_key(self, key: Any, version: int | None = None) -> bool:
        """See ``has_key``."""
        operations, full_key = self._locate(key, version)
        return await operations.aio.has_key(full_key)

    async def aget_or_set(
        self,
        key: Any,
        default: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> Any:
        """See ``get_or_set``; ``default`` may be a coroutine function."""
        if version is None and type(key) is str:
            value = self._probe(key)
            if value is not MISSING:
                return value
        loader = default if callable(default) else lambda: default
        return await self.aget_or_load(key, loader, timeout, version)

    async def aget_or_load(  # noqa: PLR0917 as its twin
        self,
        key: Any,
        loader: Callable[[], Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        default: Any = None,
        lease_ttl: float | None = None,
        stale_ttl: float | None = None,
        stale_if_error: float | None = None,
        negative_ttl: float | None = None,
        early_refresh: float | None = None,
    ) -> Any:
        """See ``get_or_load``; the loader may be a coroutine function."""
        if version is None and type(key) is str:
            value = self._probe(key)
            if value is not MISSING:
                return value
        operations, full_key = self._locate(key, version)
        terms = self._binding.terms_with(
            lease_ttl=lease_ttl,
            stale_ttl=stale_ttl,
            stale_if_error=stale_if_error,
            negative_ttl=negative_ttl,
            early_refresh=early_refresh,
        )
        ttl_ms = self._ttl_ms(timeout)
        value = await operations.aio.get_or_load(full_key, loader, ttl_ms, terms)
        return default if value is ABSENT else value

    # -- writing -----------------------------------------------------------------------

    async def aadd(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> bool:
        """See ``add``."""
        operations, full_key = self._locate(key, version)
        return await operations.aio.add(full_key, value, self._ttl_ms(timeout))

    async def aset(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> None:
        """See ``set``."""
        operations, full_key = self._locate(key, version)
        await operations.aio.set(full_key, value, self._ttl_ms(timeout))

    async def aset_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> list[Any]:
        """See ``set_many``."""
        ttl_ms = self._ttl_ms(timeout)
        failed: list[Any] = []
        for operations, names in self._group(data, version):
            refused = await operations.aio.set_many(
                {full_key: data[key] for full_key, key in names.items()}, ttl_ms
            )
            failed += [names[full_key] for full_key in refused]
        return failed

    async def atouch(
        self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """See ``touch``."""
        operations, full_key = self._locate(key, version)
        return await operations.aio.touch(full_key, self._ttl_ms(timeout))

    async def aincr(self, key: Any, delta: Any = 1, version: int | None = None) -> Any:
        """See ``incr``."""
        operations, full_key = self._locate(key, version)
        return await operations.aio.incr(full_key, delta)

    async def adecr(self, key: Any, delta: Any = 1, version: int | None = None) -> Any:
        """See ``decr``."""
        return await self.aincr(key, -delta, version)

    async def adelete(self, key: Any, version: int | None = None) -> bool:
        """See ``delete``."""
        operations, full_key = self._locate(key, version)
        return await operations.aio.delete(full_key)

    async def adelete_many(
        self, keys: Iterable[Any], version: int | None = None
    ) -> None:
        """See ``delete_many``."""
        for operations, names in self._group(keys, version):
            await operations.aio.delete_many(names)

    async def aclear(self) -> bool | None:
        """See ``clear``."""
        binding = self._binding
        if binding.options.clear_flushes_db:
            return None if await binding.coherent.aio.flush_db() else False
        return None if await binding.coherent.aio.clear(self._sure_pattern()) else False


def in_order(
    found: dict[Any, Any], wanted: list[Any], missed: list[Any]
) -> dict[Any, Any]:
    """Return what was found in the order asked for: L1's answers came first."""
    if len(missed) == len(wanted):
        return found
    return {key: found[key] for key in wanted if key in found}
