"""Memcached's names of keys: at most 250 bytes, without spaces and control characters.

A key that cannot be a name is hashed; then the item holds the key itself, which is
compared on reading.
"""

from __future__ import annotations

import re
from hashlib import blake2b, sha256
from typing import Final

from cachebridge.l2.keys import encode_key

MAX_BYTES: Final = 250
CLEARS: Final = b"cachebridge-clears"
"""The item that says what has been cleared."""

BEGAN: Final = b"cachebridge-began"
"""The item whose age is that of the first."""

LISTS: Final = "cachebridge-warm:"
"""Begins the keys of the lists of keys for warm-ups; hashed, as all of that look."""

_HASHED: Final = b"cachebridge-key:"
_LEASE: Final = b"cachebridge-lease:"
_UNFIT: Final = re.compile(rb"[\x00-\x20\x7f]").search


def name_of(key: str) -> tuple[bytes, bool]:
    """Return the name of a key's item, and whether it is a hash.

    A key that looks like one of our own names is hashed as well.
    """
    name = encode_key(key)
    if (
        0 < len(name) <= MAX_BYTES
        and not _UNFIT(name)
        and not name.startswith(b"cachebridge-")
    ):
        return name, False
    return _HASHED + sha256(name).hexdigest().encode(), True


def lease_of(name: bytes) -> bytes:
    """Return the name of the lease to load the item of that name."""
    return _LEASE + blake2b(name, digest_size=16).hexdigest().encode()
