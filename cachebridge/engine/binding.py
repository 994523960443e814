"""One cache's share in an engine: its operations and the fast path to L1.

All adapters of one alias in a process, one per thread or request, use one binding.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from cachebridge.codec.envelope import STAMPS
from cachebridge.codec.values import serializer_of
from cachebridge.codec.wrapping import wrapping_of
from cachebridge.config import LoadOverrides, override_load_options
from cachebridge.core.dropping.tags import TAG_PREFIX
from cachebridge.core.entry import is_expired
from cachebridge.core.keys import (
    COUNTER_PREFIX,
    NO_TAGS,
    OWN_PREFIX,
    Tags,
    fits_message,
    names_of,
    tags_of,
)
from cachebridge.core.loading import LoadTerms, load_terms
from cachebridge.engine.holding.blocks import view_of
from cachebridge.engine.holding.held import Held
from cachebridge.engine.kinds.key_operations import KeyOperations, Loader
from cachebridge.errors import UnsupportedOperationError
from cachebridge.l1.local_get import make_local_get, make_local_get_many

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cachebridge.codec.values import Serializer
    from cachebridge.config import CacheOptions
    from cachebridge.core.keys import KeyPattern
    from cachebridge.engine.engine import Engine
    from cachebridge.waiting.io import IO

K = TypeVar("K")

MAX_ALIAS_CHARS = 512
"""A longer key takes the longer way to L1, and no memory here."""
MIN_SPARE_ALIASES = 1024
NO_OVERRIDES = LoadOverrides()


Locate = Callable[[K], tuple[KeyOperations, str]]
"""An adapter's way from a key of its caller to operations and full key."""


