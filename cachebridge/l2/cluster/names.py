"""Names that are in the slot of their key, as the scripts of one call need them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cachebridge.l2.cluster.slots import slot_of, tags
from cachebridge.l2.redis.names import (
    BEFORE_BRACES,
    RECORD_SUFFIX,
    WRITES,
    name_of,
    names_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


class SlotNames:
    """See ``Names``; all keys of one call are in one slot."""

    def with_record(self, key: str) -> tuple[bytes, bytes]:
        """Return the names of a key and of its record."""
        name = name_of(key)
        return name, _record_of(name)

    def with_records(self, keys: Sequence[str]) -> tuple[bytes, ...]:
        """Return the names of all keys, then those of their records."""
        names = names_of(keys)
        return *names, *map(_record_of, names)

    def log_of(self, key: str) -> bytes:
        """Return the name of the log of the key's slot."""
        return WRITES + _tag_of(name_of(key))

    def all_like(self, pattern: str) -> str:
        """Let ours come before and behind."""
        is_open = pattern.endswith("*") and not pattern.endswith("\\*")
        return "*" * (not pattern.startswith("*")) + pattern + "*" * (not is_open)


def _tag_of(name: bytes) -> bytes:
    return b"{%b}" % tags()[slot_of(name)]


def _record_of(name: bytes) -> bytes:
    """Name the record: the first braces of a name, if not empty, are its hash tag."""
    start = name.find(b"{")
    if start < 0:
        return name + RECORD_SUFFIX + _tag_of(name)
    if name.find(b"}", start + 1) > start + 1:
        return name + RECORD_SUFFIX
    return BEFORE_BRACES + _tag_of(name) + name + RECORD_SUFFIX + b"{}"


SLOT_NAMES: Final = SlotNames()
