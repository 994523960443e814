"""The operations of a cache as a thread or task sees them within a transaction.

What it changes is deleted after the commit.  Until then it finds nothing under the keys
that it has changed, and nothing that has a tag which it has invalidated.  It stores
nothing that it loads.
"""

from __future__ import annotations

from contextlib import nullcontext
from copy import copy
from itertools import chain
from typing import TYPE_CHECKING, Any
from weakref import finalize

from cachebridge.core.entry import MISSING
from cachebridge.core.keys import NO_TAGS
from cachebridge.core.loading import unwrap_loaded
from cachebridge.core.ttl import GONE_MS
from cachebridge.engine.holding.held import Mark
from cachebridge.engine.outage.fallbacks import ResilientOperations
from cachebridge.errors import MissingKeyError
from cachebridge.waiting.io import call
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
    from contextlib import AbstractContextManager

    from cachebridge.core.entry import Absent, Missing
    from cachebridge.core.loading import LoadTerms
    from cachebridge.engine.holding.blocks import Block, View
    from cachebridge.engine.holding.held import Held


class Hold:
    """What one call has to delete after the commit.

    It lives as long as the database keeps it: a rollback is the end of its life.
    """

    def __init__(self, held: Held, mark: Mark) -> None:
        self._held = held
        self._mark = mark
        self.__qualname__ = "cachebridge.transaction"  # Django logs it with an error
        held.add(mark)
        finalize(self, held.end, mark).atexit = False

    def __call__(self) -> None:
        """Delete all keys of this kind that the transaction holds, together.

        Raises L2Error with ``ON_ERROR="raise"``.
        """
        own = self._mark
        if own.is_over:
            return
        marks = [mark for mark in tuple(own.owner.marks) if mark.goes_with(own)]
        keys = dict.fromkeys(chain(*(mark.keys for mark in marks)))
        run(own.delete(list(keys)))
        for mark in marks:
            self._held.end(mark)
        self._held.settle()