class Binding:
    """Operations for the keys of one cache.  Thread safe."""

    def __init__(
        self,
        engine: Engine,
        options: CacheOptions,
        *,
        serializer: Serializer | None = None,
        in_background: Callable[[Loader], Loader] = lambda load: load,
        tag_prefix: str | None = None,
        name: str = "",
    ) -> None:
        """``tag_prefix`` is what the full keys of stamps begin with: KEY_PREFIX.

        A cache with a ``name``, as an alias is, has counters of its own.
        """
        self.engine = engine
        self.options = options
        self.terms = load_terms(options)
        counters = engine.counters.of(name)
        serializer = serializer or serializer_of(options)
        values = engine.values_for(serializer, wrapping_of(options, serializer.format))
        prefix = options.key_prefix if tag_prefix is None else tag_prefix
        self._stamps_begin = prefix + TAG_PREFIX
        make = partial(
            KeyOperations,
            engine,
            options=options,
            in_background=in_background,
            key_of_tag=self._stamps_begin.__add__,
            counters=counters,
        )
        self.coherent = make(values, enters_l1=True, publishes=True)
        self.direct = make(values, enters_l1=False, publishes=False)
        self.of_counters = make(values, enters_l1=False, publishes=True)
        self.of_stamps = make(
            engine.values_for(STAMPS), enters_l1=True, publishes=True, are_stamps=True
        )
        self._kinds = self.coherent, self.direct, self.of_counters, self.of_stamps
        self.counting, self.batches = self.coherent, engine.batches
        """What counters use, until ``close``."""
        self.is_clearable = False
        self.own_prefix: str | None = None
        self._exclude = options.l1_exclude
        self._aliases: dict[str, str] = {}
        self.known_full_key: Callable[[str], str | None] = self._aliases.get
        """Returns the full key of a key that ``remember`` was told of."""
        self._max_aliases = MIN_SPARE_ALIASES
        self.held = Held(engine.rules, self._aliases, self._alias_of)
        rules = engine.rules
        shared: dict[str, Any] = {
            "gate": rules.outage_gate if options.on_error == "degrade" else rules.gate,
            "clock": rules.clock,
            "copies": values.copies,
            "counters": counters,
        }
        self.local_get = make_local_get(self._aliases, engine.l1, **shared)
        self.local_get_many = make_local_get_many(self._aliases, engine.l1, **shared)

    def close(self, closed: Any) -> None:
        """Let counters use ``closed`` instead, which raises whatever is asked of it."""
        self.counting = self.batches = closed

    def can_be_cleared_by(self, pattern: KeyPattern | None) -> None:
        """Say what matches all keys of this cache, for deletes that are pending."""
        self.is_clearable = True
        for each in self._kinds:
            each.fallbacks.pattern = pattern

    def makes_keys_by(self, prefix: str) -> None:
        """Say that the full form of every key is this prefix and the key."""
        if self.own_prefix is None:
            self.own_prefix = prefix
            self.engine.warm_up.register(prefix, self)

    def terms_with(self, overrides: LoadOverrides) -> LoadTerms:
        """Return how this cache loads, with the options of one call.

        Raises ConfigError for an unusable value.
        """
        if overrides == NO_OVERRIDES:
            return self.terms
        return load_terms(override_load_options(self.options, overrides))

    def get_or_load(
        self,
        io: IO,
        located: tuple[KeyOperations, str],
        loader: Loader,
        ttl_ms: int | None,
        overrides: LoadOverrides,
        *,
        tags: Tags = None,
    ) -> Coroutine[Any, Any, Any]:
        """Return the value or what the loader returns, ABSENT included.

        ``located`` is what the adapter's ``Locate`` returns.  Raises ConfigError for an
        unusable option of this call, TypeError and ValueError for what are no tags.
        """
        operations, full_key = located
        terms = self.terms_with(overrides)
        names = NO_TAGS if tags is None else tags_of(tags)
        return operations.on(io).get_or_load(full_key, loader, ttl_ms, terms, names)

    def operations_for(self, key: str, full_key: str) -> KeyOperations:
        """Return the operations for a key of the caller, by what L1 may hold of it."""
        if not fits_message(full_key):
            return self.direct
        if key.startswith(OWN_PREFIX):
            if key.startswith(COUNTER_PREFIX):
                return self.of_counters
            if full_key.startswith(self._stamps_begin):
                return self.of_stamps
        return self.direct if key.startswith(self._exclude) else self.coherent

    # -- several keys, which may need different operations -----------------------------

    async def get_many(
        self, io: IO, keys: Sequence[K], locate: Locate[K]
    ) -> dict[K, Any]:
        """Return the values that L2 has, by key, in the order of ``keys``.

        Two keys may have one full key: both are in the answer.
        """
        groups = self.group(keys, locate)
        values: dict[str, Any] = {}
        for found in await io.together(
            [operations.on(io).get_many(names) for operations, names in groups]
        ):
            values.update(found)
        if len(groups) == 1 and len(names := groups[0][1]) == len(keys):  # mostly
            return {key: values[name] for name, key in names.items() if name in values}
        located = [(key, locate(key)[1]) for key in keys]
        return {key: values[name] for key, name in located if name in values}

    def lacking(self, keys: Iterable[K], locate: Locate[K]) -> list[str]:
        """Return the full keys of those that L1 may hold and does not."""
        look, now = self.engine.l1.look, self.engine.clock()
        lacking: dict[str, None] = {}
        for operations, full_key in map(locate, keys):
            entry = look(full_key)
            if operations is self.coherent and (
                entry is None or is_expired(entry, now)
            ):
                lacking[full_key] = None
        return list(lacking)

    def lacking_of_own(self, keys: Iterable[str]) -> list[str]:
        """Return the same of keys that the prefix makes full."""
        prefix = self.own_prefix or ""

        def locate(key: str) -> tuple[KeyOperations, str]:
            return self.operations_for(key, prefix + key), prefix + key

        return self.lacking(keys, locate)

    async def warm(self, io: IO, full_keys: list[str]) -> bool:
        """Read these from L2 into L1, if the rules allow; False if L2 is away."""
        stores, operations = self.engine.stores, self.coherent.on(io)
        shards = stores.split(full_keys) if stores.is_sharded else [full_keys]
        return any(await io.together([operations.warm(list(s)) for s in shards]))

    async def set_many(
        self,
        io: IO,
        items: Mapping[K, Any],
        ttl_ms: int | None,
        locate: Locate[K],
        tags: Tags = None,
    ) -> list[K]:
        """Set all values; return the keys that failed."""
        names_of_all = tags_of(tags)
        groups = self.group(items, locate)
        refused = await io.together(
            [
                operations.on(io).set_many(
                    {full_key: items[key] for full_key, key in names.items()},
                    ttl_ms,
                    tags=names_of_all,
                )
                for operations, names in groups
            ]
        )
        return [
            names[full_key]
            for (_, names), few in zip(groups, refused, strict=True)
            for full_key in few
        ]

    async def delete_many(self, io: IO, keys: Iterable[K], locate: Locate[K]) -> int:
        """Delete all keys; return how many existed."""
        groups = self.group(keys, locate)
        calls = [operations.on(io).delete_many(names) for operations, names in groups]
        return sum(await io.together(calls))

    async def clear(
        self, io: IO, pattern: Callable[[], KeyPattern | None], why_not: str
    ) -> bool:
        """Delete the keys of the pattern, or all keys if CLEAR_FLUSHES_DB is set.

        Raises UnsupportedOperationError, with the text ``why_not``, if there is none.
        """
        operations = self.coherent.on(io)
        if self.options.clear_flushes_db:
            return await operations.flush_db()
        if (found := pattern()) is None:
            raise UnsupportedOperationError(why_not)
        return await operations.clear(found)

    def group(
        self, keys: Iterable[K], locate: Locate[K]
    ) -> list[tuple[KeyOperations, dict[str, K]]]:
        """Sort keys by their operations, by full key: mostly all are in one group."""
        names: dict[KeyOperations, dict[str, K]] = {each: {} for each in self._kinds}
        for key in keys:
            operations, full_key = locate(key)
            try:
                names[operations][full_key] = key
            except KeyError:  # as seen within a transaction
                names[operations] = {full_key: key}
        groups = [(each, names[each]) for each in names if names[each]]
        return self._by_shard(groups) if self.engine.stores.is_sharded else groups

    def _by_shard(
        self, groups: list[tuple[KeyOperations, dict[str, K]]]
    ) -> list[tuple[KeyOperations, dict[str, K]]]:
        """Divide further, so that a server that is away takes no other keys along."""
        return [
            (operations, {full_key: names[full_key] for full_key in shard})
            for operations, names in groups
            for shard in self.engine.stores.split(names)
        ]

    async def invalidate_tags(self, io: IO, tags: Iterable[str]) -> bool:
        """Make every value of these tags invalid; False if it is told later.

        Raises TypeError and ValueError for what is no tag.
        """
        keys = [self._stamps_begin + tag for tag in names_of(tags)]
        stores, kind = self.engine.stores, self.of_stamps
        if self.held.in_use and keys and (view := view_of(self.held, keys[0])):
            kind = kind.seen_by(view)
        operations = kind.on(io)
        shards = stores.split(keys) if stores.is_sharded and keys else [keys]
        return all(await io.together([operations.delete_stamps(s) for s in shards]))

    # -- the fast path to L1 -----------------------------------------------------------

    def remember(self, key: str, full_key: str) -> None:
        """Let ``local_get`` find ``full_key`` by the caller's key from now on.

        Only for keys that need no warning and always have this full key.
        """
        if len(self._aliases) >= self._max_aliases:
            self._forget_unused()
        if len(key) <= MAX_ALIAS_CHARS:
            self.held.add_alias(key, full_key)

    def _alias_of(self, full_key: str) -> str | None:
        """Return the key under which ``remember`` may have been told of a full key."""
        prefix = self.own_prefix
        if prefix is None or not full_key.startswith(prefix):
            return None
        return full_key[len(prefix) :]

    def _forget_unused(self) -> None:
        """Forget keys that L1 does not hold, and allow for a few more again.

        What an entry's key costs here is charged to the entry; the rest is the excess
        over L1's bound in bytes, and must stay small beside it.
        """
        l1 = self.engine.l1
        for key, full_key in self._aliases.copy().items():  # a copy is atomic
            if l1.look(full_key) is None:
                self._aliases.pop(key, None)
        spare = max(MIN_SPARE_ALIASES, len(l1) // 8)
        self._max_aliases = len(self._aliases) + spare
