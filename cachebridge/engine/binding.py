"""One cache's share in an engine: its operations and the fast path to L1.

All adapters of one alias in a process, one per thread or request, use one binding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cachebridge.core.keys import fits_message
from cachebridge.engine.sync import (
    Operations,
    coherent_operations,
    direct_operations,
)
from cachebridge.l1.probe import make_probe, make_probe_many

if TYPE_CHECKING:
    from cachebridge.config import CacheOptions
    from cachebridge.engine.engine import Engine

MIN_ALIASES = 64
MAX_ALIAS_LENGTH = 250
"""Longer keys are looked up without the probe: their memory is not accounted for."""


class Binding:
    """Operations for the keys of one cache.  Thread safe."""

    def __init__(self, engine: Engine, options: CacheOptions) -> None:
        self.engine = engine
        self.options = options
        values = engine.values_for(options.serializer)
        self.coherent = coherent_operations(engine, values)
        self.direct = direct_operations(engine, values)
        self._exclude = options.l1_exclude
        self._aliases: dict[str, str] = {}
        self._max_aliases = max(MIN_ALIASES, engine.options.l1_max_entries)
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

    def remember(self, key: str, full_key: str) -> None:
        """Let the probe find ``full_key`` by the caller's key from now on.

        Only for keys that need no warning and always have this full key.  The memory is
        bounded: it forgets everything when it is full and learns again.
        """
        if len(full_key) > MAX_ALIAS_LENGTH:
            return
        if len(self._aliases) >= self._max_aliases:
            self._aliases.clear()
        self._aliases[key] = full_key
