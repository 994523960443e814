"""``cached`` on coroutine functions: what of ``cached.py`` has to await.

Line for line; a test compares them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from cachebridge.core.entry import MISSING
from cachebridge.errors import UncacheableError
from cachebridge.flask_ext.cached import CACHED_METHODS, CachedFunction, log, returned
from cachebridge.flask_ext.callbacks import awaited, plain_key
from cachebridge.flask_ext.exchanges import SessionCookie, shown_by
from cachebridge.flask_ext.lookup import Run, afind, arenew

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class AsyncCachedFunction(CachedFunction):
    """What ``cached`` knows about the coroutine function it decorates."""

    def _decorated(self) -> Callable[..., Any]:
        async def decorated(*args: Any, **kwargs: Any) -> Any:
            return await self._acall(args, kwargs)

        return decorated

    async def _arun_function(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return await self._function(*args, **kwargs)

    async def _acall(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        cache, callbacks = self._cache, self._callbacks
        run_function = partial(self._arun_function, args, kwargs)
        if callbacks.before and await callbacks.abypasses(self._function, args, kwargs):
            return await run_function()
        acting_as = self._acting_method()
        if acting_as not in CACHED_METHODS:
            return await run_function()
        try:
            key = await self._akey(args, kwargs)
            forced = callbacks.before and await callbacks.aforces(args, kwargs)
        except Exception:
            if cache.app.debug:
                raise
            log.exception("no key for %s: it runs uncached", self._function)
            return await run_function()
        value = MISSING
        if not forced and not callbacks.on_hit:
            value = cache.cache.probe(key)
        if value is MISSING or value is None:
            cookies = SessionCookie()
            function = partial(cookies.awatch, run_function)
            keeps = partial(self._akeeps, cookies)
            run = self._new_run(function, keeps, key, args, kwargs)
            is_unwanted = partial(self._ais_unwanted, args=args, kwargs=kwargs)
            if acting_as == "HEAD":
                value = await self._aread_only(key, run, forced, is_unwanted)
            else:
                value = await self._aanswer(key, run, forced, is_unwanted)
            if run.has_run:
                return returned(value)
        return self._found(value, key, args, kwargs)

    async def _aanswer(
        self, key: str, run: Run, forced: bool, is_unwanted: Callable[[Any], Any]
    ) -> Any:
        backend = self._cache.cache
        try:
            if forced:
                return await arenew(backend, key, run)
            value = await afind(backend, key, run)
            if not run.has_run and await is_unwanted(value):
                return await arenew(backend, key, run)
        except UncacheableError:
            if run.result is MISSING or self._cache.app.debug:
                raise
            log.exception("the result of %s is not kept", self._function)
            return run.result
        return value

    async def _aread_only(
        self, key: str, run: Run, forced: bool, is_unwanted: Callable[[Any], Any]
    ) -> Any:
        value = MISSING if forced else await self._cache.cache.alookup(key)
        if value is MISSING or await is_unwanted(value):
            return (await run.acarry_out())[0]
        return value

    async def _ais_unwanted(
        self, value: Any, args: tuple[Any, ...], kwargs: Any
    ) -> bool:
        if value is None and not self._cache_none:
            return True
        return self._callbacks.on_hit and await self._callbacks.arefuses(
            value, args, kwargs
        )

    async def _akeeps(self, cookies: SessionCookie, result: Any) -> bool:
        shown = shown_by(result)
        return await self._callbacks.akeeps(shown) and self._may_be_shared(
            cookies, shown
        )

    async def _akey(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        if self._make_cache_key is not None:
            return plain_key(await awaited(self._make_cache_key(*args, **kwargs)))
        make_key = self._wrapper.make_cache_key
        return plain_key(await awaited(make_key(*args, use_request=True, **kwargs)))

    async def _whole_key_later(
        self, start: Callable[[], Awaitable[str]], query_args: Any
    ) -> str:
        return self._whole_key(await start(), query_args)
