"""The ring: one endless log of entries, of which a window is kept.

Positions count bytes from the log's beginning and never come back, so an entry that
still says its own position has not been overwritten.  Any prefix of a writer's steps
leaves a valid state, as every process may be killed between any two of them: what is
removed first bumps its generation, then is dead, then out of its slot; what is stored
is made room for, gets its lengths, then its place, its content, its life, its slot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from zlib import crc32

from cachebridge.l1.shared import layout
from cachebridge.l1.shared.layout import (
    ENTRY,
    LENGTH_BITS,
    LENGTH_MASK,
    LENGTHS,
    SELF,
    SLOTS,
    TAG_BITS,
    WORD,
    span_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap

    from cachebridge.l1.shared.layout import Layout

CHANCES: Final = 8
"""How many entries that were read one store moves on, at most, to make room."""


class Ring:
    """The steps of those that write; each is made under the lock."""

    def __init__(self, memory: mmap, parts: Layout) -> None:
        self.memory = memory
        self.words = memoryview(memory).cast("Q")
        self.times = memoryview(memory).cast("d")
        self.reads = memoryview(memory)
        self.parts = parts
        self.ring_at = parts.ring_at
        self.ring_bytes = parts.ring_bytes
        self.first_bucket = parts.first_bucket
        self.reads_at = parts.reads_at
        self.bucket_mask = parts.buckets - 1
        self.generation_mask = parts.generations - 1
        self.step: Callable[[str], object] = lambda _name: None
        """Called between any two steps: a test ends the process there."""

    # -- keys --------------------------------------------------------------------------

    def generation_at(self, digest: int) -> int:
        """Return the word of a key's generation, by the check sum of its bytes."""
        return layout.HEADER + ((digest ^ digest >> 15) & self.generation_mask)

    def bucket_of(self, digest: int) -> int:
        """Return the word where the key's bucket begins."""
        return self.first_bucket + (digest & self.bucket_mask) * SLOTS

    def bump(self, digest: int) -> None:
        """Make the open fills of the key unsafe to store, and of some others."""
        self.words[self.generation_at(digest)] += 1

    def word_of(self, position: int) -> int:
        """Return the word of the file where a position of the log is."""
        return (self.ring_at + position % self.ring_bytes) // WORD

    # -- storing -----------------------------------------------------------------------

    def append(self, digest: int, key: bytes, value: bytes, expires: float) -> None:
        """Store an entry of a key that has none; it must fit (``fits``)."""
        self._make_room(span_of(len(key), len(value)))
        self._write(digest, key, value, expires, self.words[layout.EPOCH])

    def fits(self, key: bytes, value: bytes) -> bool:
        """Return whether an entry may be stored at all."""
        return span_of(len(key), len(value)) <= self.ring_bytes // layout.MOST_SHARE

    def _write(
        self, digest: int, key: bytes, value: bytes, expires: float, epoch: int
    ) -> None:
        words, memory = self.words, self.memory
        span = span_of(len(key), len(value))
        position = self._place_for(span)
        at = self.word_of(position)
        words[at + SELF] = 0
        words[at + LENGTHS] = len(key) << LENGTH_BITS | len(value)
        self.step("lengths")
        words[layout.HEAD] = position + span
        self.step("head")
        start = (at + ENTRY) * WORD
        memory[start : start + len(key)] = key
        self.step("key")
        start += len(key)
        memory[start : start + len(value)] = value
        self.times[at + layout.EXPIRES] = expires
        check = crc32(value, crc32(key, position & LENGTH_MASK))
        words[at + layout.CHECK] = (epoch & LENGTH_MASK) << LENGTH_BITS | check
        self.step("content")
        words[at + SELF] = position
        self.step("life")
        self._put_into_slot(digest, position)

    def _place_for(self, span: int) -> int:
        """Return the position for so many bytes, which are in one piece."""
        words = self.words
        head = words[layout.HEAD]
        left = self.ring_bytes - head % self.ring_bytes
        if span > left:  # leave out the end of the ring
            at = self.word_of(head)
            words[at + SELF] = 0
            words[at + LENGTHS] = left - ENTRY * WORD
            self.step("filler")
            head = words[layout.HEAD] = head + left
        return head

    def _put_into_slot(self, digest: int, position: int) -> None:
        words, bucket = self.words, self.bucket_of(digest)
        slots = words[bucket : bucket + SLOTS].tolist()
        if 0 in slots:
            slot = bucket + slots.index(0)
        else:  # the bucket is full: its oldest entry leaves
            slot = bucket + slots.index(min(slots))
            self.remove(slot)
        self.reads[self.reads_at + slot - self.first_bucket] = 0
        words[slot] = position << TAG_BITS | digest >> 32 - TAG_BITS
        self.step("slot")

    # -- removing ----------------------------------------------------------------------

    def remove(self, slot: int) -> None:
        """Remove the entry of a slot, and bump its generation first."""
        position = self.words[slot] >> TAG_BITS
        at = self.word_of(position)
        if position >= self.words[layout.TAIL] and self.words[at + SELF] == position:
            self.bump(crc32(self._key_at(at)))
            self.step("bump")
            self.words[at + SELF] = 0
            self.step("kill")
        self.words[slot] = 0

    def leads(self, slot: int, key: bytes) -> bool:
        """Return whether what stands in a slot leads to an entry of the key, or did."""
        position = slot >> TAG_BITS
        at = self.word_of(position)
        if position < self.words[layout.TAIL] or self.words[at + SELF] != position:
            return False
        return self._key_at(at) == key

    def _key_at(self, at: int) -> bytes:
        start = (at + ENTRY) * WORD
        return self.memory[start : start + (self.words[at + LENGTHS] >> LENGTH_BITS)]

    def slot_of(self, digest: int, position: int) -> int:
        """Return the word of the slot that leads to a position; 0 if none does."""
        words, bucket = self.words, self.bucket_of(digest)
        wanted = position << TAG_BITS | digest >> 32 - TAG_BITS
        slots = words[bucket : bucket + SLOTS].tolist()
        return bucket + slots.index(wanted) if wanted in slots else 0

    def _make_room(self, span: int) -> None:
        """Move the tail until so many bytes are free in one piece.

        What was read since it came there is written again at the head, once.
        """
        chances = CHANCES
        while not self._has_room(span):
            kept = self._take_oldest(may_keep=chances > 0)
            if kept is not None:
                chances -= 1
                digest, key, value, expires, epoch = kept
                # What has just left the tail makes room for itself, mostly.
                if self._has_room(span_of(len(key), len(value))):
                    self._write(digest, key, value, expires, epoch)

    def _has_room(self, span: int) -> bool:
        head = self.words[layout.HEAD]
        left = self.ring_bytes - head % self.ring_bytes
        needed = span if span <= left else span + left
        return head + needed - self.words[layout.TAIL] <= self.ring_bytes

    def _take_oldest(
        self, *, may_keep: bool
    ) -> tuple[int, bytes, bytes, float, int] | None:
        """Let the oldest entry go; return it if it was read and so may come again."""
        words = self.words
        position = words[layout.TAIL]
        at = self.word_of(position)
        lengths = words[at + LENGTHS]
        key_bytes, value_bytes = lengths >> LENGTH_BITS, lengths & LENGTH_MASK
        kept = None
        if words[at + SELF] == position:
            key = self._key_at(at)
            digest = crc32(key)
            slot = self.slot_of(digest, position)
            epoch = words[at + layout.CHECK] >> LENGTH_BITS
            if slot:
                was_read = self.reads[self.reads_at + slot - self.first_bucket]
                if may_keep and was_read and epoch == words[layout.EPOCH] & LENGTH_MASK:
                    start = (at + ENTRY) * WORD + key_bytes
                    value = self.memory[start : start + value_bytes]
                    expires = self.times[at + layout.EXPIRES]
                    kept = digest, key, value, expires, epoch
            self.bump(digest)
            self.step("bump")
            words[at + SELF] = 0
            self.step("kill")
            if slot:
                words[slot] = 0
        words[layout.TAIL] = position + span_of(key_bytes, value_bytes)
        self.step("tail")
        return kept
