"""One cache's share in an engine: its operations and the fast path to L1.

All adapters of one alias in a process, one per thread or request, use one binding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from cachebridge.core.keys import fits_message
from cachebridge.engine.sync import (
    Operations,
    coherent_operations,
    direct_operations,
)
from cachebridge.l1.probe import make_probe, make_probe_many

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cachebridge.codec.values import Serializer
    from cachebridge.config import CacheOptions
    from cachebridge.engine.engine import Engine

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
        serializer: Serializer | None = None,
    ) -> None:
        self.engine = engine
        self.options = options
        values = engine.values_for(serializer or options.serializer)
        self.coherent = coherent_operations(engine, values)
        self.direct = direct_operations(engine, values)
        self._exclude = options.l1_exclude
        self._aliases: dict[str, str] = {}
        self._max_aliases = MIN_SPARE_ALIASES
        parts = (
            self._aliases,
            engine.l1,
            engine.rules,
            values.copies,
            engine.counters,
        )
        self.probe = make_probe(*parts)
        self.probe_many = make_probe_many(*parts)

    def known_full_key(self, key: str) -> str | None:
        """Return the full key of a key that ``remember`` was told of."""
        return self._aliases.get(key)

    def operations_for(self, key: str, full_key: str) -> Operations:
        """Return the operations for a key of the caller, by whether L1 may hold it."""
        if key.startswith(self._exclude) or not fits_message(full_key):
            return self.direct
        return self.coherent

    def group(
        self, keys: Iterable[K], locate: Callable[[K], tuple[Operations, str]]
    ) -> list[tuple[Operations, dict[str, K]]]:
        """Sort keys by their operations, by full key: mostly all are in one group."""
        names: dict[Operations, dict[str, K]] = {self.coherent: {}, self.direct: {}}
        for key in keys:
            operations, full_key = locate(key)
            names[operations][full_key] = key
        return [(each, names[each]) for each in names if names[each]]

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
