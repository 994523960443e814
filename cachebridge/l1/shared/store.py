"""The shared store as the rules see it: bytes by full key, read without a lock."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Final
from zlib import crc32

from cachebridge.l1.shared import layout
from cachebridge.l1.shared.layout import (
    CHECK,
    ENTRY,
    EXPIRES,
    LENGTH_BITS,
    LENGTH_MASK,
    LENGTHS,
    SELF,
    SLOTS,
    TAG_BITS,
    WORD,
)
from cachebridge.l1.shared.ring import Ring

if TYPE_CHECKING:
    from mmap import mmap

    from cachebridge.l1.shared.lock import Hold, WriteLock

STRONG: Final = {"x86_64", "AMD64", "i386", "i686"}
"""Processors on which one process sees another's writes in their order.  On others a
reader compares the check sum: it may see an entry's life before its content."""


class SharedStore:
    """Entries of bytes in memory that processes share.

    ``look`` and the properties need no lock, and may be called by any thread.  All that
    changes something is called while ``hold`` is held, but for marks of reads.
    """

    def __init__(
        self,
        memory: mmap,
        lock: WriteLock,
        *,
        checks: bool = platform.machine() not in STRONG,
    ) -> None:
        parts = layout.layout_of(len(memory))
        self.ring = Ring(memory, parts)
        self._memory = memory
        self._words = self.ring.words
        self._times = self.ring.times
        self._reads = self.ring.reads
        self._first_bucket = parts.first_bucket
        self._bucket_mask = parts.buckets - 1
        self._ring_at, self._ring_bytes = parts.ring_at, parts.ring_bytes
        self._mark_at = parts.reads_at - parts.first_bucket
        self._size = parts.ring_at + parts.ring_bytes
        self._checks = checks
        self._lock = lock

    def hold(self, patience_s: float) -> Hold:
        """Return a guard that takes the lock, unless that lasts too long (seconds)."""
        return self._lock.hold(patience_s)

    # -- without the lock --------------------------------------------------------------

    def look(self, key: str) -> tuple[float, bytes] | None:
        """Return when the entry expires, and its bytes; None if there is none.

        The entry may be expired, and may leave at this very moment.
        """
        name = key.encode("utf-8", "surrogatepass")
        digest = crc32(name)
        bucket = self._first_bucket + (digest & self._bucket_mask) * SLOTS
        tag = digest >> 32 - TAG_BITS
        words = self._words
        for index, slot in enumerate(words[bucket : bucket + SLOTS].tolist()):
            if slot and slot & layout.TAG_MASK == tag:
                found = self._read(slot >> TAG_BITS, name)
                if found is not None:
                    self._reads[self._mark_at + bucket + index] = 1
                    return found
        return None

    def _read(self, position: int, name: bytes) -> tuple[float, bytes] | None:
        words, memory = self._words, self._memory
        offset = self._ring_at + position % self._ring_bytes
        at = offset // WORD
        if words[at + SELF] != position:
            return None
        lengths, check = words[at + LENGTHS], words[at + CHECK]
        start = offset + ENTRY * WORD
        middle = start + (lengths >> LENGTH_BITS)
        end = middle + (lengths & LENGTH_MASK)
        if end > self._size or memory[start:middle] != name:
            return None
        expires, value = self._times[at + EXPIRES], memory[middle:end]
        is_whole = not self._checks or check & LENGTH_MASK == crc32(
            value, crc32(name, position & LENGTH_MASK)
        )
        # Last: the place was not used again, so what was read is of one entry.
        if (
            is_whole
            and words[at + SELF] == position
            and position >= words[layout.TAIL]
            and check >> LENGTH_BITS == words[layout.EPOCH] & LENGTH_MASK
        ):
            return expires, value
        return None

    @property
    def epoch(self) -> int:
        """The number of times that everything was dropped."""
        return self._words[layout.EPOCH]

    @property
    def proven_at(self) -> float:
        """See ``prove``."""
        return self._times[layout.PROVEN_AT]

    def token(self, key: str) -> tuple[int, int]:
        """Return what changes when the key is dropped, and when everything is."""
        digest = crc32(key.encode("utf-8", "surrogatepass"))
        words = self._words
        return words[self.ring.generation_at(digest)], words[layout.EPOCH]

    # -- under the lock ----------------------------------------------------------------

    def put(self, key: str, value: bytes, expires: float) -> bool:
        """Store an entry in place of the present one; False if it is too large."""
        name = key.encode("utf-8", "surrogatepass")
        if not self.ring.fits(name, value):
            return False
        digest = crc32(name)
        self._remove(name, digest)
        self.ring.append(digest, name, value, expires)
        return True

    def drop(self, key: str) -> None:
        """Void the open fills of the key, and remove its entry."""
        name = key.encode("utf-8", "surrogatepass")
        digest = crc32(name)
        self.ring.bump(digest)
        self._remove(name, digest)

    def _remove(self, name: bytes, digest: int) -> None:
        ring, bucket = self.ring, self.ring.bucket_of(digest)
        tag = digest >> 32 - TAG_BITS
        for index, slot in enumerate(self._words[bucket : bucket + SLOTS].tolist()):
            if slot and slot & layout.TAG_MASK == tag and ring.leads(slot, name):
                ring.remove(bucket + index)

    def flush(self) -> None:
        """Void all open fills, and remove all entries."""
        self._words[layout.EPOCH] += 1

    def prove(self, sent_at: float) -> None:
        """Note that every message for writes before ``sent_at`` was applied here."""
        times = self._times
        times[layout.PROVEN_AT] = max(sent_at, times[layout.PROVEN_AT])