class HeldOperations(ResilientOperations):
    """See the module.

    ``add``, ``incr``, ``append`` and ``touch`` of a key that is not held act at once:
    L2 decides what they answer, and locks and counters live by that.
    """

    def __init__(
        self, real: ResilientOperations, for_threads: ResilientOperations, view: View
    ) -> None:
        """``for_threads``: the same for the thread that commits."""
        self.__dict__.update(vars(real))
        self._real = real
        self._at_commit = for_threads
        self._view = view
        self._hides = view.hides
        self._operations = copy(real._operations)  # noqa: SLF001 of its class
        self._operations.hides_stamp = view.hides

    def _hold(
        self, block: Block, keys: Iterable[str], *, of_tags: bool = False
    ) -> None:
        """Have the keys deleted after the commit."""
        new = frozenset(keys)
        if not new:
            return
        real, transaction = self._at_commit, block.transaction
        delete: Any = real.delete_stamps if of_tags else real.delete_many
        held, owner, _ = self._view
        mark = Mark(owner, new, delete, transaction.database, of_tags=of_tags)
        transaction.at_commit(Hold(held, mark))

    def _hides_any(self, tags: Iterable[str]) -> bool:
        return any(map(self._hides, self._operations.keys_of_tags(tags)))

    # -- reading -----------------------------------------------------------------------

    def _reads(self) -> AbstractContextManager[object]:
        """Return the context of a read: L1 does not know which tags a value has."""
        if self._view.hides_tags():
            return self._engine.local_reads.bypass()
        return nullcontext()

    async def get(self, key: str) -> Any | Missing:
        """Return the value; MISSING for a key that is held."""
        if self._hides(key):
            return MISSING
        with (reads := self._reads()), reads:
            return await super().get(key)

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values that exist, without those of keys that are held."""
        seen = [key for key in keys if not self._hides(key)]
        if not seen:
            return {}
        with (reads := self._reads()), reads:
            return await super().get_many(seen)

    async def has_key(self, key: str) -> bool:
        """Return whether ``get`` finds a value."""
        if self._hides(key):
            return False
        if not self._view.hides_tags():
            return await super().has_key(key)
        # Else it would delete what has an invalid tag.
        return await self.get(key) is not MISSING

    def get_or_load(
        self,
        key: str,
        loader: Callable[[], Any],
        ttl_ms: int | None,  # noqa: ARG002 nothing is stored
        terms: LoadTerms | None = None,  # noqa: ARG002 the same
        tags: tuple[str, ...] = NO_TAGS,  # noqa: ARG002 the same
    ) -> Coroutine[Any, Any, Any | Absent]:
        """Return the value, else what the loader returns: for this caller alone."""
        return self._get_or_load(key, loader)

    async def _get_or_load(self, key: str, loader: Callable[[], Any]) -> Any | Absent:
        value = await self.get(key)
        if value is not MISSING:
            return value
        return unwrap_loaded(await call(self._operations.io, loader))

    # -- changing ----------------------------------------------------------------------

    async def set(
        self,
        key: str,
        value: Any,
        ttl_ms: int | None,
        *,
        tags: Collection[str] = NO_TAGS,
    ) -> bool:
        """In a block: delete the key after the commit, and return True.

        Out of one, delete the key now if a tag is held: the value may be of rows that
        no other caller can see.
        """
        if (block := self._view.block) is not None:
            self._hold(block, (key,))
        elif self._hides_any(tags):
            await self._real.delete(key)
        else:
            return await self._real.set(key, value, ttl_ms, tags=tags)
        return True

    async def _set_later(self, key: str, value: Any, ttl_ms: int | None) -> bool:
        if self._view.block is None:
            return await self._real._set_later(key, value, ttl_ms)  # noqa: SLF001 of its class
        return await self.set(key, value, ttl_ms)

    async def set_many(
        self,
        items: Mapping[str, Any],
        ttl_ms: int | None,
        *,
        tags: Collection[str] = NO_TAGS,
    ) -> list[str]:
        """In a block: delete the keys after the commit.  Out of one as ``set``."""
        if (block := self._view.block) is not None:
            self._hold(block, items)
        elif self._hides_any(tags):
            await self._real.delete_many(items)
        else:
            return await self._real.set_many(items, ttl_ms, tags=tags)
        return []

    async def delete(self, key: str) -> bool:
        """In a block: delete the key after the commit; return whether it exists now."""
        if (block := self._view.block) is None:
            return await self._real.delete(key)
        existed = await self.has_key(key)
        self._hold(block, (key,))
        return existed

    async def delete_many(self, keys: Collection[str]) -> int:
        """In a block: delete the keys after the commit; return 0."""
        if (block := self._view.block) is None:
            return await self._real.delete_many(keys)
        self._hold(block, keys)
        return 0

    async def ttl(self, key: str) -> int:
        """Return what is left of the TTL; a key that is held does not exist."""
        return GONE_MS if self._hides(key) else await super().ttl(key)

    async def overwrite(
        self,
        key: str,
        value: Any,
        ttl_ms: int | None,
        *,
        tags: Collection[str] = NO_TAGS,
    ) -> bool:
        """In a block: delete the key after the commit if it exists now.

        Out of one as ``set``.
        """
        block = self._view.block
        if block is None and not self._hides(key) and not self._hides_any(tags):
            return await self._real.overwrite(key, value, ttl_ms, tags=tags)
        if not await self.has_key(key):
            return False
        if block is None:
            return await self._real.delete(key)
        self._hold(block, (key,))
        return True

    async def delete_stamps(self, keys: Collection[str]) -> bool:
        """In a block: invalidate the tags after the commit, and return True."""
        if (block := self._view.block) is None:
            return await self._real.delete_stamps(keys)
        self._hold(block, keys, of_tags=True)
        return True

    async def touch(self, key: str, ttl_ms: int | None) -> bool:
        """Give the key another TTL at once, unless it is held.  0 is a delete."""
        if ttl_ms == 0:
            return await self.delete(key)
        return not self._hides(key) and await self._real.touch(key, ttl_ms)

    async def add(
        self,
        key: str,
        value: Any,
        ttl_ms: int | None,
        *,
        tags: Collection[str] = NO_TAGS,
        fences: bool = True,
    ) -> bool:
        """Add at once; False if the key or a tag is held: nothing is stored then."""
        if self._hides(key) or self._hides_any(tags):
            return False
        return await self._real.add(key, value, ttl_ms, tags=tags, fences=fences)

    async def incr(self, key: str, delta: Any) -> Any:
        """Count at once; a key that is held does not exist."""
        if self._hides(key):
            raise MissingKeyError(
                f"{key!r} was deleted or set in this transaction: it cannot be counted "
                "before the commit"
            )
        return await self._real.incr(key, delta)

    async def append(self, key: str, data: str | bytes, ttl_ms: int | None) -> int:
        """Append at once; 0 for a key that is held: nothing was appended."""
        return 0 if self._hides(key) else await self._real.append(key, data, ttl_ms)
