"""Copy rules: L1 returns what L2 would return, and no caller can change it.

Decided by exact types, since a subclass may have state of its own:

* immutable values stay by reference,
* flat dicts, lists and sets of immutable values stay as a template, copied for every
  reader,
* everything else stays as its serialized bytes, decoded for every reader.
"""

from __future__ import annotations

import sys
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from cachebridge.core.entry import KIND, MISSING, PAYLOAD

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.core.entry import Entry, Missing

ATOMIC_TYPES: set[type] = {
    str,
    bytes,
    int,
    float,
    complex,
    bool,
    type(None),
    date,
    timedelta,
    Decimal,
    UUID,
}
_ZONED_TYPES: Final = frozenset({datetime, time})
_ZONE_TYPES: Final = frozenset({type(None), timezone, ZoneInfo})
_MAX_DEPTH: Final = 4
_MAX_ITEMS: Final = 64

ENTRY_OVERHEAD_BYTES: Final = 384
"""Charged per entry: the tuple, its numbers, slots in three dictionaries, ghosts."""


def register_immutable(kind: type) -> None:
    """Declare that instances of exactly this type cannot be changed."""
    ATOMIC_TYPES.add(kind)


def is_immutable(value: Any, depth: int = _MAX_DEPTH) -> bool:
    """Return whether ``value`` and all it holds are of known immutable types."""
    kind = type(value)
    if kind in ATOMIC_TYPES:
        return True
    if kind in _ZONED_TYPES:
        return type(value.tzinfo) in _ZONE_TYPES
    if kind is tuple or kind is frozenset:
        return (
            depth > 0
            and len(value) <= _MAX_ITEMS
            and all(is_immutable(item, depth - 1) for item in value)
        )
    return False


def is_flat(value: Any) -> bool:
    """Return whether a shallow copy of ``value`` shares nothing that can change."""
    kind = type(value)
    if kind is dict:
        return ATOMIC_TYPES.issuperset(map(type, value)) and ATOMIC_TYPES.issuperset(
            map(type, value.values())
        )
    if kind is list or kind is set:
        return ATOMIC_TYPES.issuperset(map(type, value))
    return False


def estimate_bytes(value: Any) -> int:
    """Estimate the memory of an immutable value or a flat container, in bytes."""
    size = sys.getsizeof(value)
    kind = type(value)
    if kind is dict:
        size += sum(map(sys.getsizeof, value)) + sum(map(sys.getsizeof, value.values()))
    elif kind is list or kind is set:
        size += sum(map(sys.getsizeof, value))
    elif kind is tuple or kind is frozenset:
        size += sum(estimate_bytes(item) for item in value)
    return size


Form: TypeAlias = tuple[object, Any, int]
"""How a value is kept: kind and payload of its entry, and its estimated bytes."""


class CopyRules:
    """The copy rules for the values of one codec.

    Every codec has kinds of its own, so that it never reads another codec's entries.
    """

    def __init__(
        self, *, encode: Callable[[Any], bytes], decode: Callable[[bytes], Any]
    ) -> None:
        self._encode = encode
        self._decode = decode
        self.by_reference = object()
        self.template = object()
        self.encoded = object()

    def form_of(self, value: Any, raw: bytes) -> Form:
        """Choose the form for a value whose serialized bytes are ``raw``."""
        if type(value) in ATOMIC_TYPES:
            return self.by_reference, value, sys.getsizeof(value)
        if is_immutable(value):
            return self.by_reference, value, estimate_bytes(value)
        if is_flat(value):
            return self.template, value.copy(), estimate_bytes(value)
        return self.encoded, raw, sys.getsizeof(raw)

    def value_of(self, entry: Entry) -> Any | Missing:
        """Return a value of the caller's own, MISSING for another codec's entry."""
        kind = entry[KIND]
        if kind is self.by_reference:
            return entry[PAYLOAD]
        if kind is self.template:
            return entry[PAYLOAD].copy()
        if kind is self.encoded:
            return self._decode(entry[PAYLOAD])
        return MISSING

    def is_same(self, entry: Entry, raw: bytes) -> bool:
        """Return True if the entry certainly holds what ``raw`` decodes to."""
        kind, payload = entry[KIND], entry[PAYLOAD]
        if kind is self.encoded:
            return bool(payload == raw)
        if kind is self.by_reference or kind is self.template:
            return self._encode(payload) == raw
        return False
