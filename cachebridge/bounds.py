"""How much of what a server sends is taken, so that no server can fill the memory.

A longer value is refused when its length is announced, before there is room for it.
"""

from __future__ import annotations

import zlib
from typing import Final, Protocol

MEBIBYTE: Final = 1024 * 1024
MAX_VALUE_BYTES: Final = 512 * MEBIBYTE
"""One value: what Redis takes by default, and more than Memcached mostly does."""
MAX_REPLY_BYTES: Final = 1024 * MEBIBYTE
"""One reply, of however many values."""
MAX_REPLY_ITEMS: Final = 1_000_000
"""Elements of one reply, those of inner arrays included."""
MAX_REPLY_DEPTH: Final = 32
"""Arrays in arrays; the replies that are asked for have two levels."""
MAX_LINE_BYTES: Final = 64 * 1024
"""A line of a reply, such as an error text."""
MAX_MESSAGE_BYTES: Final = 8 * MEBIBYTE
"""What arrives on a subscription at once; the longest message has a 32nd of it."""
MAX_INFLATED_BYTES: Final = 64 * MEBIBYTE
"""A compressed value when it is decompressed: some bytes of it may say how much."""
MAX_WINDOW_BYTES: Final = 64 * MEBIBYTE
"""What decompressing one may use besides, for what it refers back to."""


class Inflating(Protocol):
    """What decompresses one stream: zlib's, lzma's, zstd's and LZ4's are alike."""

    @property
    def eof(self) -> bool:
        """Whether all has been read."""

    def decompress(self, raw: bytes, max_length: int, /) -> bytes:
        """Return the beginning of what was compressed, up to so many bytes."""


def inflate(raw: bytes, stream: Inflating | None = None) -> bytes:
    """Decompress by a new ``stream``, of zlib if none is given.

    Raises zlib.error for what is cut off, OverflowError for more than
    MAX_INFLATED_BYTES, and what the stream raises for what is spoilt.
    """
    source: Inflating = stream or zlib.decompressobj()
    inflated = source.decompress(raw, MAX_INFLATED_BYTES)
    if not source.eof:
        if len(inflated) >= MAX_INFLATED_BYTES:
            raise OverflowError(f"longer than {MAX_INFLATED_BYTES} bytes")
        raise zlib.error("cut off")
    return inflated
