"""Keys by pattern: what every adapter lists and deletes by a glob of Redis.

A pattern is for the caller's part of a key: the prefix and the version stand for
themselves.  A store that cannot list its keys raises UnsupportedOperationError.

Imports nothing of the engine before it is needed: importing cachebridge is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cachebridge.core.keys import (
    Affixes,
    escape_glob,
    matches_everything,
    pattern_of_prefix,
)
from cachebridge.errors import NO_LIST, UnsupportedOperationError
from cachebridge.waiting.io import TASKS, THREADS
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from cachebridge.core.keys import KeyPattern
    from cachebridge.engine.binding import Binding
    from cachebridge.waiting.io import IO

ITERSIZE: Final = 1000
"""Keys that the server looks at for one step."""
MADE_BY_FUNCTION: Final = (
    "no pattern finds the keys of this cache: its KEY_FUNCTION returns keys in which "
    "the given key does not show."
)
EVERYTHING: Final = (
    "{!r} matches every key of the database, which other programs may use: give the "
    "cache a KEY_PREFIX, or set CLEAR_FLUSHES_DB to allow it."
)


class KeySet:
    """All keys of one cache, or of one version of it, for patterns."""

    def __init__(
        self, binding: Binding, affixes: Affixes | None, why_not: str = ""
    ) -> None:
        """``affixes`` is None if the caller's keys do not show in the full ones.

        ``why_not`` says why there may be no clear of the whole cache.
        """
        self.binding = binding
        self._affixes = affixes
        self._why_not = why_not

    @property
    def affixes(self) -> Affixes:
        """What stands around the caller's keys; raises UnsupportedOperationError."""
        if self._affixes is None:
            raise UnsupportedOperationError(MADE_BY_FUNCTION)
        return self._affixes

    def pattern(self, glob: object) -> KeyPattern:
        """Return the pattern of full keys; raises TypeError or ValueError.

        Or UnsupportedOperationError if the store cannot list its keys.
        """
        if not isinstance(glob, str):
            raise TypeError(
                f"a pattern must be a str such as 'product:*', not {glob!r}"
            )
        if not glob:
            raise ValueError("the pattern is empty: write '*' for all keys")
        if not self.binding.engine.stores.lists_keys:
            raise UnsupportedOperationError(NO_LIST)
        return self.affixes.pattern(glob)

    def own(self, glob: object) -> KeyPattern:
        """Return the same for keys that are to be deleted.

        Raises UnsupportedOperationError also for a pattern of all programs' keys.
        """
        pattern = self.pattern(glob)
        self._require_own(pattern)
        return pattern

    def beginning(self, prefix: object) -> KeyPattern:
        """Return the pattern of full keys whose caller's part begins so; as ``own``."""
        if not isinstance(prefix, str):
            raise TypeError(f"prefix must be a str such as 'product:', not {prefix!r}")
        pattern = self.affixes.pattern(escape_glob(prefix) + "*")
        self._require_own(pattern)
        if not self.binding.engine.stores.can_find(pattern):
            raise UnsupportedOperationError(MADE_BY_FUNCTION)
        return pattern

    def _require_own(self, pattern: KeyPattern) -> None:
        flushes = self.binding.options.clear_flushes_db
        if matches_everything(pattern.glob) and not flushes:
            raise UnsupportedOperationError(EVERYTHING.format(pattern.glob))

    async def delete(self, io: IO, glob: object, itersize: object) -> int:
        """Delete the keys that match; return how many there were."""
        count, pattern = _checked(itersize), self.own(glob)
        return await self.binding.coherent.on(io).delete_pattern(pattern, count)

    async def clear(self, io: IO, prefix: object) -> bool:
        """Delete the keys that begin with ``prefix``, None for all of the cache."""
        if prefix is None:
            return await self.binding.clear(io, self._whole, self._why_not)
        return await self.binding.coherent.on(io).clear(self.beginning(prefix))

    def _whole(self) -> KeyPattern | None:
        prefix = self.affixes.before
        return pattern_of_prefix(prefix) if prefix else None

    async def find(self, io: IO, glob: object) -> list[str]:
        """Return the keys that match."""
        listing, found = Listing(self, io, glob, ITERSIZE), dict[str, None]()
        while not listing.is_over:
            found |= dict.fromkeys(await listing.step())
        return list(found)

    def iterate(self, glob: object, itersize: object) -> Iterator[str]:
        """Return an iterator over the same keys, for a thread."""
        return iter(Listing(self, THREADS, glob, itersize))

    def aiterate(self, glob: object, itersize: object) -> AsyncIterator[str]:
        """Return an iterator over the same keys, for a task."""
        return aiter(Listing(self, TASKS, glob, itersize))


