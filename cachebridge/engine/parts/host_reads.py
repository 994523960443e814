"""Reads that what the processes of one host share answers: L1.5, between L1 and L2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachebridge.core.entry import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cachebridge.core.direct import Direct
    from cachebridge.core.entry import Missing
    from cachebridge.core.fill import Fill
    from cachebridge.core.host.sharing import Sharing
    from cachebridge.engine.values import Values
    from cachebridge.stats import Counters


class HostReads:
    """A part of ``Operations``, which makes what this one declares."""

    values: Values
    counters: Counters
    open_fill: Callable[[Sequence[str]], Fill | Direct]
    shared: Sharing | None
    """None where no processes share anything, or not these keys."""

    def shared_value(self, key: str) -> Any | Missing:
        """Return the value, MISSING if it is not shared; L1 gets it when read again."""
        if (sharing := self.shared) is None or (found := sharing.look(key)) is None:
            return MISSING
        if sharing.is_second(key):
            value = self._move_to_l1(key)
        else:
            value, _ = self.values.read(key, found[1])
        if value is not MISSING:
            self.counters.l1_shared_hits += 1
        return value

    def _move_to_l1(self, key: str) -> Any | Missing:
        """Let L1 have what is shared, by the rules of a fill that asks L2."""
        with self.open_fill((key,)) as fill, fill:
            found = fill.take_shared(key)
            if found is None:
                return MISSING
            expires, raw = found
            value, content = self.values.read(key, raw)
            if value is MISSING:
                fill.refuse(key)
            else:
                self.values.take_until(fill, key, value, content, expires)
            return value
