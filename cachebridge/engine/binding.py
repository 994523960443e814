"""One cache's share in an engine: its operations and the fast path to L1.

All adapters of one alias in a process, one per thread or request, use one binding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from cachebridge.config import override_load_options
from cachebridge.core.keys import fits_message
from cachebridge.engine.answers import Payers
from cachebridge.engine.guarded import Guarded
from cachebridge.engine.operations import load_terms
from cachebridge.engine.sync import make_operations
from cachebridge.l1.probe import make_probe, make_probe_many

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cachebridge.codec.values import Serializer
    from cachebridge.config import CacheOptions
    from cachebridge.core.keys import KeyPattern
    from cachebridge.core.loading import LoadTerms
    from cachebridge.engine.engine import Engine

Loader = Callable[[], Any]
K = TypeVar("K")

MAX_ALIAS_CHARS = 512
"""A longer key takes the longer way to L1, and no memory here."""
MIN_SPARE_ALIASES = 1024


class Binding:
    """Operations for the keys of one cache.  Thread safe."""

    def __init__(
        self,
        engine: Engine,
        options: CacheOptions,
        *,
        serializer: Serializer | None = None,
        behind: Callable[[Loader], Loader] = lambda load: load,
    ) -> None:
        self.engine = engine
        self.options = options
        self.terms = load_terms(options)
        values = engine.values_for(serializer or options.serializer)
        degrades = options.on_error == "degrade"
        payers = Payers(
            *(
                make_operations(
                    engine, values, options, enters_l1=enters_l1, behind=behind
                )
                for enters_l1 in (True, False)
            )
        )
        self.coherent, self.direct = (
            Guarded(operations, degrades=degrades, payers=payers)
            for operations in payers
        )
        self.is_clearable = False
        self._exclude = options.l1_exclude
        self._aliases: dict[str, str] = {}
        self._max_aliases = MIN_SPARE_ALIASES
        rules = engine.rules
        shared: dict[str, Any] = {
            "gate": rules.outage_gate if degrades else rules.gate,
            "clock": rules.clock,
            "copies": values.copies,
            "counters": engine.counters,
        }
        self.probe = make_probe(self._aliases, engine.l1, **shared)
        self.probe_many = make_probe_many(self._aliases, engine.l1, **shared)

    def known_full_key(self, key: str) -> str | None:
        """Return the full key of a key that ``remember`` was told of."""
        return self._aliases.get(key)

    def can_be_cleared_by(self, pattern: KeyPattern | None) -> None:
        """Tell what matches all keys of this cache, for deletes that L2 owes."""
        self.is_clearable = True
        for operations in (self.coherent, self.direct):
            operations.pattern = operations.aio.pattern = pattern

    def terms_with(self, **overrides: float | None) -> LoadTerms:
        """Return how this cache loads, with the options of one call, None for its own.

        Raises ConfigError for an unusable value.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        if not given:
            return self.terms
        return load_terms(override_load_options(self.options, given))

    def operations_for(self, key: str, full_key: str) -> Guarded:
        """Return the operations for a key of the caller, by whether L1 may hold it."""
        if key.startswith(self._exclude) or not fits_message(full_key):
            return self.direct
        return self.coherent

    def group(
        self, keys: Iterable[K], locate: Callable[[K], tuple[Guarded, str]]
    ) -> list[tuple[Guarded, dict[str, K]]]:
        """Sort keys by their operations, by full key: mostly all are in one group."""
        names: dict[Guarded, dict[str, K]] = {self.coherent: {}, self.direct: {}}
        for key in keys:
            operations, full_key = locate(key)
            names[operations][full_key] = key
        groups = [(each, names[each]) for each in names if names[each]]
        return self._by_shard(groups) if self.engine.stores.is_sharded else groups

    def _by_shard(
        self, groups: list[tuple[Guarded, dict[str, K]]]
    ) -> list[tuple[Guarded, dict[str, K]]]:
        """Divide further, so that a server that is away takes no other keys along."""
        return [
            (operations, {full_key: names[full_key] for full_key in shard})
            for operations, names in groups
            for shard in self.engine.stores.split(names)
        ]

    def remember(self, key: str, full_key: str) -> None:
        """Let the probe find ``full_key`` by the caller's key from now on.

        Only for keys that need no warning and always have this full key.
        """
        if len(self._aliases) >= self._max_aliases:
            self._forget_unused()
        if len(key) <= MAX_ALIAS_CHARS:
            self._aliases[key] = full_key

    def _forget_unused(self) -> None:
        """Forget keys that L1 does not hold, and allow for a few more again.

        What an entry's key costs here is charged to the entry; the rest is the excess
        over L1's bound in bytes, and must stay small beside it.
        """
        entries = self.engine.l1.entries
        for key, full_key in self._aliases.copy().items():  # a copy is atomic
            if full_key not in entries:
                self._aliases.pop(key, None)
        spare = max(MIN_SPARE_ALIASES, len(entries) // 8)
        self._max_aliases = len(self._aliases) + spare
