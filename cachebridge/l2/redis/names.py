"""Names in Redis: of a caller's key, and of the load record beside it.

A key is its own name, and its record is called ``<name>:cachebridge-load``.  If a
caller's key looks like the name of a record, or of a key of cachebridge itself, its
name has a ``_`` more at the end; so has the name of a key that looks like that one.
Thus no caller's key is ever the record of another, and no two keys share a name.

In a cluster what one script touches has to be in one slot.  There the names of records
and of cachebridge's own keys end in a hash tag, ``{1f3}``, where the key has none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol

from cachebridge.l2.keys import decode_key, encode_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RECORD_SUFFIX: Final = b":cachebridge-load"
"""A key with a hash tag keeps it, so that key and record are in one slot."""

WRITES: Final = b"cachebridge:writes"
"""The log of recent writes (``write_log.py``); one for each slot of a cluster."""

LISTS: Final = b"cachebridge:warm:"
"""Begins the names of the lists of keys for warm-ups (``engine/warming``)."""

BEFORE_BRACES: Final = b"cachebridge:load"
"""Begins the record's name of a key whose own braces are no hash tag."""

_MARK: Final = "cachebridge"
"""Looked for in the text of a key: in its bytes that takes three times as long."""
_MARK_OF_NAMES: Final = _MARK.encode()
_TAG: Final = rb"\{[0-9a-z]*\}"
_OWN: Final = (
    rb"cachebridge:(?:server-id|l1|writes|mark:[0-9a-f]*|warm:[0-9a-z]*)(?:%b)?" % _TAG
)
_RECORD: Final = rb":cachebridge-load(?:%b)?" % _TAG
_TAKEN: Final = re.compile(rb"(?:.*%b|%b)_*" % (_RECORD, _OWN), re.DOTALL).fullmatch
is_own: Final = re.compile(_OWN).fullmatch
"""Tells whether a name is of a key of cachebridge itself."""
is_record: Final = re.compile(
    rb"(?:%b%b(?P<braces>.*):cachebridge-load\{\}|(?P<key>.*?)%b)"
    % (BEFORE_BRACES, _TAG, _RECORD),
    re.DOTALL,
).fullmatch
"""Tells whether a name is of a load record, and finds the name of its key."""


def name_of(key: str) -> bytes:
    """Return the name of a caller's key."""
    name = encode_key(key)
    return name if _MARK not in key else _untaken(name)


def names_of(keys: Iterable[str]) -> list[bytes]:
    """Return the names of callers' keys."""
    return [
        key.encode("utf-8", "surrogatepass") if _MARK not in key else name_of(key)
        for key in keys
    ]


def _untaken(name: bytes) -> bytes:
    return name + b"_" if _TAKEN(name) else name


def key_of(name: bytes) -> str:
    """Return the key that has this name, or this record; undoes ``name_of``."""
    found = is_record(name) if _MARK_OF_NAMES in name else None
    if found is not None:
        braces, key = found.groups()
        name = key if braces is None else braces
    if name.endswith(b"_") and _TAKEN(name):
        name = name[:-1]
    return decode_key(name)


class Names(Protocol):
    """What scripts are told beside the names of keys."""

    def with_record(self, key: str) -> tuple[bytes, bytes]:
        """Return the names of a key and of its record."""

    def with_records(self, keys: Sequence[str]) -> tuple[bytes, ...]:
        """Return the names of all keys, then those of their records."""

    def log_of(self, key: str) -> bytes:
        """Return the name of the log of writes that has the key."""

    def all_like(self, pattern: str) -> str:
        """Return a pattern that also matches the names of the keys' records."""


class PlainNames:
    """See ``Names``; for one server."""

    def with_record(self, key: str) -> tuple[bytes, bytes]:
        """Return the names of a key and of its record."""
        name = name_of(key)
        return name, name + RECORD_SUFFIX

    def with_records(self, keys: Sequence[str]) -> tuple[bytes, ...]:
        """Return the names of all keys, then those of their records."""
        names = names_of(keys)
        return *names, *[name + RECORD_SUFFIX for name in names]

    def log_of(self, _key: str) -> bytes:
        """Return the name of the only log."""
        return WRITES

    def all_like(self, pattern: str) -> str:
        """Let more follow: the names of records end in something of ours."""
        is_open = pattern.endswith("*") and not pattern.endswith("\\*")
        return pattern + "*" * (not is_open)


PLAIN: Final = PlainNames()
