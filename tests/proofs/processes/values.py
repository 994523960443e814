"""Keys and values of the process test: every value names the one write that made it.

A value is built from an identity, an integer that no other write uses: the number of
the process and a sequence number.  Counter keys hold plain integers: a base, which is
an identity shifted to the left, plus the increments since.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

HOT: Final = ("hot0", "hot1")
COLD: Final = tuple(f"cold{number}" for number in range(6))
COUNTERS: Final = ("count0", "count1")
KEYS: Final = HOT + COLD + COUNTERS
TAGGED: Final = ("hot1", "cold4", "cold5")
"""Every value of these has the tag of its key: to invalidate that is to delete it."""

SEQUENCE_BITS: Final = 20
INCREMENT_BITS: Final = 20
SPOILT: Final = "spoilt by its reader"


class CorruptValueError(Exception):
    """The value is none that any writer makes."""


def tags_of(key: str) -> list[str] | None:
    """Return the tags of each value of a key."""
    return [f"of:{key}"] if key in TAGGED else None


def identity(writer: int, sequence: int) -> int:
    """Name one write among all of a run."""
    return writer << SEQUENCE_BITS | sequence


def counter_base(writer: int, sequence: int) -> int:
    """Name one start of a counter; increments count up from it."""
    return identity(writer, sequence) << INCREMENT_BITS


def base_of(count: int) -> int:
    """Return the base that a counter's value began with."""
    return count >> INCREMENT_BITS << INCREMENT_BITS


def make_value(key: str, ident: int) -> Any:
    """Build the value; in turn each form in which L1 can hold one."""
    if key in COUNTERS:
        return ident
    match ident % 5:
        case 0:
            return f"v{ident}"
        case 1:
            return (ident, "v")
        case 2:
            return {"id": ident, "name": "v"}
        case 3:
            return [ident, "v"]
        case _:
            return {"id": ident, "nested": {"list": [ident]}}


def ident_of(key: str, value: Any) -> int:
    """Return the identity; raises CorruptValueError unless the whole value is right."""
    match value:
        case int():
            ident = value
        case str():
            ident = int(value[1:])
        case {"id": ident}:
            pass
        case (int(ident), *_):
            pass
        case _:
            raise CorruptValueError(repr(value))
    if make_value(key, ident) != value:
        raise CorruptValueError(repr(value))
    return ident


def spoil(value: Any) -> None:
    """Change a value that was read, as callers do: no other caller may see it."""
    if isinstance(value, dict):
        if "nested" in value:
            value["nested"]["list"].append(SPOILT)
        value["name"] = SPOILT
    elif isinstance(value, list):
        value.append(SPOILT)


def stamp_of(key: str) -> str:
    """Return the key of the stamp of a key's tag."""
    return f"cachebridge-tag:of:{key}"


STAMPED: Final = {stamp_of(key): key for key in TAGGED}
"""Whose values hang on each stamp."""


def names_of(keys: Iterable[str]) -> set[str]:
    """Return all names in the store on which the values of these keys depend."""
    keys = set(keys)
    return keys | {stamp for stamp, key in STAMPED.items() if key in keys}


def decode_raw(key: str, raw: bytes | None, stamp: bytes | None = None) -> int | None:
    """Read what stands in Redis without any code of the library.

    A tagged value is none if its stamp is not the one that stands there.
    """
    if raw is None:
        return None
    head = b"\xcb\x01\x01%c%b" % (len(f"of:{key}"), f"of:{key}".encode())
    if raw.startswith(head):
        if raw[len(head) : len(head) + 8] != stamp:
            return None
        raw = raw[len(head) + 8 :]
    if raw[:1].isdigit():
        return ident_of(key, int(raw))
    return ident_of(key, pickle.loads(raw))
