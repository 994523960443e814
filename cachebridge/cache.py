"""The framework-free cache."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cachebridge.config import parse_options
from cachebridge.core.entry import ABSENT, MISSING
from cachebridge.core.keys import pattern_of_prefix
from cachebridge.core.ttl import to_milliseconds
from cachebridge.engine.binding import Binding
from cachebridge.engine.operating import Operated
from cachebridge.engine.registry import engine_for
from cachebridge.errors import ConfigError, UnsupportedOperationError
from cachebridge.l2.location import hide_password

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from cachebridge.engine.guarded import Guarded

T = TypeVar("T")


class Default(Enum):
    """Type of ``DEFAULT``."""

    DEFAULT = "DEFAULT"


DEFAULT: Final = Default.DEFAULT
"""As a TTL: the cache's own TIMEOUT."""

Ttl = float | None | Default


def _upper(options: dict[str, Any]) -> dict[str, Any]:
    """Return options under their upper-case names; ConfigError for one given twice."""
    upper: dict[str, Any] = {}
    for name, value in options.items():
        if name.upper() in upper:
            raise ConfigError(f"{name.upper()} is given twice, in both cases.")
        upper[name.upper()] = value
    return upper


class Cache(Operated):
    """A two-level cache: this process's memory in front of a shared store.

    ``location`` is a URL (``redis://``, ``rediss://``, ``unix://``, ``memory://``);
    ``options`` are those of ``docs/options.md``, in upper or lower case.  Keys are
    strings and get ``KEY_PREFIX`` in front.  TTLs are seconds; None is without expiry,
    0 or less is over at once.

    Thread safe; an object may be made per use, since caches on one server share their
    memory.  While the shared store is away every method gives the answer of
    ``docs/outages.md``, or raises ``L2Error`` with ``ON_ERROR="raise"``.  Raises
    ``TypeError`` for a key that is not a string.

    The methods that begin with ``a`` are the same for tasks: ``docs/async.md``.
    """

    def __init__(self, location: str, **options: Any) -> None:
        engine_options, self._options = parse_options(_upper(options))
        shown = hide_password(str(location))
        engine = engine_for(location, engine_options, user=f"Cache({shown!r})")
        self._binding = Binding(engine, self._options)
        self._probe = self._binding.probe
        self._prefix = self._options.key_prefix
        self._pattern = pattern_of_prefix(self._prefix)
        if self._prefix:
            self._binding.can_be_cleared_by(self._pattern)
        engine.welcome(self)

    # -- reading -----------------------------------------------------------------------

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of ``key``, ``default`` if there is none."""
        if type(key) is str:
            value = self._probe(key)
            if value is not MISSING:
                return value
        operations, full_key = self._locate(key)
        value = operations.get(full_key)
        return default if value is MISSING else value

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values that exist, by key; one round trip for what L1 lacks."""
        found, missed = self._binding.probe_many(list(keys))
        for operations, names in self._binding.group(missed, self._locate):
            for full_key, value in operations.get_many(names).items():
                found[names[full_key]] = value
        return found

    def has_key(self, key: str) -> bool:
        """Tell whether the key exists."""
        operations, full_key = self._locate(key)
        return operations.has_key(full_key)

    __contains__ = has_key

    # -- writing -----------------------------------------------------------------------

    def set(self, key: str, value: Any, ttl: Ttl = DEFAULT) -> bool:
        """Set the value; every other process drops its copy within milliseconds.

        False if the shared store is away: then its old value will be deleted.
        """
        operations, full_key = self._locate(key)
        return operations.set(full_key, value, self._ttl_ms(ttl))

    def set_many(self, items: Mapping[str, Any], ttl: Ttl = DEFAULT) -> list[str]:
        """Set all values: one round trip, one message (per thousand keys).

        Returns the keys that failed, which is all or none.
        """
        failed: list[str] = []
        for operations, names in self._binding.group(items, self._locate):
            by_full_key = {full_key: items[key] for full_key, key in names.items()}
            refused = operations.set_many(by_full_key, self._ttl_ms(ttl))
            failed += [names[full_key] for full_key in refused]
        return failed

    def add(self, key: str, value: Any, ttl: Ttl = DEFAULT) -> bool:
        """Set the value if the key does not exist; tell whether it did not."""
        operations, full_key = self._locate(key)
        return operations.add(full_key, value, self._ttl_ms(ttl))

    def touch(self, key: str, ttl: Ttl = DEFAULT) -> bool:
        """Give the key a new TTL; tell whether it exists."""
        operations, full_key = self._locate(key)
        return operations.touch(full_key, self._ttl_ms(ttl))

    def incr(self, key: str, delta: float = 1) -> Any:
        """Add ``delta`` to a number, keep its TTL, return the sum.

        Atomic.  Raises MissingKeyError if the key does not exist, and
        CounterUnavailableError while the shared store is away: ValueErrors both.
        """
        operations, full_key = self._locate(key)
        return operations.incr(full_key, delta)

    def decr(self, key: str, delta: float = 1) -> Any:
        """Subtract ``delta``; see ``incr``."""
        return self.incr(key, -delta)

    def delete(self, key: str) -> bool:
        """Delete the key; tell whether it existed."""
        operations, full_key = self._locate(key)
        return operations.delete(full_key)

    def delete_many(self, keys: Iterable[str]) -> int:
        """Delete all keys; return how many existed."""
        return sum(
            [
                operations.delete_many(names)
                for operations, names in self._binding.group(keys, self._locate)
            ]
        )

    def get_or_load(  # noqa: PLR0917 keyword-only ones cost a hit 8 ns each
        self,
        key: str,
        loader: Callable[[], T],
        ttl: Ttl = DEFAULT,
        default: Any = None,
        lease_ttl: float | None = None,
        stale_ttl: float | None = None,
        stale_if_error: float | None = None,
        negative_ttl: float | None = None,
        early_refresh: float | None = None,
    ) -> T | Any:
        """Return the value, or load and store it if there is none.

        The loader runs once however many threads and processes ask; if it raises, the
        next in line tries.  A value written by somebody else meanwhile wins.  A loader
        that returns ``ABSENT`` says "no such thing": callers get ``default``, for
        ``negative_ttl`` seconds without asking again.

        ``lease_ttl``, ``stale_ttl``, ``stale_if_error``, ``negative_ttl`` (seconds) and
        ``early_refresh`` override the cache's options for this call.  Raises
        ConfigError for an unusable one.
        """
        if type(key) is str:
            value = self._probe(key)
            if value is not MISSING:
                return value
        operations, full_key = self._locate(key)
        terms = self._binding.terms_with(
            lease_ttl=lease_ttl,
            stale_ttl=stale_ttl,
            stale_if_error=stale_if_error,
            negative_ttl=negative_ttl,
            early_refresh=early_refresh,
        )
        ttl_ms = self._ttl_ms(ttl)
        value = operations.get_or_load(full_key, loader, ttl_ms, terms)
        return default if value is ABSENT else value

    def clear(self) -> bool:
        """Delete this cache's keys (those with its KEY_PREFIX) everywhere.

        False if the shared store is away: then it will be cleared when it is back.
        Without a KEY_PREFIX every key of the database would match: then it raises
        UnsupportedOperationError unless CLEAR_FLUSHES_DB is set.
        """
        self._require_clearable()
        if self._options.clear_flushes_db:
            return self._binding.coherent.flush_db()
        return self._binding.coherent.clear(self._pattern)

    # -- the same for tasks ------------------------------------------------------------

    async def aget(self, key: str, default: Any = None) -> Any:
        """See ``get``; a hit in L1 does not suspend."""
        if type(key) is str:
            value = self._probe(key)
            if value is not MISSING:
                return value
        operations, full_key = self._locate(key)
        value = await operations.aio.get(full_key)
        return default if value is MISSING else value

    async def aget_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """See ``get_many``."""
        found, missed = self._binding.probe_many(list(keys))
        for operations, names in self._binding.group(missed, self._locate):
            for full_key, value in (await operations.aio.get_many(names)).items():
                found[names[full_key]] = value
        return found

    async def ahas_key(self, key: str) -> bool:
        """See ``has_key``."""
        operations, full_key = self._locate(key)
        return await operations.aio.has_key(full_key)

    async def aset(self, key: str, value: Any, ttl: Ttl = DEFAULT) -> bool:
        """See ``set``."""
        operations, full_key = self._locate(key)
        return await operations.aio.set(full_key, value, self._ttl_ms(ttl))

    async def aset_many(
        self, items: Mapping[str, Any], ttl: Ttl = DEFAULT
    ) -> list[str]:
        """See ``set_many``."""
        failed: list[str] = []
        for operations, names in self._binding.group(items, self._locate):
            by_full_key = {full_key: items[key] for full_key, key in names.items()}
            refused = await operations.aio.set_many(by_full_key, self._ttl_ms(ttl))
            failed += [names[full_key] for full_key in refused]
        return failed

    async def aadd(self, key: str, value: Any, ttl: Ttl = DEFAULT) -> bool:
        """See ``add``."""
        operations, full_key = self._locate(key)
        return await operations.aio.add(full_key, value, self._ttl_ms(ttl))

    async def atouch(self, key: str, ttl: Ttl = DEFAULT) -> bool:
        """See ``touch``."""
        operations, full_key = self._locate(key)
        return await operations.aio.touch(full_key, self._ttl_ms(ttl))

    async def aincr(self, key: str, delta: float = 1) -> Any:
        """See ``incr``."""
        operations, full_key = self._locate(key)
        return await operations.aio.incr(full_key, delta)

    async def adecr(self, key: str, delta: float = 1) -> Any:
        """See ``decr``."""
        return await self.aincr(key, -delta)

    async def adelete(self, key: str) -> bool:
        """See ``delete``."""
        operations, full_key = self._locate(key)
        return await operations.aio.delete(full_key)

    async def adelete_many(self, keys: Iterable[str]) -> int:
        """See ``delete_many``."""
        return sum(
            [
                await operations.aio.delete_many(names)
                for operations, names in self._binding.group(keys, self._locate)
            ]
        )

    async def aget_or_load(  # noqa: PLR0917 as its twin
        self,
        key: str,
        loader: Callable[[], Awaitable[T]] | Callable[[], T],
        ttl: Ttl = DEFAULT,
        default: Any = None,
        lease_ttl: float | None = None,
        stale_ttl: float | None = None,
        stale_if_error: float | None = None,
        negative_ttl: float | None = None,
        early_refresh: float | None = None,
    ) -> T | Any:
        """See ``get_or_load``; the loader may be a coroutine function.

        It runs once however many tasks, threads and processes ask.  A caller that is
        cancelled while its loader runs hands over to the next in line.
        """
        if type(key) is str:
            value = self._probe(key)
            if value is not MISSING:
                return value
        operations, full_key = self._locate(key)
        terms = self._binding.terms_with(
            lease_ttl=lease_ttl,
            stale_ttl=stale_ttl,
            stale_if_error=stale_if_error,
            negative_ttl=negative_ttl,
            early_refresh=early_refresh,
        )
        ttl_ms = self._ttl_ms(ttl)
        value = await operations.aio.get_or_load(full_key, loader, ttl_ms, terms)
        return default if value is ABSENT else value

    async def aclear(self) -> bool:
        """See ``clear``."""
        self._require_clearable()
        if self._options.clear_flushes_db:
            return await self._binding.coherent.aio.flush_db()
        return await self._binding.coherent.aio.clear(self._pattern)

    # -- keys --------------------------------------------------------------------------

    def _locate(self, key: str) -> tuple[Guarded, str]:
        """Return the operations for a key, and its full form."""
        if not isinstance(key, str):
            raise TypeError(f"a key must be a str, not {type(key).__name__}: {key!r}")
        full_key = self._prefix + key
        operations = self._binding.operations_for(key, full_key)
        if operations is self._binding.coherent and type(key) is str:
            self._binding.remember(key, full_key)
        return operations, full_key

    def _require_clearable(self) -> None:
        if not self._prefix and not self._options.clear_flushes_db:
            raise UnsupportedOperationError(
                "clear() would delete every key of the database: give the cache a "
                "KEY_PREFIX, or set CLEAR_FLUSHES_DB to allow it."
            )

    def _ttl_ms(self, ttl: Ttl) -> int | None:
        return to_milliseconds(self._options.timeout if ttl is DEFAULT else ttl)
