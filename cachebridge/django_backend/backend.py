"""Django's cache backend: translate, call the engine, translate back.

No caching rule lives here.  Return values, warnings and the meaning of timeouts are
Django's own; where its backends differ, those of LocMemCache.  Each method has two
faces, for threads and for tasks; what takes several steps is one coroutine below them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.exceptions import SynchronousOnlyOperation
from django.utils.safestring import SafeString

from cachebridge.config import LoadOverrides
from cachebridge.core.entry import ABSENT, MISSING
from cachebridge.core.keys import tags_of
from cachebridge.django_backend.bindings import binding_for
from cachebridge.django_backend.key_sets import KeySetMethods
from cachebridge.django_backend.redis_api import Condition, RedisMethods, set_if
from cachebridge.engine.admin import AdminMethods
from cachebridge.l1.copies import register_immutable
from cachebridge.waiting.io import TASKS, THREADS, blocking_refused_by
from cachebridge.waiting.run import Steps, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cachebridge.core.keys import Tags

register_immutable(SafeString)
# A value that asks the database while it is pickled, such as a lazy queryset.
blocking_refused_by(SynchronousOnlyOperation, lambda encode: sync_to_async(encode)())


class CacheBridge(AdminMethods, RedisMethods, KeySetMethods):
    """The two-level cache as a backend of Django's cache framework.

    Timeouts are seconds, None is without expiry.  While the shared store is away every
    method does what ``docs/outages.md`` says, or raises L2Error (``ON_ERROR="raise"``).

    Thread safe; Django makes one object per thread or request, all of which share
    memory, connections and listener.  The methods that begin with ``a`` are for tasks
    of any asyncio event loop: a hit does not suspend, and none uses a thread, unless a
    value asks the database while it is pickled.
    """

    def __init__(self, server: object, params: dict[str, Any]) -> None:
        super().__init__(params, binding_for(server, params))
        self._binding.engine.listening.register_adapter(self)

    # -- reading -----------------------------------------------------------------------

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Return the value of ``key``, ``default`` if there is none."""
        if version is None and type(key) is str:
            value = self._local_get(key)
            if value is not MISSING:
                return value
        operations, full_key = self._locate(key, version)
        value = run(operations.for_threads.get(full_key))
        return default if value is MISSING else value

    async def aget(
        self, key: Any, default: Any = None, version: int | None = None
    ) -> Any:
        """See ``get``."""
        if version is None and type(key) is str:
            value = self._local_get(key)
            if value is not MISSING:
                return value
        operations, full_key = self._locate(key, version)
        value = await operations.for_tasks.get(full_key)
        return default if value is MISSING else value

    def get_many(
        self, keys: Iterable[Any], version: int | None = None
    ) -> dict[Any, Any]:
        """Return the values that exist, by key; one round trip for what L1 lacks.

        In the order of ``keys``.  Two keys may have one full key (1 and "1"): both are
        in the answer.
        """
        wanted = list(keys)
        found, missed = self._local_get_many(wanted, version)
        if missed:
            locate = self._locator(version)
            found |= run(self._binding.get_many(THREADS, missed, locate))
        return _in_order(found, missed, wanted)

    async def aget_many(
        self, keys: Iterable[Any], version: int | None = None
    ) -> dict[Any, Any]:
        """See ``get_many``."""
        wanted = list(keys)
        found, missed = self._local_get_many(wanted, version)
        if missed:
            locate = self._locator(version)
            found |= await self._binding.get_many(TASKS, missed, locate)
        return _in_order(found, missed, wanted)

    def has_key(self, key: Any, version: int | None = None) -> bool:
        """Return whether the key exists."""
        operations, full_key = self._locate(key, version)
        return run(operations.for_threads.has_key(full_key))

    async def ahas_key(self, key: Any, version: int | None = None) -> bool:
        """See ``has_key``."""
        operations, full_key = self._locate(key, version)
        return await operations.for_tasks.has_key(full_key)

    # -- loading -----------------------------------------------------------------------

    def get_or_set(
        self,
        key: Any,
        default: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Tags = None,
    ) -> Any:
        """Return the value, or store ``default``, called if callable.

        The callable runs once however many threads and processes ask; a coroutine
        function needs ``aget_or_set``.
        """
        if version is None and type(key) is str:
            value = self._local_get(key)
            if value is not MISSING:
                return value
        loader = default if callable(default) else lambda: default
        return self.get_or_load(key, loader, timeout, version, tags=tags)

    async def aget_or_set(
        self,
        key: Any,
        default: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Tags = None,
    ) -> Any:
        """See ``get_or_set``; ``default`` may be a coroutine function."""
        if version is None and type(key) is str:
            value = self._local_get(key)
            if value is not MISSING:
                return value
        loader = default if callable(default) else lambda: default
        return await self.aget_or_load(key, loader, timeout, version, tags=tags)

    def get_or_load(  # noqa: PLR0917 keyword-only ones cost a hit 8 ns each
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
        tags: Tags = None,
    ) -> Any:
        """Return the value, or load and store it if there is none.

        The loader runs once however many threads and processes ask; a coroutine
        function needs ``aget_or_load``.  If it raises, all callers of the process that
        wait for it get the exception.  None of them waits longer than ``lease_ttl``
        (five seconds if that is 0): then it runs its own loader.  A loader that returns
        ``cachebridge.ABSENT`` says "no such thing": callers get ``default``, for
        ``negative_ttl`` seconds without asking again.

        ``lease_ttl``, ``stale_ttl``, ``stale_if_error``, ``negative_ttl`` (seconds) and
        ``early_refresh`` (a factor, 0 for never) override the cache's options for this
        call.  Raises ConfigError for an unusable one.  ``tags``: see ``set``; they are
        read before the loader runs, which may name more with ``cachebridge.tag``.
        """
        if version is None and type(key) is str:
            value = self._local_get(key)
            if value is not MISSING:
                return value
        overrides = LoadOverrides(
            lease_ttl, stale_ttl, stale_if_error, negative_ttl, early_refresh
        )
        located, ttl_ms = self._locate(key, version), self._ttl_ms(timeout)
        how = ttl_ms, overrides
        load = self._binding.get_or_load(THREADS, located, loader, *how, tags=tags)
        with Steps(load) as steps:  # this very frame calls the loader
            while steps.go_on():
                steps.answer = steps.function()
        return default if steps.result is ABSENT else steps.result

    async def aget_or_load(  # noqa: PLR0917 as get_or_load
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
        tags: Tags = None,
    ) -> Any:
        """See ``get_or_load``; the loader may be a coroutine function.

        If the task that loads is cancelled, the next caller in line loads.
        """
        if version is None and type(key) is str:
            value = self._local_get(key)
            if value is not MISSING:
                return value
        overrides = LoadOverrides(
            lease_ttl, stale_ttl, stale_if_error, negative_ttl, early_refresh
        )
        located, ttl_ms = self._locate(key, version), self._ttl_ms(timeout)
        how = ttl_ms, overrides
        load = self._binding.get_or_load(TASKS, located, loader, *how, tags=tags)
        value = await load
        return default if value is ABSENT else value

    # -- writing -----------------------------------------------------------------------

    def add(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Tags = None,
    ) -> bool:
        """Set the value if the key does not exist; return whether it was set."""
        operations, full_key = self._locate(key, version)
        ttl_ms, names = self._ttl_ms(timeout), tags_of(tags)
        return run(operations.for_threads.add(full_key, value, ttl_ms, tags=names))

    async def aadd(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Tags = None,
    ) -> bool:
        """See ``add``."""
        operations, full_key = self._locate(key, version)
        ttl_ms, names = self._ttl_ms(timeout), tags_of(tags)
        return await operations.for_tasks.add(full_key, value, ttl_ms, tags=names)

    def set(  # type: ignore[override] # the answer
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        wait: bool = True,
        nx: bool = False,
        xx: bool = False,
        tags: Tags = None,
    ) -> bool | None:
        """Set the value; a timeout of 0 or less deletes the key.

        With ``wait=False`` it is sent a little later: ``docs/write-behind.md``.  With
        ``nx`` it is set only if the key does not exist, as ``add`` does, with ``xx``
        only if it does: then returns whether it was, False while the store is away.
        ``invalidate_tags`` of one of its ``tags``, a list of str, ends the use of the
        value: ``docs/tags.md``.
        """
        operations, full_key = self._locate(key, version)
        ttl_ms, names = self._ttl_ms(timeout), tags_of(tags)
        if nx or xx:
            item, when = (full_key, value, ttl_ms, names), Condition(nx, xx, wait)
            return run(set_if(operations.for_threads, *item, when))
        run(operations.for_threads.set_as(full_key, value, ttl_ms, wait, names))
        return None

    async def aset(  # type: ignore[override] # the answer
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        wait: bool = True,
        nx: bool = False,
        xx: bool = False,
        tags: Tags = None,
    ) -> bool | None:
        """See ``set``."""
        operations, full_key = self._locate(key, version)
        ttl_ms, names = self._ttl_ms(timeout), tags_of(tags)
        if nx or xx:
            item, when = (full_key, value, ttl_ms, names), Condition(nx, xx, wait)
            return await set_if(operations.for_tasks, *item, when)
        await operations.for_tasks.set_as(full_key, value, ttl_ms, wait, names)
        return None

    def set_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Tags = None,
    ) -> list[Any]:
        """Set all values in one round trip; return the keys that failed.

        Over Redis all keys fail, while it is away, or none; over Memcached also single
        ones, too large or on a server that is away.
        """
        how = self._ttl_ms(timeout), self._locator(version), tags
        return run(self._binding.set_many(THREADS, data, *how))

    async def aset_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        tags: Tags = None,
    ) -> list[Any]:
        """See ``set_many``."""
        how = self._ttl_ms(timeout), self._locator(version), tags
        return await self._binding.set_many(TASKS, data, *how)

    def touch(
        self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """Give the key a new timeout; return whether it exists."""
        operations, full_key = self._locate(key, version)
        return run(operations.for_threads.touch(full_key, self._ttl_ms(timeout)))

    async def atouch(
        self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """See ``touch``."""
        operations, full_key = self._locate(key, version)
        return await operations.for_tasks.touch(full_key, self._ttl_ms(timeout))

    def append(
        self,
        key: Any,
        data: str | bytes,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> int:
        """Append to a text or to bytes, keep the timeout, return the new length.

        Atomic.  A missing value is made, with ``timeout``.  Raises TypeError for a
        value of another type, ValueError if a million characters or bytes are
        exceeded; then nothing has changed.  Returns 0 while the shared store is away.
        """
        operations, full_key = self._locate(key, version)
        ttl_ms = self._ttl_ms(timeout)
        return run(operations.for_threads.append(full_key, data, ttl_ms))

    async def aappend(
        self,
        key: Any,
        data: str | bytes,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> int:
        """See ``append``."""
        operations, full_key = self._locate(key, version)
        ttl_ms = self._ttl_ms(timeout)
        return await operations.for_tasks.append(full_key, data, ttl_ms)

    async def aclose(self, **_kwargs: Any) -> None:
        """Do nothing, as ``close``: connections outlive a request.

        Django's own, from 6.1 on, would call ``close`` in a thread.
        """


def _in_order(
    found: dict[Any, Any], missed: list[Any], wanted: list[Any]
) -> dict[Any, Any]:
    """Return what was found in the order wanted, if L1 had some and lacked others."""
    if len(missed) in {0, len(wanted)}:
        return found
    return {key: found[key] for key in wanted if key in found}