class Listing:
    """The keys that match a pattern, step by step; to be iterated once.

    Keys that are there all the time are found, others perhaps; one may come twice.
    """

    def __init__(self, keys: KeySet, io: IO, glob: object, itersize: object) -> None:
        self._affixes, self._pattern = keys.affixes, keys.pattern(glob)
        self._engine = keys.binding.engine
        self._operations = keys.binding.coherent.on(io)
        self._count = _checked(itersize)
        self._departures = self._engine.departures
        self._cursor = 0
        self.is_over = False

    async def step(self) -> list[str]:
        """Return some more keys; if the server was left since the last ones, anew."""
        if self._departures != self._engine.departures:
            self._departures, self._cursor = self._engine.departures, 0
        self._cursor, keys = await self._operations.scan(
            self._pattern, self._cursor, self._count
        )
        self.is_over = self._cursor == 0
        return [self._affixes.key_of(key) for key in keys]

    def __iter__(self) -> Iterator[str]:
        while not self.is_over:
            yield from run(self.step())

    async def __aiter__(self) -> AsyncIterator[str]:
        while not self.is_over:
            for key in await self.step():
                yield key


def _checked(itersize: object) -> int:
    if type(itersize) is not int or itersize < 1:
        raise ValueError(f"itersize must be an int of at least 1, not {itersize!r}")
    return itersize


class PatternMethods:
    """Base of adapters without versions: keys by pattern.

    A pattern is a glob of Redis for the caller's part of the keys; its marks stand in
    ``docs/patterns.md``.
    """

    if TYPE_CHECKING:  # each adapter has it

        def _key_set(self) -> KeySet: ...

    def clear(self, prefix: str | None = None) -> bool:
        """Delete this cache's keys, those with its prefix, everywhere.

        With ``prefix`` only those whose own key begins with it.  Returns False if the
        shared store is away: then it will be cleared when it is back.  Without a prefix
        of the cache every key of the database would match: then it raises
        UnsupportedOperationError unless CLEAR_FLUSHES_DB is set.
        """
        return run(self._key_set().clear(THREADS, prefix))

    async def aclear(self, prefix: str | None = None) -> bool:
        """See ``clear``."""
        return await self._key_set().clear(TASKS, prefix)

    def delete_pattern(self, pattern: str, itersize: int = ITERSIZE) -> int:
        """Delete the keys that match, everywhere; return how many there were.

        The server looks at about ``itersize`` keys at a time.  Returns 0 while the
        shared store is away: then they will be deleted when it is back.  Raises
        UnsupportedOperationError where keys cannot be listed, and for a pattern that
        matches every key of the database, unless CLEAR_FLUSHES_DB is set.
        """
        return run(self._key_set().delete(THREADS, pattern, itersize))

    async def adelete_pattern(self, pattern: str, itersize: int = ITERSIZE) -> int:
        """See ``delete_pattern``."""
        return await self._key_set().delete(TASKS, pattern, itersize)

    def keys(self, pattern: str = "*") -> list[str]:
        """Return the keys in the shared store that match, in no order.

        Returns none while it is away.  Raises UnsupportedOperationError where keys
        cannot be listed.
        """
        return run(self._key_set().find(THREADS, pattern))

    async def akeys(self, pattern: str = "*") -> list[str]:
        """See ``keys``."""
        return await self._key_set().find(TASKS, pattern)

    def iter_keys(self, pattern: str = "*", itersize: int = ITERSIZE) -> Iterator[str]:
        """Iterate over the same keys, one round trip for about ``itersize`` of all.

        A key may come twice.
        """
        return self._key_set().iterate(pattern, itersize)

    def aiter_keys(
        self, pattern: str = "*", itersize: int = ITERSIZE
    ) -> AsyncIterator[str]:
        """See ``iter_keys``: for ``async for``."""
        return self._key_set().aiterate(pattern, itersize)
