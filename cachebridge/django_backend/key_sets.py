"""Keys without their values: deleted, one or many, cleared, and found by pattern."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachebridge.core.keys import affixes_of
from cachebridge.django_backend.keys import NO_PATTERN, KeyedCache
from cachebridge.engine.extras.patterns import ITERSIZE, KeySet
from cachebridge.waiting.io import TASKS, THREADS
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator


class KeySetMethods(KeyedCache):
    """What the backend does with keys alone.

    A pattern is a glob of Redis for the caller's part of the keys; ``docs/patterns.md``
    has its marks.  Where keys cannot be listed, as in Memcached, methods with a pattern
    raise UnsupportedOperationError, a NotImplementedError.
    """

    def delete(self, key: Any, version: int | None = None) -> bool:
        """Delete the key; return whether it existed."""
        operations, full_key = self._locate(key, version)
        return run(operations.for_threads.delete(full_key))

    async def adelete(self, key: Any, version: int | None = None) -> bool:
        """See ``delete``."""
        operations, full_key = self._locate(key, version)
        return await operations.for_tasks.delete(full_key)

    def delete_many(  # type: ignore[override] # as in django-redis
        self, keys: Iterable[Any], version: int | None = None
    ) -> int | None:
        """Delete all keys in one round trip; return how many existed, None of none."""
        if not (wanted := list(keys)):
            return None
        return run(self._binding.delete_many(THREADS, wanted, self._locator(version)))

    async def adelete_many(  # type: ignore[override] # as above
        self, keys: Iterable[Any], version: int | None = None
    ) -> int | None:
        """See ``delete_many``."""
        if not (wanted := list(keys)):
            return None
        return await self._binding.delete_many(TASKS, wanted, self._locator(version))

    def clear(  # type: ignore[override] # the answer
        self, prefix: str | None = None, version: int | None = None
    ) -> bool | None:
        """Delete this cache's keys, all versions, from L2 and every process's L1.

        With ``prefix`` only the keys of one version that begin with it.  Returns None,
        or False if the shared store is away: then it will be cleared when it is back.
        Raises UnsupportedOperationError if KEY_FUNCTION hides the key, unless
        CLEAR_FLUSHES_DB is set.
        """
        if prefix is None:
            is_done = run(self._binding.clear(THREADS, self._pattern, NO_PATTERN))
        else:
            is_done = run(self._key_set(version).clear(THREADS, prefix))
        return None if is_done else False

    async def aclear(  # type: ignore[override] # the answer
        self, prefix: str | None = None, version: int | None = None
    ) -> bool | None:
        """See ``clear``."""
        if prefix is None:
            is_done = await self._binding.clear(TASKS, self._pattern, NO_PATTERN)
        else:
            is_done = await self._key_set(version).clear(TASKS, prefix)
        return None if is_done else False

    # -- by pattern --------------------------------------------------------------------

    def delete_pattern(
        self, pattern: str, version: int | None = None, itersize: int = ITERSIZE
    ) -> int:
        """Delete the keys that match, everywhere; return how many there were.

        The server looks at about ``itersize`` keys at a time.  Returns 0 while the
        shared store is away: then they will be deleted when it is back.  Raises
        UnsupportedOperationError also for a pattern that matches every key of the
        database, unless CLEAR_FLUSHES_DB is set.
        """
        return run(self._key_set(version).delete(THREADS, pattern, itersize))

    async def adelete_pattern(
        self, pattern: str, version: int | None = None, itersize: int = ITERSIZE
    ) -> int:
        """See ``delete_pattern``."""
        return await self._key_set(version).delete(TASKS, pattern, itersize)

    def keys(self, search: str = "*", version: int | None = None) -> list[str]:
        """Return the keys in the shared store that match, in no order.

        Returns none while it is away.
        """
        return run(self._key_set(version).find(THREADS, search))

    async def akeys(self, search: str = "*", version: int | None = None) -> list[str]:
        """See ``keys``."""
        return await self._key_set(version).find(TASKS, search)

    def iter_keys(
        self, search: str = "*", itersize: int = ITERSIZE, version: int | None = None
    ) -> Iterator[str]:
        """Iterate over the same keys, one round trip for about ``itersize`` of all.

        A key may come twice.
        """
        return self._key_set(version).iterate(search, itersize)

    def aiter_keys(
        self, search: str = "*", itersize: int = ITERSIZE, version: int | None = None
    ) -> AsyncIterator[str]:
        """See ``iter_keys``: for ``async for``."""
        return self._key_set(version).aiterate(search, itersize)

    def _key_set(self, version: int | None) -> KeySet:
        affixes = affixes_of(lambda key: str(self.make_key(key, version)))
        return KeySet(self._binding, affixes)
