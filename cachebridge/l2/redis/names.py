"""Names in Redis: of a caller's key, and of the load record beside it.

A key is its own name, and its record is called ``<name>:cachebridge-load``.  If a
caller's key looks like the name of a record, or of a key of cachebridge itself, its
name has a ``_`` more at the end; so has the name of a key that looks like that one.
Thus no caller's key is ever the record of another, and no two keys share a name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cachebridge.l2.keys import decode_key, encode_key

if TYPE_CHECKING:
    from collections.abc import Iterable

RECORD_SUFFIX: Final = b":cachebridge-load"
"""A key with a hash tag keeps it, so that key and record are in one slot."""

WRITES: Final = b"cachebridge:writes"
"""The log of recent writes (``write_log.py``)."""

LISTS: Final = b"cachebridge:warm:"
"""Begins the names of the lists of keys for warm-ups (``engine/warming``)."""

_MARK: Final = b"cachebridge"
_OWN: Final = rb"cachebridge:(?:server-id|l1|writes|mark:[0-9a-f]*|warm:[0-9a-z]*)"
_TAKEN: Final = re.compile(
    rb"(?:.*:cachebridge-load|" + _OWN + rb")_*", re.DOTALL
).fullmatch
is_own: Final = re.compile(_OWN).fullmatch
"""Tells whether a name is of a key of cachebridge itself."""


def name_of(key: str) -> bytes:
    """Return the name of a caller's key."""
    name = encode_key(key)
    return name if _MARK not in name else _untaken(name)


def names_of(keys: Iterable[str]) -> list[bytes]:
    """Return the names of callers' keys."""
    return [
        name if _MARK not in name else _untaken(name) for name in map(encode_key, keys)
    ]


def _untaken(name: bytes) -> bytes:
    return name + b"_" if _TAKEN(name) else name


def with_record(key: str) -> tuple[bytes, bytes]:
    """Return the names of a key and of its record."""
    name = name_of(key)
    return name, name + RECORD_SUFFIX


def with_records(keys: Iterable[str]) -> tuple[bytes, ...]:
    """Return the names of all keys, then those of their records."""
    names = names_of(keys)
    return *names, *[name + RECORD_SUFFIX for name in names]


def key_of(name: bytes) -> str:
    """Return the key that has this name, or this record; undoes ``name_of``."""
    name = name.removesuffix(RECORD_SUFFIX)
    if name.endswith(b"_") and _TAKEN(name):
        name = name[:-1]
    return decode_key(name)
