"""What groups and memoized functions do with a cache, by key.

Every coroutine takes the ``IO`` of its caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

from cachebridge.config import CacheOptions, LoadOverrides, override_load_options
from cachebridge.core.entry import ABSENT, MISSING
from cachebridge.core.keys import named, pattern_of, tags_of
from cachebridge.core.loading import unwrap_loaded
from cachebridge.core.ttl import DEFAULT, Ttl, to_milliseconds
from cachebridge.errors import UnsupportedOperationError
from cachebridge.groups.keys import key_of
from cachebridge.groups.together import batch_loader, load_together
from cachebridge.waiting.io import THREADS, call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from cachebridge.core.keys import Tags
    from cachebridge.engine.binding import Binding, Locate
    from cachebridge.engine.kinds.key_operations import KeyOperations
    from cachebridge.engine.outage.fallbacks import ResilientOperations
    from cachebridge.groups.tally import Tally
    from cachebridge.waiting.io import IO

LoadMany: TypeAlias = "Callable[[list[str]], Awaitable[Mapping[str, Any]]]"
"""Loads the values of these keys, all of them; what does not exist is ABSENT."""

VIEW_BYTES: Final = 16_384
"""With ``views`` bytes of at least this length are returned as a memoryview."""
MOST_AT_ONCE: Final = 500
"""How many arguments one call of ``load_many`` gets at most: each holds a lease."""


class Place(NamedTuple):
    """Where the entries of a group are: what it has to know of a cache."""

    binding: Binding
    locate: Locate[str]
    default_ttl_ms: int | None


class GroupHost(Protocol):
    """The cache that a group belongs to."""

    def _find_locally(self, key: str) -> Any:
        """Return the value that L1 has, else MISSING."""

    def _place(self) -> Place | None:
        """Return where entries are now; None for a cache that keeps nothing."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a group keeps and loads its values."""

    ttl: Ttl
    views: bool
    overrides: LoadOverrides
    tags: Tags | Callable[..., Tags] = None
    """Tags of every value, or a function of what a value's loader is called with."""

    def check(self, wanted_by: str) -> None:
        """Raise TypeError, ValueError or ConfigError for what is unusable."""
        if self.ttl is not DEFAULT:
            try:
                to_milliseconds(self.ttl)
            except (TypeError, ValueError) as exc:
                raise named(exc, f"{wanted_by}: ttl")  # noqa: B904 the same exception
        if not isinstance(self.views, bool):
            raise TypeError(f"{wanted_by}: views must be True or False")
        if not callable(self.tags):
            try:
                tags_of(self.tags)
            except (TypeError, ValueError) as exc:
                raise named(exc, wanted_by)  # noqa: B904 the same exception
        override_load_options(CacheOptions(), self.overrides)

    def tags_for(self, load: Callable[[], Any]) -> tuple[str, ...]:
        """Return the tags of what a loader returns, which is a partial of a function.

        Raises TypeError or ValueError for what are no tags.
        """
        tags = self.tags
        if callable(tags):
            given = load if isinstance(load, partial) else partial(load)
            tags = tags(*given.args, **given.keywords)
        return tags_of(tags)


