"""``memoize`` on coroutine functions: what of ``memoize.py`` has to await.

Line for line; a test compares them.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

from cachebridge.core.entry import MISSING
from cachebridge.flask_ext.callbacks import awaited
from cachebridge.flask_ext.lookup import Run, afind, arenew
from cachebridge.flask_ext.memoize import SLACK, MemoizedFunction, new_version
from cachebridge.flask_ext.signals import cache_memoize_hit

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.flask_ext.lookup import Backend


class AsyncMemoizedFunction(MemoizedFunction):
    """What ``memoize`` knows about the function it decorates, for tasks, too.

    Plain functions need it as well: tasks delete their entries.
    """

    def wrapper(self) -> Any:
        """Return the function that takes the decorated one's place."""
        wrapper = super().wrapper()
        wrapper.amake_cache_key = self.amake_key
        return wrapper

    def _decorated(self) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(self._function):
            return self._adecorated()
        return super()._decorated()

    def _adecorated(self) -> Callable[..., Any]:
        cache, key_of = self._cache, self._akey
        asks = self._callbacks.before or self._callbacks.on_hit

        async def decorated(*args: Any, **kwargs: Any) -> Any:
            if asks or not self._shape.admits(args, kwargs):
                return await self._acall(args, kwargs)
            backend = cache.cache
            try:
                key = await key_of(backend, args, kwargs)
            except Exception as exc:  # noqa: BLE001 it is raised, or logged
                return await self._arun_without_key(exc, args, kwargs)
            value = backend.probe(key)
            if value is MISSING or cache.enable_signals or value is None:
                return await self._afind(backend, key, args, kwargs)
            return value

        return decorated

    async def _arun_function(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return await self._function(*args, **kwargs)

    async def _acall(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        sound = self._shape.admits(args, kwargs)
        if not sound or await self._callbacks.abypasses(self._function, args, kwargs):
            return await self._arun_function(args, kwargs)
        backend = self._cache.cache
        try:
            forced = await self._callbacks.aforces(args, kwargs)
            key = await self._akey(backend, args, kwargs)
        except Exception as exc:  # noqa: BLE001 it is raised, or logged
            return await self._arun_without_key(exc, args, kwargs)
        if forced:
            run = self._anew_run(key, args, kwargs)
            return await self._adone(backend, await arenew(backend, key, run), args)
        return await self._afind(backend, key, args, kwargs)

    async def _arun_without_key(
        self, exc: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        self._raise_or_log(exc)
        return await self._arun_function(args, kwargs)

    async def _afind(
        self, backend: Backend, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        run = self._anew_run(key, args, kwargs)
        value = await afind(backend, key, run)
        if not run.has_run and await self._ais_unwanted(value, args, kwargs):
            value = await arenew(backend, key, run)
        if run.has_run:
            return await self._adone(backend, value, args)
        self._tell(cache_memoize_hit, key, args, kwargs)
        return value

    def _anew_run(self, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
        function = partial(self._arun_function, args, kwargs)
        return self._run_of(function, self._callbacks.akeeps, key, args, kwargs)

    async def _ais_unwanted(
        self, value: Any, args: tuple[Any, ...], kwargs: Any
    ) -> bool:
        if value is None and not self._cache_none:
            return True
        return self._callbacks.on_hit and await self._callbacks.arefuses(
            value, args, kwargs
        )

    async def _adone(self, backend: Backend, value: Any, args: tuple[Any, ...]) -> Any:
        timeout = self._version_timeout(backend)
        if timeout > 0:
            for key in self._version_keys(args):
                await backend.akeep_alive(key, timeout, timeout / (SLACK + 1))
        return value

    # -- keys ------------------------------------------------------------------------

    async def amake_key(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
        """See ``make_key``."""
        return await self._of(f)._akey(self._cache.cache, args, kwargs)  # noqa: SLF001 its own

    async def _akey(
        self, backend: Backend, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> str:
        version = self._version_at_hand(backend, args)
        if version is MISSING:
            version = await self._aversions(backend, args)
        name = self._namespace
        if self._make_name is not None:
            name = await awaited(self._make_name(name))
        return self._key_of(name, version, args, kwargs)

    async def _aversions(self, backend: Backend, args: tuple[Any, ...]) -> str:
        keys = self._version_keys(args)
        found: list[Any] = [backend.probe(key) for key in keys]
        if MISSING in found:
            found = await backend.aget_many(*keys)
        for position, version in enumerate(found):
            if type(version) is not str:
                found[position] = await self._anew_version(backend, keys[position])
        return "".join(found)

    async def _anew_version(self, backend: Backend, key: str) -> str:
        timeout = self._version_timeout(backend)
        version = new_version()
        kept = await backend.aload_here(key, lambda: version, timeout)
        if kept == version and timeout > 0:
            await backend.akeep_alive(key, timeout, timeout / (SLACK + 1), is_new=True)
        return str(kept)
