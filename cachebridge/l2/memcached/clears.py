"""What has been cleared.  Memcached cannot list its keys, so ``clear`` makes them dead.

Each server keeps a small item with the *stamp* of the last clear of each prefix; every
item of ours carries, in its flags, the stamp that was the latest when it was written.
An item is dead if a prefix of its key was cleared after that.  Along with every
command, on the same connection, the server is asked whether its item has changed: a
clear holds from its end on, everywhere.

Items of other writers carry no stamp: they live until their prefix is cleared for the
first time.  If the server has lost the item - and not those it tells of, which are
asked for less often - whatever may have been cleared is dead: a new one begins with a
stamp that none of before has, unless there were more clears than minutes.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field, replace
from typing import Final, Self
from zlib import crc32

STAMP_BITS: Final = 23
MAX_STAMP: Final = 2**STAMP_BITS - 1
MAX_PREFIXES: Final = 32
"""They are compared with every key that is read."""
_EPOCH_S: Final = 1_735_689_600
"""2025-01-01: stamps are minutes since then, so that they last until 2040."""


@dataclass(frozen=True, slots=True)
class Clears:
    """The stamps of one server; ``raw`` is the item's content."""

    start: int
    """What is older is dead."""
    strangers: bool = True
    """Whether items without a stamp are alive."""
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
        """Make the first one, or one in the place of one that was lost."""
        return cls(_now() + 1, era=os.urandom(6).hex()).sealed()

    @classmethod
    def parse(cls, raw: bytes) -> Self | None:
        """Read an item's content; None if it is none."""
        try:
            start, strangers, prefixes, era = json.loads(raw)
            max([start, *prefixes.values()])
        except (ValueError, TypeError, AttributeError):
            return None
        return cls(start, strangers, prefixes, era=era).sealed(raw)

    @property
    def is_full(self) -> bool:
        """Whether there is no stamp left for another clear."""
        return self.latest >= MAX_STAMP

    def cleared(self, prefix: str) -> Self:
        """Return what holds after a clear of ``prefix``, '' for everything."""
        stamp = max(self.latest + 1, _now())
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
        """Tell whether an item with this stamp was cleared.

        One from after the latest clear was written before the server lost its own.
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
        """Return the same with what follows from ``start`` and ``prefixes``."""
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


def _now() -> int:
    return max(1, int(time.time() - _EPOCH_S) // 60)
