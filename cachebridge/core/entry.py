"""L1 as the rules see it; its entries: plain tuples, made and read here only.

An exact tuple of atomic values is invisible to the garbage collector, which keeps a
full collection short however many entries there are; an object of a class is not.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

Entry: TypeAlias = tuple[float, object, Any, int, int]
"""``(expires, kind, payload, blocks, write_id)``, see the index names below."""

EXPIRES: Final = 0
"""Reading of the monotonic clock (seconds) from which the entry is unusable."""
KIND: Final = 1
"""How the payload is turned into a value; belongs to the copy rules of one codec."""
PAYLOAD: Final = 2
"""The value, a template of it, or its bytes."""
BLOCKS: Final = 3
"""Estimated memory in blocks of ``BLOCK_BYTES``: small ints are shared objects."""
WRITE_ID: Final = 4
"""Id of the own write that stored the entry, 0 if a fill did."""

BLOCK_BYTES: Final = 64
INT64: Final = range(-(2**63), 2**63)
"""The integers to which a shared store can add by itself."""


class Missing(Enum):
    """Type of ``MISSING``, so that type checkers can tell it from a value."""

    MISSING = "MISSING"

    def __repr__(self) -> str:
        return "<MISSING>"

    def __bool__(self) -> bool:
        return False


MISSING: Final = Missing.MISSING
"""No value here; ``None`` is a value and can be cached."""


class Absent(Enum):
    """Type of ``ABSENT``."""

    ABSENT = "ABSENT"

    def __repr__(self) -> str:
        return "<ABSENT>"

    def __bool__(self) -> bool:
        return False


ABSENT: Final = Absent.ABSENT
"""Known not to exist: what a loader returns for "no such thing", unlike ``None``.

As the kind of an entry: a negative entry, which has no payload.
"""


def make_entry(
    expires: float, kind: object, payload: Any, size_bytes: int, write_id: int = 0
) -> Entry:
    """Make an entry of an estimated ``size_bytes``."""
    return (expires, kind, payload, -(-size_bytes // BLOCK_BYTES), write_id)


def by_write(entry: Entry, write_id: int) -> Entry:
    """Return the entry as one that this own write stores."""
    return (*entry[:WRITE_ID], write_id)


def capped(entry: Entry, latest: float) -> Entry:
    """Return the entry, unusable from ``latest`` on if it would live longer."""
    return entry if entry[EXPIRES] <= latest else (latest, *entry[1:])


def grown(entry: Entry, blocks: int) -> Entry:
    """Return the entry as one that takes more memory, elsewhere."""
    return (*entry[:BLOCKS], entry[BLOCKS] + blocks, entry[WRITE_ID])


def is_expired(entry: Entry, now: float) -> bool:
    """Return whether the entry's time in L1 is over."""
    return now >= entry[EXPIRES]


def size_bytes(entry: Entry) -> int:
    """Return the entry's estimated memory, rounded up to whole blocks."""
    return entry[BLOCKS] * BLOCK_BYTES


class L1(Protocol):
    """What the rules need of the in-process store; each call is made under the lock."""

    def __len__(self) -> int: ...

    def look(self, key: str) -> Entry | None:
        """Return the entry, usable or not."""

    def put(self, key: str, entry: Entry) -> Sequence[str]:
        """Store the entry; return the keys that had to leave for it."""

    def pop(self, key: str) -> None:
        """Remove the entry if there is one."""

    def sweep(self, now: float, limit: int, start: int = 0) -> Sequence[str]:
        """Remove the expired among some of the oldest entries; return their keys."""

    def discard_some(self, limit: int) -> bool:
        """Remove up to ``limit`` entries; return True while some remain."""

    def all_keys(self) -> list[str]:
        """Return all keys."""
