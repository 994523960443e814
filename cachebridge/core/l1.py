"""What the rules need of the in-process store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cachebridge.core.entry import Entry


class L1(Protocol):
    """What the rules need of the in-process store; each call is made under the lock."""

    def peek(self, key: str) -> Entry | None:
        """Return the entry, usable or not."""

    def put(self, key: str, entry: Entry) -> Sequence[str]:
        """Store the entry; return the keys that had to leave for it."""

    def pop(self, key: str) -> None:
        """Remove the entry if there is one."""

    def sweep(self, now: float, limit: int) -> Iterable[str]:
        """Remove up to ``limit`` expired entries; return their keys."""

    def discard_some(self, limit: int) -> bool:
        """Remove up to ``limit`` entries; return True while some remain."""

    def all_keys(self) -> list[str]:
        """Return all keys."""
