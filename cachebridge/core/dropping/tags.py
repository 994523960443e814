"""Tags as the rules know them: which entries of L1 hang on which stamps.

A *stamp* is a small key of L2 that stands for a tag; a tagged value names the stamps
that it was made under.  Its entry in L1 is valid until a stamp of it changes: whatever
tells this process of that, a message or a write of its own, drops the entries that the
index has under the stamp's key.  So a hit of L1 asks no stamp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TAG_MARK: Final = b"\xcb\x01"
"""How the bytes of a tagged value begin.  Nine bytes that begin so are a float."""
TAG_PREFIX: Final = "cachebridge-tag:"
"""How a stamp's key begins, after the prefix of its cache."""
SPARE: Final = 1024
LOOKED_AT: Final = 64
"""How many members a step of tidying looks at, at least."""


class Tagging(NamedTuple):
    """What a value hangs on, for the rules."""

    stamps: tuple[str, ...]
    """The full keys of the stamps."""
    seen: int
    """``TagIndex.changes`` from before the stamps were read."""


class TagIndex:
    """The entries of L1 by the stamps that they hang on; every method under the lock.

    An entry that leaves L1 in another way stays a member: then it is dropped once too
    often.  There are at most about two members for each entry, and ``SPARE`` more.
    """

    __slots__ = ("_members", "_size", "_to_tidy", "changes", "is_used")

    def __init__(self) -> None:
        self.changes = 0
        """How often a stamp has changed: it voids what was read before."""
        self.is_used = False
        """Whether this process has read a stamp: else no message is about one."""
        self.clear()

    def clear(self) -> None:
        """Forget everything: L1 is empty."""
        self._members: dict[str, set[str]] = {}
        self._size = 0
        self._to_tidy: list[str] = []

    def __len__(self) -> int:
        return self._size

    def holds(self, tagging: Tagging) -> bool:
        """Return whether no stamp has changed since those of a value were read."""
        return tagging.seen == self.changes

    def note(
        self,
        key: str,
        tagging: Tagging,
        look: Callable[[str], object],
        entries: int,
    ) -> None:
        """Note an entry before it is stored; ``look`` tells which others L1 has."""
        for stamp in tagging.stamps:
            members = self._members.get(stamp)
            if members is None:
                members = self._members[stamp] = set()
            if key not in members:
                members.add(key)
                self._size += 1
        if self._to_tidy or self._size > 2 * entries + SPARE:
            self._tidy(look)

    def begin(self) -> int:
        """Return ``changes`` to a caller that reads stamps now; needs no lock."""
        self.is_used = True
        return self.changes

    def stamps_like(self, prefix: str) -> list[str]:
        """Return the stamps whose keys begin with ``prefix``."""
        return [stamp for stamp in self._members if stamp.startswith(prefix)]

    def count(self, stamps: Iterable[str]) -> int:
        """Return how many entries ``take`` would return."""
        return sum(len(self._members.get(stamp, ())) for stamp in stamps)

    def take(self, stamps: Iterable[str]) -> list[str]:
        """Return the entries that hang on these stamps, and forget them.

        One that hangs on several is among them several times.
        """
        self.changes += 1
        taken: list[str] = []
        for stamp in stamps:
            if (members := self._members.pop(stamp, None)) is not None:
                self._size -= len(members)
                taken += members
        return taken

    def _tidy(self, look: Callable[[str], object]) -> None:
        """Forget members without an entry, of a few stamps at a time."""
        if not self._to_tidy:
            self._to_tidy = list(self._members)
        looked_at = 0
        while self._to_tidy and looked_at < LOOKED_AT:
            stamp = self._to_tidy.pop()
            members = self._members.get(stamp, set())
            looked_at += len(members) + 1
            gone = [key for key in members if look(key) is None]
            members.difference_update(gone)
            self._size -= len(gone)
            if not members:
                self._members.pop(stamp, None)


def stamps_among(keys: Iterable[str]) -> list[str]:
    """Return those of the full keys that may be stamps."""
    return [key for key in keys if TAG_PREFIX in key]
