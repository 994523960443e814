"""What every cache of Flask has: cachelib's methods, each for threads and for tasks.

A hit of L1 is returned at once; everything else goes to the backend's ``calls``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

from cachelib import BaseCache

from cachebridge.config import LoadOverrides
from cachebridge.core.entry import ABSENT, MISSING, Missing
from cachebridge.core.ttl import to_milliseconds
from cachebridge.engine.extras.patterns import PatternMethods
from cachebridge.groups.methods import GroupMethods
from cachebridge.waiting.io import TASKS, THREADS
from cachebridge.waiting.run import Steps, run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from cachebridge.core.keys import Tags
    from cachebridge.engine.extras.patterns import KeySet
    from cachebridge.flask_ext.backend.calls import BackendCalls
    from cachebridge.flask_ext.http.responses import Timeout
    from cachebridge.groups.entries import Place


class CacheMethods(PatternMethods, GroupMethods, ABC):
    """The methods that ``Cache`` and the backends share.

    Those that begin with ``a`` are the same for tasks.  A timeout of 0 means no expiry,
    None the default timeout; with less than 0 a value expires at once.
    """

    @property
    @abstractmethod
    def _backend(self) -> Backend:
        """The backend whose keys these are."""

    def _find_locally(self, key: str) -> Any:
        return self._backend.local_get(key)

    def _full_key_of(self, key: str) -> str:
        return self._backend.calls.full_key_of(key)

    def _key_set(self) -> KeySet:
        return self._backend.calls.key_set()

    def _place(self) -> Place | None:
        return self._backend.place()

    # -- reading -----------------------------------------------------------------------

    def get(self, key: str) -> Any:
        """Return the value, None if there is none."""
        backend = self._backend
        value = backend.local_get(key) if type(key) is str else MISSING
        if value is MISSING:
            value = run(backend.calls.get(THREADS, key))
        return None if value is MISSING else value

    async def aget(self, key: str) -> Any:
        """See ``get``."""
        backend = self._backend
        value = backend.local_get(key) if type(key) is str else MISSING
        if value is MISSING:
            value = await backend.calls.get(TASKS, key)
        return None if value is MISSING else value

    def get_many(self, *keys: str) -> list[Any]:
        """Return a value or None for each key; one round trip for what L1 lacks."""
        found = self.get_dict(*keys)
        return [found[key] for key in keys]

    async def aget_many(self, *keys: str) -> list[Any]:
        """See ``get_many``."""
        found = await self.aget_dict(*keys)
        return [found[key] for key in keys]

    def get_dict(self, *keys: str) -> dict[str, Any]:
        """Return a value or None by key; one round trip for what L1 lacks."""
        calls = self._backend.calls
        found, missed = calls.get_local(keys)
        if missed:
            found |= run(calls.get_many(THREADS, missed))
        return {key: found.get(key) for key in keys}

    async def aget_dict(self, *keys: str) -> dict[str, Any]:
        """See ``get_dict``."""
        calls = self._backend.calls
        found, missed = calls.get_local(keys)
        if missed:
            found |= await calls.get_many(TASKS, missed)
        return {key: found.get(key) for key in keys}

    def has(self, key: str) -> bool:
        """Return whether the key exists."""
        return run(self._backend.calls.has(THREADS, key))

    async def ahas(self, key: str) -> bool:
        """See ``has``."""
        return await self._backend.calls.has(TASKS, key)

    def get_or_load(
        self,
        key: str,
        loader: Callable[[], Any],
        timeout: Timeout | None = None,
        *,
        default: Any = None,
        lease_ttl: float | None = None,
        stale_ttl: float | None = None,
        stale_if_error: float | None = None,
        negative_ttl: float | None = None,
        early_refresh: float | None = None,
        tags: Tags = None,
    ) -> Any:
        """Return the value, or run the loader and store what it returns.

        It runs once however many threads and processes ask.  A loader that returns
        ``cachebridge.ABSENT`` says "no such thing": then callers get ``default``.  The
        others override the cache's options for this call.  Raises TypeError for a
        coroutine function as loader: await ``aget_or_load``.
        """
        backend = self._backend
        value = backend.local_get(key) if type(key) is str else MISSING
        if value is MISSING:
            if iscoroutinefunction(loader):
                raise TypeError(
                    f"get_or_load cannot await the loader {loader!r}: it is a "
                    "coroutine function, await aget_or_load() instead"
                )
            overrides = LoadOverrides(
                lease_ttl, stale_ttl, stale_if_error, negative_ttl, early_refresh
            )
            ttl_ms = backend.ttl_ms(timeout)
            how = loader, ttl_ms, overrides
            load = backend.calls.get_or_load(THREADS, key, *how, tags=tags)
            with Steps(load) as steps:  # this very frame calls the loader
                while steps.go_on():
                    steps.answer = steps.function()
            value = steps.result
        return default if value is ABSENT else value

    async def aget_or_load(
        self,
        key: str,
        loader: Callable[[], Awaitable[Any]] | Callable[[], Any],
        timeout: Timeout | None = None,
        *,
        default: Any = None,
        lease_ttl: float | None = None,
        stale_ttl: float | None = None,
        stale_if_error: float | None = None,
        negative_ttl: float | None = None,
        early_refresh: float | None = None,
        tags: Tags = None,
    ) -> Any:
        """See ``get_or_load``; the loader may be a coroutine function.

        It runs once however many tasks, threads and processes ask.  A caller that is
        cancelled while its loader runs hands over to the next in line.
        """
        backend = self._backend
        value = backend.local_get(key) if type(key) is str else MISSING
        if value is MISSING:
            overrides = LoadOverrides(
                lease_ttl, stale_ttl, stale_if_error, negative_ttl, early_refresh
            )
            value = await backend.calls.get_or_load(
                TASKS, key, loader, backend.ttl_ms(timeout), overrides, tags=tags
            )
        return default if value is ABSENT else value

    # -- writing -----------------------------------------------------------------------

    def set(
        self,
        key: str,
        value: Any,
        timeout: Timeout | None = None,
        *,
        wait: bool = True,
        tags: Tags = None,
    ) -> bool | None:
        """Set the value; every other process drops its copy.  True if that was done.

        With ``wait=False`` it is sent within ``WRITE_BEHIND_MS``, and a crash loses it.
        ``invalidate_tags`` of one of its ``tags``, a list of str, ends the use of the
        value: ``docs/tags.md``.
        """
        calls, ttl_ms = self._backend.calls, self._backend.ttl_ms(timeout)
        return run(calls.set(THREADS, key, value, ttl_ms, wait=wait, tags=tags))

    async def aset(
        self,
        key: str,
        value: Any,
        timeout: Timeout | None = None,
        *,
        wait: bool = True,
        tags: Tags = None,
    ) -> bool | None:
        """See ``set``."""
        calls, ttl_ms = self._backend.calls, self._backend.ttl_ms(timeout)
        return await calls.set(TASKS, key, value, ttl_ms, wait=wait, tags=tags)

    def add(
        self,
        key: str,
        value: Any,
        timeout: Timeout | None = None,
        *,
        tags: Tags = None,
    ) -> bool:
        """Set the value and its timeout in one step, unless the key exists."""
        calls, ttl_ms = self._backend.calls, self._backend.ttl_ms(timeout)
        return run(calls.add(THREADS, key, value, ttl_ms, tags=tags))

    async def aadd(
        self,
        key: str,
        value: Any,
        timeout: Timeout | None = None,
        *,
        tags: Tags = None,
    ) -> bool:
        """See ``add``."""
        calls, ttl_ms = self._backend.calls, self._backend.ttl_ms(timeout)
        return await calls.add(TASKS, key, value, ttl_ms, tags=tags)

    def set_many(
        self,
        mapping: Mapping[str, Any],
        timeout: Timeout | None = None,
        *,
        tags: Tags = None,
    ) -> list[Any]:
        """Set all values in one round trip; return the keys of those that were."""
        calls, ttl_ms = self._backend.calls, self._backend.ttl_ms(timeout)
        return run(calls.set_many(THREADS, mapping, ttl_ms, tags=tags))

    async def aset_many(
        self,
        mapping: Mapping[str, Any],
        timeout: Timeout | None = None,
        *,
        tags: Tags = None,
    ) -> list[Any]:
        """See ``set_many``."""
        calls, ttl_ms = self._backend.calls, self._backend.ttl_ms(timeout)
        return await calls.set_many(TASKS, mapping, ttl_ms, tags=tags)

    def append(
        self, key: str, data: str | bytes, timeout: Timeout | None = None
    ) -> int:
        """Append to a text or to bytes, keep the timeout, return the new length.

        Atomic.  A missing value is made, with ``timeout``.  Raises TypeError for a
        value of another type, ValueError if a million characters or bytes are
        exceeded; then nothing has changed.  Returns 0 while Redis is away.
        """
        backend = self._backend
        return run(backend.calls.append(THREADS, key, data, backend.ttl_ms(timeout)))

    async def aappend(
        self, key: str, data: str | bytes, timeout: Timeout | None = None
    ) -> int:
        """See ``append``."""
        backend = self._backend
        return await backend.calls.append(TASKS, key, data, backend.ttl_ms(timeout))

    def delete(self, key: str) -> bool:
        """Delete the key everywhere; return whether it existed."""
        return run(self._backend.calls.delete(THREADS, key))

    async def adelete(self, key: str) -> bool:
        """See ``delete``."""
        return await self._backend.calls.delete(TASKS, key)

    def delete_many(self, *keys: str) -> list[Any]:
        """Delete all keys in one round trip; return those that are gone: all.

        While Redis is away that is none; they will be deleted when it is back.
        """
        return run(self._backend.calls.delete_many(THREADS, keys))

    async def adelete_many(self, *keys: str) -> list[Any]:
        """See ``delete_many``."""
        return await self._backend.calls.delete_many(TASKS, keys)

    def unlink(self, *keys: str) -> Any:
        """Delete all keys in one round trip; return how many existed."""
        return run(self._backend.calls.unlink(THREADS, keys))

    async def aunlink(self, *keys: str) -> Any:
        """See ``unlink``."""
        return await self._backend.calls.unlink(TASKS, keys)


class Backend(CacheMethods, BaseCache):
    """The keys of one store, through cachelib's interface."""

    calls: BackendCalls
    local_get: Callable[[str], Any | Missing]

    @property
    def _backend(self) -> Backend:
        return self

    def lookup(self, key: str) -> Any | Missing:
        """Return the value, MISSING if there is none: a stored None is a value."""
        value = self.local_get(key) if type(key) is str else MISSING
        return run(self.calls.get(THREADS, key)) if value is MISSING else value

    async def alookup(self, key: str) -> Any | Missing:
        """See ``lookup``."""
        value = self.local_get(key) if type(key) is str else MISSING
        return await self.calls.get(TASKS, key) if value is MISSING else value

    def touch(self, key: str, timeout: Timeout | None = None) -> bool:
        """Give the key a new timeout; return whether it exists."""
        return run(self.calls.touch(THREADS, key, self.ttl_ms(timeout)))

    async def atouch(self, key: str, timeout: Timeout | None = None) -> bool:
        """See ``touch``."""
        return await self.calls.touch(TASKS, key, self.ttl_ms(timeout))

    def inc(self, key: str, delta: int = 1) -> int | None:
        """Add to a number and return the sum; a missing number becomes ``delta``.

        Atomic.  Such a new number has no expiry.  None while Redis is away.
        """
        return run(self.calls.inc(THREADS, key, delta))

    async def ainc(self, key: str, delta: int = 1) -> int | None:
        """See ``inc``."""
        return await self.calls.inc(TASKS, key, delta)

    def dec(self, key: str, delta: int = 1) -> int | None:
        """Subtract from a number; see ``inc``."""
        return self.inc(key, -delta)

    async def adec(self, key: str, delta: int = 1) -> int | None:
        """See ``dec``."""
        return await self.ainc(key, -delta)

    def place(self) -> Place | None:
        """Return where groups have their entries."""
        return self.calls.place(self.ttl_ms(None))

    def ttl_ms(self, timeout: Timeout | None) -> int | None:
        """Return a timeout as the engine takes it, in milliseconds."""
        seconds = self._normalize_timeout(timeout)
        return None if seconds == 0 else to_milliseconds(seconds)
