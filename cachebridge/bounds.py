"""How much of what a server sends is taken, so that no server can fill the memory.

A longer value is refused when its length is announced, before there is room for it.
"""

from __future__ import annotations

import zlib
from typing import Final

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
"""A compressed value when it is decompressed: a thousand times as much, with zlib."""


def inflate(raw: bytes) -> bytes:
    """Decompress by zlib; raises zlib.error for what is spoilt or cut off.

    Raises OverflowError for more than MAX_INFLATED_BYTES.
    """
    stream = zlib.decompressobj()
    inflated = stream.decompress(raw, MAX_INFLATED_BYTES)
    if not stream.eof:
        if len(inflated) == MAX_INFLATED_BYTES:
            raise OverflowError(f"longer than {MAX_INFLATED_BYTES} bytes")
        raise zlib.error("cut off")
    return inflated
