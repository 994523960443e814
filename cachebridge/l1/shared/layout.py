"""Where everything stands in the file: numbers, and how they follow from its size.

Everything is counted in words of eight bytes, since a write of one aligned word is
never seen by halves.  The header is followed by the generations, the buckets, a byte
for each slot that says whether its entry was read, and the ring.

An entry is never changed.  Its words are: its own position (zero: it is dead), the
lengths of key and value, when it expires, epoch and check sum; then key and value.
"""

from __future__ import annotations

from typing import Final, NamedTuple

WORD: Final = 8
HEADER: Final = 512
"""Words of the header: one page."""
MAGIC: Final = int.from_bytes(b"cachebr1", "little")
"""The format: with another one the file is another's.  Written last."""
LAYOUT_VERSION: Final = 1

# Words of the header.
FORMAT, SIZE, EPOCH, PROVEN_AT, HEAD, TAIL, NAME, NAME_WORDS = 0, 1, 2, 3, 4, 5, 8, 4

# Words of an entry.
SELF, LENGTHS, EXPIRES, CHECK, ENTRY = 0, 1, 2, 3, 4
LENGTH_BITS: Final = 32
LENGTH_MASK: Final = (1 << LENGTH_BITS) - 1

SLOTS: Final = 8
"""Of a bucket."""
TAG_BITS: Final = 12
TAG_MASK: Final = (1 << TAG_BITS) - 1
BYTES_PER_BUCKET: Final = 512
"""So that small entries fill a third of the slots: few are lost to full buckets."""
MOST_GENERATIONS: Final = 65_536
ALIGNED: Final = 32
"""Entries begin at multiples of this: what is left before the ring's end has room for
the words of a dead entry, which fills it."""
LEAST_BYTES: Final = 65_536
MOST_SHARE: Final = 4
"""A value takes at most this part of the ring."""


class Layout(NamedTuple):
    """The parts of a file of one size; their beginnings are words, but for bytes."""

    size: int
    """Bytes of the file."""
    generations: int
    """How many there are, a power of two, as of buckets."""
    buckets: int

    @property
    def first_bucket(self) -> int:
        """The word where the buckets begin."""
        return HEADER + self.generations

    @property
    def reads_at(self) -> int:
        """The byte where the marks of read slots begin."""
        return (self.first_bucket + self.buckets * SLOTS) * WORD

    @property
    def ring_at(self) -> int:
        """The byte where the ring begins."""
        return self.reads_at + self.buckets * SLOTS

    @property
    def ring_bytes(self) -> int:
        """The length of the ring."""
        return (self.size - self.ring_at) // ALIGNED * ALIGNED


def layout_of(size: int) -> Layout:
    """Return the layout of a file of so many bytes, at least ``LEAST_BYTES``."""
    buckets = 1 << (size // BYTES_PER_BUCKET).bit_length() - 1
    return Layout(size, min(buckets, MOST_GENERATIONS), buckets)


def span_of(key_bytes: int, value_bytes: int) -> int:
    """Return the bytes that an entry takes in the ring."""
    return -(-(ENTRY * WORD + key_bytes + value_bytes) // ALIGNED) * ALIGNED
