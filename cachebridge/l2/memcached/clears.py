"""What has been cleared.  Memcached cannot list its keys, so ``clear`` makes them dead.

Each server keeps a small item with the *stamp* of the last clear of each prefix; every
item of ours carries, in its flags, the stamp that was the latest when it was written.
An item is dead if a prefix of its key was cleared after that.  Along with every
command, on the same connection, the server is asked whether its item has changed: once
a clear has ended, it holds in every process.

Items of other writers carry no stamp: they live until their prefix is cleared for the
first time.  If the server has lost its list and kept older items, treat each of those
as cleared: the new list starts at a random one of four million stamps, which hardly any
older item has.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass, field, replace
from typing import Final, Self
from zlib import crc32

STAMP_BITS: Final = 23
MAX_STAMP: Final = 2**STAMP_BITS - 1
MAX_BYTES: Final = 256 * 1024
"""A longer item is not ours."""
MAX_PREFIXES: Final = 32
"""They are compared with every key that is read."""


@dataclass(frozen=True, slots=True)
class Clears:
    """The stamps of one server; ``raw`` is the item's content."""

    start: int
    """Items with an older stamp are dead."""
    strangers: bool = True
    """Whether items without a stamp, those of other writers, are alive."""
    prefixes: dict[str, int] = field(default_factory=dict)
    raw: bytes = b""
    era: str = ""
    """A name that no other list has: the server has not lost everything meanwhile."""
    latest: int = 0
    mark: int = 0
    """A checksum of ``raw``: the item's flags."""
    answer: bytes = b""
    """How the server answers the question for them."""

    @classmethod
    def begin(cls) -> Self:
        """Make a first list, or one that replaces a lost one."""
        return cls(_anywhere(), era=os.urandom(6).hex()).sealed()

    @classmethod
    def parse(cls, raw: bytes) -> Self | None:
        """Read an item's content; None if it is none."""
        if len(raw) > MAX_BYTES:
            return None
        try:
            match json.loads(raw):
                case [int(start), bool(strangers), dict(prefixes), str(era)] if {
                    *map(type, prefixes.values())
                } <= {int}:
                    return cls(start, strangers, prefixes, era=era).sealed(raw)
        except (ValueError, RecursionError):
            pass
        return None

    @property
    def is_full(self) -> bool:
        """Whether there is no stamp left for another clear."""
        return self.latest >= MAX_STAMP

    def cleared(self, prefix: str) -> Self:
        """Return what holds after a clear of ``prefix``, '' for everything."""
        stamp = self.latest + 1
        prefixes = {
            known: at
            for known, at in self.prefixes.items()
            if not known.startswith(prefix)
        }
        prefixes[prefix] = stamp
        start, strangers = self.start, self.strangers
        while len(prefixes) > MAX_PREFIXES:
            oldest = min(prefixes, key=lambda known: prefixes[known])
            start, strangers = max(start, prefixes.pop(oldest)), False
        return replace(
            self, start=start, strangers=strangers, prefixes=prefixes
        ).sealed()

    def is_dead(self, key: str, stamp: int) -> bool:
        """Return whether an item with this stamp was cleared.

        A stamp after the latest clear comes from a list that the server has lost.
        """
        if stamp:
            if not self.start <= stamp <= self.latest:
                return True
        elif not self.strangers:
            return True
        return bool(self.prefixes) and any(
            stamp < at and key.startswith(prefix)
            for prefix, at in self.prefixes.items()
        )

    def sealed(self, raw: bytes = b"") -> Self:
        """Return the same with the fields that follow from the others."""
        content = [self.start, self.strangers, self.prefixes, self.era]
        raw = raw or json.dumps(content).encode()
        mark = crc32(raw)
        return replace(
            self,
            raw=raw,
            latest=max([self.start, *self.prefixes.values()]),
            mark=mark,
            answer=b"f%d" % mark,
        )


def _anywhere() -> int:
    return 1 + secrets.randbelow(MAX_STAMP // 2)
