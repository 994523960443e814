"""The asynchronous methods of ``Cache``, and what they share with the others.

The twins of those in ``extension.py``; a test compares them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachebridge.flask_ext.callbacks import awaited
from cachebridge.flask_ext.memoize import aforget_version
from cachebridge.flask_ext.naming import positional_names
from cachebridge.flask_ext.null_backend import NullBackend

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import timedelta

    from cachebridge.flask_ext.lookup import Backend


class AsyncMethods:
    """The methods of ``Cache`` that begin with ``a``.  A hit never suspends."""

    if TYPE_CHECKING:

        @property
        def cache(self) -> Backend:
            """That of ``Cache``."""

    async def aget(self, key: str) -> Any:
        """See ``get``."""
        return await self.cache.aget(key)

    async def aget_many(self, *keys: str) -> list[Any]:
        """See ``get_many``."""
        return await self.cache.aget_many(*keys)

    async def aget_dict(self, *keys: str) -> dict[str, Any]:
        """See ``get_dict``."""
        return await self.cache.aget_dict(*keys)

    async def ahas(self, key: str) -> bool:
        """See ``has``."""
        return await self.cache.ahas(key)

    async def aset(
        self, key: str, value: Any, timeout: int | timedelta | None = None
    ) -> bool | None:
        """See ``set``."""
        return await self.cache.aset(key, value, timeout)

    async def aadd(
        self, key: str, value: Any, timeout: int | timedelta | None = None
    ) -> bool:
        """See ``add``."""
        return await self.cache.aadd(key, value, timeout)

    async def aset_many(
        self, mapping: dict[str, Any], timeout: int | timedelta | None = None
    ) -> list[Any]:
        """See ``set_many``."""
        return await self.cache.aset_many(mapping, timeout)

    async def adelete(self, key: str) -> bool:
        """See ``delete``."""
        return await self.cache.adelete(key)

    async def adelete_many(self, *keys: str) -> list[Any]:
        """See ``delete_many``."""
        return await self.cache.adelete_many(*keys)

    async def aunlink(self, *keys: str) -> Any:
        """See ``unlink``."""
        backend = self.cache
        if isinstance(backend, NullBackend):
            return await backend.adelete_many(*keys)
        return await backend.aunlink(*keys)

    async def aclear(self) -> bool:
        """See ``clear``."""
        return await self.cache.aclear()

    async def aget_or_load(
        self,
        key: str,
        loader: Callable[[], Awaitable[Any]] | Callable[[], Any],
        timeout: int | timedelta | None = None,
        *,
        default: Any = None,
        lease_ttl: float | None = None,
        stale_ttl: float | None = None,
        stale_if_error: float | None = None,
        negative_ttl: float | None = None,
        early_refresh: float | None = None,
    ) -> Any:
        """See ``get_or_load``; the loader may be a coroutine function.

        It runs once however many tasks, threads and processes ask.  A caller that is
        cancelled while its loader runs hands over to the next in line.
        """
        return await self.cache.aget_or_load(
            key,
            loader,
            timeout,
            default=default,
            lease_ttl=lease_ttl,
            stale_ttl=stale_ttl,
            stale_if_error=stale_if_error,
            negative_ttl=negative_ttl,
            early_refresh=early_refresh,
        )

    async def adelete_cached(
        self, f: Any, path: str | None = None, query_args: Any = None, **kwargs: Any
    ) -> bool:
        """See ``delete_cached``; of a plain function or a coroutine function."""
        key = f.make_cache_key(path=path, query_args=query_args, **kwargs)
        return await self.adelete(await awaited(key))

    async def adelete_memoized(self, f: Any, *args: Any, **kwargs: Any) -> None:
        """See ``delete_memoized``; of a plain function or a coroutine function."""
        require_function(f)
        if args or kwargs:
            args = with_owner(f, args)
            await self.adelete(await f.amake_cache_key(f.uncached, *args, **kwargs))
        else:
            await aforget_version(self.cache, f)

    async def adelete_memoized_verhash(self, f: Any, *_args: Any) -> None:
        """See ``delete_memoized_verhash``."""
        require_function(f)
        await aforget_version(self.cache, f)


def require_function(f: object) -> None:
    """Raise TypeError for what cannot be a memoized function."""
    if not callable(f):
        raise TypeError(f"a memoized function is needed, not {f!r}")


def with_owner(f: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Add the object of a bound method, unless the caller has given it."""
    owner = getattr(f, "__self__", None)
    if owner is None or isinstance(owner, type):
        return args
    names = positional_names(f.uncached)
    if names[:1] != ["self"] or (args and args[0] is owner):
        return args
    return (owner, *args)