class Entries:
    """The values of one group.  Thread safe."""

    def __init__(self, host: GroupHost, terms: Terms, tally: Tally) -> None:
        self.name = tally.name
        self.tally = tally
        self._terms = terms
        self._find_locally = host._find_locally  # noqa: SLF001 its interface
        self._place = host._place  # noqa: SLF001 the same

    def key(self, text: str) -> str:
        """Return the key of an argument with this text."""
        return key_of(self.name, text)

    def local(self, key: str) -> Any:
        """Return the value if L1 has it, else MISSING."""
        value = self._find_locally(key)
        if value is MISSING:
            return value
        self.tally.hits += 1
        return self._shown(value)

    # -- one key -----------------------------------------------------------------------

    async def find(self, io: IO, key: str, load: Callable[[], Any]) -> Any:
        """Return the value or what ``load`` returns, ABSENT included."""
        runs: list[Any] = []
        loader = self._counted(load, runs)
        place = self._place()
        if place is None:
            return self._shown(unwrap_loaded(await call(io, loader)))
        operations, full_key = self._at(place, io, key)
        how = *self._how(place), self._terms.tags_for(load)
        value = await operations.get_or_load(full_key, loader, *how)
        self.tally.hits += not runs
        return self._shown(value)

    async def renew(self, io: IO, key: str, load: Callable[[], Any]) -> Any:
        """Delete the value, and load it anew."""
        await self.forget(io, key)
        return await self.find(io, key, load)

    async def forget(self, io: IO, key: str) -> bool:
        """Delete the value; return whether there was one."""
        place = self._place()
        if place is None:
            return False
        operations, full_key = self._at(place, io, key)
        return await operations.delete(full_key)

    async def has(self, io: IO, key: str) -> bool:
        """Return whether there is a value, without loading one."""
        place = self._place()
        if place is None:
            return False
        operations, full_key = self._at(place, io, key)
        return await operations.has_key(full_key)

    async def clear(self, io: IO) -> bool:
        """Delete all values; return whether it is done, not put off for an outage."""
        place = self._place()
        if place is None:
            return True

        def full_key(text: str, _version: str) -> str:
            return place.locate(key_of(self.name, text))[1]

        pattern = pattern_of(full_key)
        if pattern is None or not place.binding.engine.stores.can_find(pattern):
            raise UnsupportedOperationError(
                f"{self.name}: its keys cannot be found by a pattern: the key function "
                "of the cache hides them"
            )
        return await place.binding.coherent.on(io).clear(pattern)

    # -- several keys ------------------------------------------------------------------

    async def find_many(
        self,
        io: IO,
        keys: Sequence[str],
        load_many: LoadMany | None,
        load: Callable[[str], Callable[[], Any]],
    ) -> dict[str, Any]:
        """Return the values by key, without those that are ABSENT.

        ``load_many`` loads what is missing.  ``load`` returns the loader of one key
        alone, for the case that there is none, and for refreshes in the background.
        """
        place = self._place()
        found: dict[str, Any] = {}
        if place is not None:
            found = await place.binding.get_many(io, keys, place.locate)
            self.tally.hits += len(found)
        missing = sorted(key for key in keys if key not in found)
        if load_many is None:
            found.update({key: await self.find(io, key, load(key)) for key in missing})
        else:
            for start in range(0, len(missing), MOST_AT_ONCE):
                batch = missing[start : start + MOST_AT_ONCE]
                found |= await self._load_batch(place, io, batch, load_many, load)
        return {
            key: self._shown(found[key]) for key in keys if found[key] is not ABSENT
        }

    async def _load_batch(
        self,
        place: Place | None,
        io: IO,
        batch: list[str],
        load_many: LoadMany,
        load: Callable[[str], Callable[[], Any]],
    ) -> dict[str, Any]:
        if place is None:
            with self.tally.loading(len(batch)):
                values = await load_many(batch)
            return {key: unwrap_loaded(values[key]) for key in batch}
        how = self._how(place)
        loaded: list[str] = []

        async def load_and_count(keys: list[str]) -> Mapping[str, Any]:
            loaded.extend(keys)
            with self.tally.loading(len(keys)):
                return await load_many(keys)

        def start(key: str) -> Coroutine[Any, Any, Any]:
            operations, full_key = self._at(place, io, key)
            alone = load(key)
            loader = batch_loader(self._counted(alone, []))
            tags = self._terms.tags_for(alone)
            return operations.get_or_load(full_key, loader, *how, tags)

        starts = {key: partial(start, key) for key in batch}
        found = await load_together(starts, load_and_count)
        self.tally.hits += len(batch) - len(loaded)
        return found

    # -- how ---------------------------------------------------------------------------

    def _counted(self, load: Callable[[], Any], runs: list[Any]) -> Callable[[], Any]:
        """Return a loader that is counted, and notes in ``runs`` that it has begun.

        That of a coroutine function is one as well.
        """

        async def load_in_task() -> Any:
            runs.append(load)
            with self.tally.loading():
                return await load()

        def load_here() -> Any:
            runs.append(load)
            with self.tally.loading():
                return load()

        return load_in_task if iscoroutinefunction(load) else load_here

    @staticmethod
    def _at(place: Place, io: IO, key: str) -> tuple[ResilientOperations, str]:
        operations: KeyOperations
        operations, full_key = place.locate(key)
        return operations.on(io), full_key

    def _how(self, place: Place) -> tuple[int | None, Any]:
        """Return TTL and terms of a load."""
        ttl = self._terms.ttl
        ttl_ms = place.default_ttl_ms if ttl is DEFAULT else to_milliseconds(ttl)
        return ttl_ms, place.binding.terms_with(self._terms.overrides)

    def _shown(self, value: Any) -> Any:
        """Return a view of large bytes if that is wanted, else the value."""
        if self._terms.views and type(value) is bytes and len(value) >= VIEW_BYTES:
            return memoryview(value)
        return value


def awaits(function: Callable[..., Any]) -> bool:
    """Return whether a function of the application has to be awaited."""
    called = getattr(function, "__call__", None)  # noqa: B004 of its class
    return iscoroutinefunction(function) or iscoroutinefunction(called)


def require_plain(io: IO, function: Callable[..., Any], wanted_by: str) -> None:
    """Raise TypeError if a thread would have to await the function."""
    if io is THREADS and awaits(function):
        raise TypeError(
            f"{wanted_by}: the function that loads is a coroutine function, so await "
            "the method whose name begins with an a"
        )
