"""What stands before the bytes of a tagged value: its tags, and their stamps.

::

    2   CB 01
    1   number of tags
        of each tag
    1       its length in bytes
    n       the tag, in UTF-8
    8       its stamp when the value was begun to be made

The value's own bytes follow, as a serializer has written them.  No other value begins
so but floats of MessagePack next to zero, whose nine bytes are fewer than any header's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cachebridge.codec.decoding import UndecodableError
from cachebridge.core.dropping.tags import TAG_MARK, TAG_PREFIX
from cachebridge.core.keys import MAX_TAGS

if TYPE_CHECKING:
    from collections.abc import Mapping

STAMP_BYTES: Final = 8
FLOAT_BYTES: Final = 9
"""A float of MessagePack, which begins as what stands around values does."""


class Header(NamedTuple):
    """The header of a tagged value, as it was read."""

    stamps: dict[str, bytes]
    """By tag."""
    size: int


def make_header(stamps: Mapping[str, bytes]) -> bytes:
    """Return the header of a value with these stamps, by tag; b"" for none."""
    if not stamps:
        return b""
    parts = [TAG_MARK, bytes((len(stamps),))]
    for tag, stamp in stamps.items():
        name = tag.encode()
        parts += [bytes((len(name),)), name, stamp]
    return b"".join(parts)


def read_header(raw: bytes) -> Header | None:
    """Return the header of a tagged value; None for a damaged one.

    What only begins as a tagged value does has a header without tags, of no bytes.
    """
    if len(raw) == FLOAT_BYTES and raw.startswith(TAG_MARK):
        return Header({}, 0)
    at = len(TAG_MARK) + 1
    count = raw[at - 1] if raw.startswith(TAG_MARK) and len(raw) >= at else 0
    if not 0 < count <= MAX_TAGS:
        return None
    stamps: dict[str, bytes] = {}
    for _ in range(count):
        if at >= len(raw):
            return None
        middle = at + 1 + raw[at]
        end = middle + STAMP_BYTES
        try:
            tag = raw[at + 1 : middle].decode()
        except UnicodeDecodeError:
            return None
        if end > len(raw) or not tag or tag in stamps:
            return None
        stamps[tag] = raw[middle:end]
        at = end
    return Header(stamps, at)


def body_of(raw: bytes) -> bytes:
    """Return a value's own bytes; those of a damaged header as they are."""
    header = read_header(raw) if raw.startswith(TAG_MARK) else None
    return raw if header is None else raw[header.size :]


def header_of(raw: bytes) -> bytes:
    """Return what stands before a value's own bytes; b"" for most values."""
    header = read_header(raw) if raw.startswith(TAG_MARK) else None
    return b"" if header is None else raw[: header.size]


class StampSerializer:
    """Stamps are their own bytes."""

    name = format = "stamp"
    exact = True

    def encode(self, value: object) -> bytes:
        """Return a stamp; TypeError for anything else that a caller wants to set."""
        if type(value) is bytes and len(value) == STAMP_BYTES:
            return value
        raise TypeError(
            f"keys that begin with {TAG_PREFIX} are those of tags: choose another key"
        )

    def decode(self, raw: bytes) -> bytes:
        """Return a stamp; UndecodableError if it is none."""
        if len(raw) != STAMP_BYTES:
            raise UndecodableError("no stamp of a tag")
        return raw

    def is_damaged(self, raw: bytes) -> bool:
        """Return True if these bytes are no stamp."""
        return len(raw) != STAMP_BYTES


STAMPS: Final = StampSerializer()
