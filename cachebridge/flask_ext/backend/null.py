"""The backend that keeps nothing."""
# ruff: noqa: ARG002 the parameters are those of BackendCalls

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachelib import NullCache

from cachebridge.core.entry import MISSING
from cachebridge.core.loading import unwrap_loaded
from cachebridge.engine.extras.patterns import KeySet
from cachebridge.engine.tagging.running import LoadTags
from cachebridge.flask_ext.backend.base import Backend
from cachebridge.flask_ext.backend.calls import BackendCalls
from cachebridge.l1.local_get import find_nothing
from cachebridge.waiting.guard import Guard
from cachebridge.waiting.io import call

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Callable,
        Collection,
        Iterable,
        Iterator,
        Mapping,
    )

    from cachebridge.config import LoadOverrides
    from cachebridge.core.keys import Tags
    from cachebridge.waiting.io import IO


def _always(answer: Any) -> Any:
    """Make a method that does nothing and returns ``answer``."""

    async def method(_self: NullCalls, *_args: Any, **_kwargs: Any) -> Any:
        return answer

    return method


class NoTags(LoadTags):
    """Tags that are not read."""

    def __init__(self) -> None:
        """There is no engine."""
        Guard.__init__(self)

    def __len__(self) -> int:
        return 0

    async def begin(self, names: Collection[str], io: IO) -> None:
        """Read nothing."""

    def _take(self) -> None:
        """Leave the loads under way as they are."""

    def _give_back(self, error: BaseException | None) -> None:
        """Do nothing, as above."""


class NullKeySet(KeySet):
    """No keys."""

    def __init__(self) -> None:
        """There is no engine."""

    delete = _always(0)
    clear = _always(True)

    async def find(self, io: IO, glob: object) -> list[str]:
        """Find nothing."""
        return []

    def iterate(self, glob: object, itersize: object) -> Iterator[str]:
        """Iterate over nothing."""
        return iter(())

    async def aiterate(self, glob: object, itersize: object) -> AsyncIterator[str]:
        """Iterate over nothing."""
        nothing: tuple[str, ...] = ()
        for key in nothing:
            yield key


class NullCalls(BackendCalls):
    """Finds nothing; each write returns, as in cachelib, that it was done."""

    def __init__(self) -> None:
        """There is no engine."""

    def key_set(self) -> KeySet:
        """Return no keys."""
        return NullKeySet()

    def place(self, default_ttl_ms: int | None) -> None:
        """Return None: groups load each time."""

    get = _always(MISSING)
    has = touch = _always(False)
    set = add = delete = _always(True)
    set_computed = _always(True)
    keep_alive = _always(None)

    def new_tags(self, io: IO, key: str) -> LoadTags:
        """Return tags that ask no server."""
        return NoTags()

    def get_local(self, keys: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
        """Find nothing, and leave nothing to look for."""
        return {}, []

    async def get_many(self, io: IO, keys: Iterable[str]) -> dict[str, Any]:
        """Find nothing."""
        return {}

    async def get_or_load(
        self,
        io: IO,
        key: str,
        loader: Callable[[], Any],
        ttl_ms: int | None,
        overrides: LoadOverrides | None = None,
        *,
        tags: Tags = None,
    ) -> Any:
        """Run the loader."""
        return unwrap_loaded(await call(io, loader))

    load_here = get_or_load

    async def set_many(
        self,
        io: IO,
        mapping: Mapping[str, Any],
        ttl_ms: int | None,
        *,
        tags: Tags = None,
    ) -> Any:
        """Return all keys: keeping nothing is done."""
        return list(mapping)

    async def delete_many(self, io: IO, keys: Collection[str]) -> list[Any]:
        """Return all keys: none of them is there."""
        return list(keys)

    unlink = delete_many

    async def append(self, io: IO, key: str, data: str | bytes, *_ttl: Any) -> int:
        """Return the length as for a value that does not exist."""
        return len(data)

    async def inc(self, io: IO, key: str, delta: int) -> int:
        """Return the sum as for a number that does not exist."""
        return delta


class NullBackend(Backend, NullCache):
    """A cache that keeps nothing, for ``CACHE_TYPE = "NullCache"``."""

    local_get = staticmethod(find_nothing)
    calls = NullCalls()
