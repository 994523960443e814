"""The framework-free cache.

Each method has two faces, for threads and for tasks; what takes several steps is one
coroutine below them (``engine/binding.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from cachebridge.config import LoadOverrides, by_upper_name, parse_options
from cachebridge.core.entry import ABSENT, MISSING
from cachebridge.core.keys import Affixes, pattern_of_prefix, tags_of
from cachebridge.core.ttl import DEFAULT, Ttl, to_milliseconds
from cachebridge.engine.admin import AdminMethods, Closing
from cachebridge.engine.extras.patterns import KeySet, PatternMethods
from cachebridge.groups.methods import MemoizeMethods
from cachebridge.subscripts import Subscripts
from cachebridge.waiting.io import TASKS, THREADS
from cachebridge.waiting.run import Steps, run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from cachebridge.core.keys import Tags
    from cachebridge.engine.kinds.key_operations import KeyOperations
    from cachebridge.groups.entries import Place

T = TypeVar("T")

NO_PREFIX: Final = (
    "clear() would delete every key of the database: give the cache a KEY_PREFIX, or "
    "set CLEAR_FLUSHES_DB to allow it."
)


class Cache(Closing, Subscripts, AdminMethods, PatternMethods, MemoizeMethods):
    """A two-level cache: this process's memory in front of a shared store.

    ``location`` is a URL (``redis://``, ``rediss://``, ``redis+sentinel://``,
    ``unix://``, ``memory://``, ``memcached://``); ``options`` are those of
    ``docs/options.md``, in upper or lower case.  Keys are strings and get
    ``KEY_PREFIX`` in front.  TTLs are seconds; None is without expiry.  A TTL of 0 or
    less stores nothing: ``set`` then deletes the key.

    Thread safe; an object may be made per use, since caches on one server share their
    memory.  ``close``, or the end of a ``with`` or ``async with`` block, ends its use.
    The methods that begin with ``a`` are the same for tasks of any asyncio event loop:
    ``docs/async.md``.

    Raises ConfigError for an unknown or unusable option, TypeError for a key that is
    not a string or a TTL that is not a number, and what the serializer raises for a
    value that it cannot write.  While the shared store is away every method gives the
    answer of ``docs/outages.md``, or raises L2Error with ``ON_ERROR="raise"``.
    """

    def __init__(self, location: str, **options: Any) -> None:
        # Importing cachebridge is cheap: the engine is loaded by the first cache.
        from cachebridge.engine.binding import Binding  # noqa: PLC0415
        from cachebridge.engine.registry import engine_for  # noqa: PLC0415
        from cachebridge.texts import hide_password  # noqa: PLC0415

        engine_options, self._options = parse_options(by_upper_name(options))
        shown = hide_password(str(location))
        engine = engine_for(location, engine_options, user=f"Cache({shown!r})")
        self._binding = Binding(
            engine, self._options, name=self._options.key_prefix.strip(":_")
        )
        self._local_get = self._binding.local_get
        self._prefix = self._options.key_prefix
        self._binding.makes_keys_by(self._prefix)
        if self._prefix:
            self._binding.can_be_cleared_by(pattern_of_prefix(self._prefix))
        engine.listening.register_adapter(self)

    # -- reading -----------------------------------------------------------------------

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of ``key``, ``default`` if there is none."""
        if type(key) is str:
            value = self._local_get(key)
            if value is not MISSING:
                return value
        operations, full_key = self._locate(key)
        value = run(operations.for_threads.get(full_key))
        return default if value is MISSING else value

    async def aget(self, key: str, default: Any = None) -> Any:
        """See ``get``; a hit in L1 does not suspend."""
        if type(key) is str:
            value = self._local_get(key)
            if value is not MISSING:
                return value
        operations, full_key = self._locate(key)
        value = await operations.for_tasks.get(full_key)
        return default if value is MISSING else value

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values that exist, by key; one round trip for what L1 lacks."""
        found, missed = self._binding.local_get_many(list(keys))
        if missed:
            found |= run(self._binding.get_many(THREADS, missed, self._locate))
        return found

    async def aget_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """See ``get_many``; hits in L1 do not suspend."""
        found, missed = self._binding.local_get_many(list(keys))
        if missed:
            found |= await self._binding.get_many(TASKS, missed, self._locate)
        return found

    def has_key(self, key: str) -> bool:
        """Return whether the key exists."""
        operations, full_key = self._locate(key)
        return run(operations.for_threads.has_key(full_key))

    __contains__ = has_key

    async def ahas_key(self, key: str) -> bool:
        """See ``has_key``."""
        operations, full_key = self._locate(key)
        return await operations.for_tasks.has_key(full_key)

    # -- loading -----------------------------------------------------------------------

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
        tags: Tags = None,
    ) -> T | Any:
        """Return the value, or load and store it if there is none.

        The loader runs once however many threads and processes ask; a coroutine
        function needs ``aget_or_load``.  If it raises, all callers of the process that
        wait for it get the exception.  None of them waits longer than ``lease_ttl``
        (five seconds if that is 0): then it runs its own loader.  A value that another
        caller sets meanwhile wins.  A loader that returns ``ABSENT`` says "no such
        thing": callers get ``default``, for ``negative_ttl`` seconds without asking
        again.

        ``lease_ttl``, ``stale_ttl``, ``stale_if_error``, ``negative_ttl`` (seconds) and
        ``early_refresh`` (a factor, 0 for never) override the cache's options for this
        call.  Raises ConfigError for an unusable one.  ``tags``: see ``set``; they are
        read before the loader runs, which may name more with ``cachebridge.tag``.
        """
        if type(key) is str:
            value = self._local_get(key)
            if value is not MISSING:
                return value
        overrides = LoadOverrides(
            lease_ttl, stale_ttl, stale_if_error, negative_ttl, early_refresh
        )
        located, ttl_ms = self._locate(key), self._ttl_ms(ttl)
        how = ttl_ms, overrides
        load = self._binding.get_or_load(THREADS, located, loader, *how, tags=tags)
        with Steps(load) as steps:  # this very frame calls the loader
            while steps.go_on():
                steps.answer = steps.function()
        return default if steps.result is ABSENT else steps.result

    async def aget_or_load(  # noqa: PLR0917 as get_or_load
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
        tags: Tags = None,
    ) -> T | Any:
        """See ``get_or_load``; the loader may be a coroutine function.

        It runs once however many tasks, threads and processes ask.  If the task that
        loads is cancelled, the next caller in line loads.
        """
        if type(key) is str:
            value = self._local_get(key)
            if value is not MISSING:
                return value
        overrides = LoadOverrides(
            lease_ttl, stale_ttl, stale_if_error, negative_ttl, early_refresh
        )
        located, ttl_ms = self._locate(key), self._ttl_ms(ttl)
        how = ttl_ms, overrides
        load = self._binding.get_or_load(TASKS, located, loader, *how, tags=tags)
        value = await load
        return default if value is ABSENT else value

    # -- writing -----------------------------------------------------------------------

    def set(
        self,
        key: str,
        value: Any,
        ttl: Ttl = DEFAULT,
        *,
        wait: bool = True,
        tags: Tags = None,
    ) -> bool:
        """Set the value; every other process drops its copy within milliseconds.

        Returns False if the shared store is away: then its old value will be deleted.
        With ``wait=False`` this process has the value at once, and the shared store
        within ``WRITE_BEHIND_MS``; a crash loses it: ``docs/write-behind.md``.
        With ``tags``, a list of str, ``invalidate_tags`` ends the value's use:
        ``docs/tags.md``.
        """
        operations, full_key = self._locate(key)
        how = self._ttl_ms(ttl), wait, tags_of(tags)
        return run(operations.for_threads.set_as(full_key, value, *how))

    async def aset(
        self,
        key: str,
        value: Any,
        ttl: Ttl = DEFAULT,
        *,
        wait: bool = True,
        tags: Tags = None,
    ) -> bool:
        """See ``set``."""
        operations, full_key = self._locate(key)
        how = self._ttl_ms(ttl), wait, tags_of(tags)
        return await operations.for_tasks.set_as(full_key, value, *how)

    def set_many(
        self, items: Mapping[str, Any], ttl: Ttl = DEFAULT, *, tags: Tags = None
    ) -> list[str]:
        """Set all values: one round trip, one message (per thousand keys).

        Returns the keys that failed.  Over Redis these are all or none; over Memcached
        also single ones, too large or on a server that is away.
        """
        how = self._ttl_ms(ttl), self._locate, tags
        return run(self._binding.set_many(THREADS, items, *how))

    async def aset_many(
        self, items: Mapping[str, Any], ttl: Ttl = DEFAULT, *, tags: Tags = None
    ) -> list[str]:
        """See ``set_many``."""
        how = self._ttl_ms(ttl), self._locate, tags
        return await self._binding.set_many(TASKS, items, *how)

    def add(
        self, key: str, value: Any, ttl: Ttl = DEFAULT, *, tags: Tags = None
    ) -> bool:
        """Set the value if the key does not exist; return whether it was set."""
        operations, full_key = self._locate(key)
        ttl_ms, names = self._ttl_ms(ttl), tags_of(tags)
        return run(operations.for_threads.add(full_key, value, ttl_ms, tags=names))

    async def aadd(
        self, key: str, value: Any, ttl: Ttl = DEFAULT, *, tags: Tags = None
    ) -> bool:
        """See ``add``."""
        operations, full_key = self._locate(key)
        ttl_ms, names = self._ttl_ms(ttl), tags_of(tags)
        return await operations.for_tasks.add(full_key, value, ttl_ms, tags=names)

    def touch(self, key: str, ttl: Ttl = DEFAULT) -> bool:
        """Give the key a new TTL; return whether it exists."""
        operations, full_key = self._locate(key)
        return run(operations.for_threads.touch(full_key, self._ttl_ms(ttl)))

    async def atouch(self, key: str, ttl: Ttl = DEFAULT) -> bool:
        """See ``touch``."""
        operations, full_key = self._locate(key)
        return await operations.for_tasks.touch(full_key, self._ttl_ms(ttl))

    def incr(self, key: str, delta: float = 1) -> Any:
        """Add ``delta`` to a number, keep its TTL, return the sum.

        Atomic.  Raises MissingKeyError if the key does not exist, and
        CounterUnavailableError while the shared store is away; both are ValueErrors.
        """
        operations, full_key = self._locate(key)
        return run(operations.for_threads.incr(full_key, delta))

    async def aincr(self, key: str, delta: float = 1) -> Any:
        """See ``incr``."""
        operations, full_key = self._locate(key)
        return await operations.for_tasks.incr(full_key, delta)

    def decr(self, key: str, delta: float = 1) -> Any:
        """Subtract ``delta``; see ``incr``."""
        return self.incr(key, -delta)

    async def adecr(self, key: str, delta: float = 1) -> Any:
        """See ``decr``."""
        return await self.aincr(key, -delta)

    def append(self, key: str, data: str | bytes, ttl: Ttl = DEFAULT) -> int:
        """Append to a text or to bytes, keep its TTL, return the new length.

        Atomic.  A missing value is made, with ``ttl``.  Raises TypeError for a value
        of another type, ValueError if a million characters or bytes are exceeded;
        then nothing has changed.  Returns 0 while the shared store is away.
        """
        operations, full_key = self._locate(key)
        return run(operations.for_threads.append(full_key, data, self._ttl_ms(ttl)))

    async def aappend(self, key: str, data: str | bytes, ttl: Ttl = DEFAULT) -> int:
        """See ``append``."""
        operations, full_key = self._locate(key)
        return await operations.for_tasks.append(full_key, data, self._ttl_ms(ttl))

    # -- deleting ----------------------------------------------------------------------

    def delete(self, key: str) -> bool:
        """Delete the key; return whether it existed."""
        operations, full_key = self._locate(key)
        return run(operations.for_threads.delete(full_key))

    async def adelete(self, key: str) -> bool:
        """See ``delete``."""
        operations, full_key = self._locate(key)
        return await operations.for_tasks.delete(full_key)

    def delete_many(self, keys: Iterable[str]) -> int:
        """Delete all keys; return how many existed."""
        return run(self._binding.delete_many(THREADS, keys, self._locate))

    async def adelete_many(self, keys: Iterable[str]) -> int:
        """See ``delete_many``."""
        return await self._binding.delete_many(TASKS, keys, self._locate)

    # -- keys --------------------------------------------------------------------------

    def _locate(self, key: str) -> tuple[KeyOperations, str]:
        """Return the operations for a key, and its full form."""
        binding = self._binding
        if type(key) is str and (known := binding.known_full_key(key)) is not None:
            return binding.coherent, known
        if not isinstance(key, str):
            raise TypeError(f"a key must be a str, not {type(key).__name__}: {key!r}")
        full_key = self._prefix + key
        operations = binding.operations_for(key, full_key)
        if operations is binding.coherent and type(key) is str:
            binding.remember(key, full_key)
        return operations, full_key

    def _key_set(self) -> KeySet:
        return KeySet(self._binding, Affixes(self._prefix), NO_PREFIX)

    def _find_locally(self, key: str) -> Any:
        return self._local_get(key)

    def _place(self) -> Place:
        from cachebridge.groups.entries import Place  # noqa: PLC0415 see __init__

        return Place(self._binding, self._locate, self._ttl_ms(DEFAULT))

    def _full_key_of(self, key: str) -> str:
        return self._locate(key)[1]

    def _ttl_ms(self, ttl: Ttl) -> int | None:
        return to_milliseconds(self._options.timeout if ttl is DEFAULT else ttl)
