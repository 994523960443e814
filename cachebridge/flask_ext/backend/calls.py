"""What a backend does that waits, as coroutines over the caller's keys.

Every method takes the ``IO`` of its caller: a thread gives the coroutine of ``THREADS``
to ``run``, a task awaits that of ``TASKS``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cachebridge.config import LoadOverrides
from cachebridge.core.keys import Affixes, tags_of
from cachebridge.engine.extras.patterns import KeySet
from cachebridge.errors import CounterUnavailableError, MissingKeyError
from cachebridge.groups.entries import Place

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Collection,
        Coroutine,
        Iterable,
        Mapping,
        Sequence,
    )

    from cachebridge.core.entry import Missing
    from cachebridge.core.keys import Tags
    from cachebridge.engine.binding import Binding
    from cachebridge.engine.kinds.key_operations import KeyOperations
    from cachebridge.engine.outage.fallbacks import ResilientOperations
    from cachebridge.engine.tagging.running import LoadTags
    from cachebridge.waiting.io import IO

_INC_ATTEMPTS: Final = 3
"""Limit of rounds that find no number and then find one; an outage repeats them."""
_MAX_PROLONGED: Final = 10_000
_NO_PREFIX: Final = (
    "clear() would delete every key of the database: set CACHE_KEY_PREFIX, or "
    "CLEAR_FLUSHES_DB in CACHE_BRIDGE to allow it."
)


class BackendCalls:
    """The operations on the keys of one backend.  Thread safe.

    Callers look first for what L1 has.
    """

    def __init__(self, binding: Binding, prefix: str | Callable[[], str]) -> None:
        self.binding = binding
        self._prefix = prefix
        self._has_fixed_prefix = type(prefix) is str
        self._foreground = binding.terms_with(
            LoadOverrides(stale_ttl=0, early_refresh=0)
        )
        self._prolonged_until: dict[str, float] = {}
        """By key, the time before which ``keep_alive`` does nothing."""

    # -- keys --------------------------------------------------------------------------

    def _locate(self, key: Any) -> tuple[KeyOperations, str]:
        """Return the operations for a key, and its full form."""
        binding = self.binding
        text = key if type(key) is str else str(key)
        if self._has_fixed_prefix:
            known = binding.known_full_key(text)
            if known is not None:
                return binding.coherent, known
        full_key = self._whole_prefix() + text
        operations = binding.operations_for(text, full_key)
        if self._has_fixed_prefix and operations is binding.coherent:
            binding.remember(text, full_key)
        return operations, full_key

    def full_key_of(self, key: Any) -> str:
        """Return the full form of a key."""
        return self._locate(key)[1]

    def _locate_on(self, io: IO, key: Any) -> tuple[ResilientOperations, str]:
        operations, full_key = self._locate(key)
        return operations.on(io), full_key

    def place(self, default_ttl_ms: int | None) -> Place | None:
        """Return where groups have their entries."""
        return Place(self.binding, self._locate, default_ttl_ms)

    def _whole_prefix(self) -> str:
        prefix = self._prefix
        return prefix if isinstance(prefix, str) else prefix()

    # -- reading -----------------------------------------------------------------------

    def get(self, io: IO, key: str) -> Coroutine[Any, Any, Any | Missing]:
        """Return the value or MISSING."""
        operations, full_key = self._locate_on(io, key)
        return operations.get(full_key)

    def get_local(self, keys: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
        """Return the values that L1 has, and the keys that it lacks."""
        wanted = list(keys)
        if self._has_fixed_prefix:
            return self.binding.local_get_many(wanted)
        return {}, wanted

    async def get_many(self, io: IO, keys: Sequence[str]) -> dict[str, Any]:
        """Return the values of the keys that exist."""
        return await self.binding.get_many(io, keys, self._locate)

    def has(self, io: IO, key: str) -> Coroutine[Any, Any, bool]:
        """Return whether the key exists."""
        operations, full_key = self._locate_on(io, key)
        return operations.has_key(full_key)

    def get_or_load(
        self,
        io: IO,
        key: str,
        loader: Callable[[], Any],
        ttl_ms: int | None,
        overrides: LoadOverrides,
        *,
        tags: Tags = None,
    ) -> Coroutine[Any, Any, Any]:
        """Return the value or what the loader returns, ABSENT included.

        Raises ConfigError for an unusable option of this call.
        """
        how = self._locate(key), loader, ttl_ms, overrides
        return self.binding.get_or_load(io, *how, tags=tags)

    def load_here(
        self,
        io: IO,
        key: str,
        loader: Callable[[], Any],
        ttl_ms: int | None,
        *,
        tags: Tags = None,
    ) -> Coroutine[Any, Any, Any]:
        """Return the value or what the loader returns, run by this thread or task.

        For loaders that need the request: they never run in the background.
        """
        operations, full_key = self._locate_on(io, key)
        how = ttl_ms, self._foreground, tags_of(tags)
        return operations.get_or_load(full_key, loader, *how)

    # -- writing -----------------------------------------------------------------------

    def set(
        self,
        io: IO,
        key: str,
        value: Any,
        ttl_ms: int | None,
        *,
        wait: bool = True,
        tags: Tags = None,
    ) -> Coroutine[Any, Any, bool]:
        """Set the value; True if that was done, or is going to be without ``wait``."""
        operations, full_key = self._locate_on(io, key)
        return operations.set_as(full_key, value, ttl_ms, wait, tags_of(tags))

    def new_tags(self, io: IO, key: str) -> LoadTags:
        """Return the tags of a value that is about to be computed for this key."""
        return self._locate_on(io, key)[0].new_tags()

    def set_computed(
        self, io: IO, key: str, value: Any, ttl_ms: int | None, tags: LoadTags
    ) -> Coroutine[Any, Any, bool]:
        """Set a value with the tags that were begun before it was computed."""
        operations, full_key = self._locate_on(io, key)
        return operations.set(full_key, value, ttl_ms, tags=tags)

    def add(
        self,
        io: IO,
        key: str,
        value: Any,
        ttl_ms: int | None,
        *,
        tags: Tags = None,
    ) -> Coroutine[Any, Any, bool]:
        """Set the value unless the key exists; True if that was done."""
        operations, full_key = self._locate_on(io, key)
        return operations.add(full_key, value, ttl_ms, tags=tags_of(tags))

    def append(
        self, io: IO, key: str, data: str | bytes, ttl_ms: int | None
    ) -> Coroutine[Any, Any, int]:
        """Append to a text or to bytes; return the new length."""
        operations, full_key = self._locate_on(io, key)
        return operations.append(full_key, data, ttl_ms)

    async def set_many(
        self,
        io: IO,
        mapping: Mapping[str, Any],
        ttl_ms: int | None,
        *,
        tags: Tags = None,
    ) -> list[Any]:
        """Set all values; return the keys of those that were set."""
        how = ttl_ms, self._locate, tags
        failed = await self.binding.set_many(io, mapping, *how)
        return [key for key in mapping if key not in failed]

    def touch(self, io: IO, key: str, ttl_ms: int | None) -> Coroutine[Any, Any, bool]:
        """Give the key a new TTL; return whether it exists."""
        operations, full_key = self._locate_on(io, key)
        return operations.touch(full_key, ttl_ms)

    async def keep_alive(
        self,
        io: IO,
        key: str,
        ttl_ms: int | None,
        slack_s: float,
        *,
        is_new: bool = False,
    ) -> None:
        """Give the key its TTL again, at most once in ``slack_s``.

        Not while L2 is away: touching the key would only drop its entry from L1.
        """
        is_due = self._must_prolong(key, slack_s)
        if is_due and (not is_new or self.binding.options.ttl_jitter):
            await self.touch(io, key, ttl_ms)

    def _must_prolong(self, key: str, slack_s: float) -> bool:
        """Return whether the TTL is due; if so, the next time is ``slack_s`` later."""
        engine = self.binding.engine
        now = engine.clock()
        is_away = engine.outage.began_at is not None
        if is_away or now < self._prolonged_until.get(key, 0.0):
            return False
        if len(self._prolonged_until) >= _MAX_PROLONGED:
            self._prolonged_until.clear()
        self._prolonged_until[key] = now + slack_s
        return True

    def delete(self, io: IO, key: str) -> Coroutine[Any, Any, bool]:
        """Delete the key; return whether it existed."""
        operations, full_key = self._locate_on(io, key)
        return operations.delete(full_key)

    async def delete_many(self, io: IO, keys: Collection[str]) -> list[Any]:
        """Delete all keys; return those whose delete is not pending."""
        pending = self.binding.engine.outage.pending_deletes
        gone: set[Any] = set()
        for operations, names in self.binding.group(keys, self._locate):
            await operations.on(io).delete_many(names)
            gone.update(
                key
                for full_key, key in names.items()
                if not pending.concern([full_key])
            )
        return [key for key in keys if key in gone]

    async def unlink(self, io: IO, keys: Collection[str]) -> Any:
        """Delete all keys; return how many existed."""
        return await self.binding.delete_many(io, keys, self._locate)

    async def inc(self, io: IO, key: str, delta: int) -> int | None:
        """Add to a number; a missing one becomes ``delta``.  None in an outage."""
        operations, full_key = self._locate_on(io, key)
        for _ in range(_INC_ATTEMPTS):
            try:
                return int(await operations.incr(full_key, delta))
            except CounterUnavailableError:
                return None
            except MissingKeyError:
                if await operations.add(full_key, delta, None, fences=False):
                    return delta
        return None

    def key_set(self) -> KeySet:
        """Return the keys for patterns."""
        return KeySet(self.binding, Affixes(self._whole_prefix()), _NO_PREFIX)
