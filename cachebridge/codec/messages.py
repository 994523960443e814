"""The bus message: binary, big-endian, versioned; nothing in it is ever unpickled.

::

    magic 0xCB | version u8 | type u8 | flags u8 | origin 8 bytes | write id u64
    | sent u64 (microseconds of the writer's wall clock) | count u16
    | count x (length u16, key in UTF-8)

A key is the full key as L2 has it.  If a receiver cannot read a message, it empties L1;
it never ignores one.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAGIC: Final = 0xCB
VERSION: Final = 1
MAX_KEYS: Final = 1000
"""Keys in one message; a larger batch is sent as several."""
MAX_BYTES: Final = 256 * 1024
MAX_KEY_BYTES: Final = 0xFFFF

_HEADER: Final = struct.Struct(">BBBB8sQQH")
_LENGTH: Final = struct.Struct(">H")
_FLAG_ON: Final = 1


class MessageType(IntEnum):
    """What a message asks its receivers to do."""

    KEYS = 0
    """Drop these keys."""
    CLEAR = 1
    """Drop everything."""
    PREFIX = 2
    """Drop the keys that begin with the one given."""
    HEARTBEAT = 4
    """Proves to its sender that the bus works; ``write_id`` is its number."""
    SWITCH = 5
    """Turn L1 on (flag 1) or off (flag 0)."""


_TYPES: Final = {int(kind): kind for kind in MessageType}


class MalformedMessageError(Exception):
    """The frame is no message, or not of a known version."""


class UnknownVersionError(MalformedMessageError):
    """The frame is of a version that this code does not know."""


class Message(NamedTuple):
    """One message of the bus; ``keys`` are full keys."""

    type: MessageType
    origin: bytes
    write_id: int
    sent_us: int
    keys: tuple[str, ...] = ()
    on: bool = False


def encode_message(message: Message) -> bytes:
    """Return the frame; the caller must respect MAX_KEYS and MAX_KEY_BYTES."""
    kind, origin, write_id, sent_us, keys, on = message
    flags = _FLAG_ON if on else 0
    head = (MAGIC, VERSION, kind, flags, origin, write_id, sent_us, len(keys))
    parts = [_HEADER.pack(*head)]
    length_of = _LENGTH.pack
    for key in keys:
        name = key.encode("utf-8", "surrogatepass")
        parts += length_of(len(name)), name
    return b"".join(parts)


def messages_for(frame: bytes, groups: Iterable[Sequence[str]]) -> list[bytes]:
    """Return the same message about each group of keys instead of its own."""
    message = decode_message(frame)
    return [encode_message(message._replace(keys=tuple(keys))) for keys in groups]


def decode_message(frame: bytes) -> Message:
    """Return the message; raises MalformedMessageError, and nothing else."""
    if len(frame) < 2 or frame[0] != MAGIC:  # noqa: PLR2004 magic and version
        raise MalformedMessageError("no cachebridge frame")
    if frame[1] != VERSION:
        raise UnknownVersionError(f"version {frame[1]}")
    try:
        _, _, kind, flags, origin, write_id, sent_us, count = _HEADER.unpack_from(frame)
        keys, end = _decode_keys(frame, count)
        if end != len(frame):
            raise MalformedMessageError("length does not fit")
        on = bool(flags & _FLAG_ON)
        return Message(_TYPES[kind], origin, write_id, sent_us, keys, on)
    except (struct.error, LookupError, ValueError) as exc:
        raise MalformedMessageError(str(exc)) from exc


def _decode_keys(frame: bytes, count: int) -> tuple[tuple[str, ...], int]:
    keys = []
    start = _HEADER.size
    # All keys are ASCII, and shorter than 128 bytes: then they are slices of one text.
    text = str(frame, "latin-1") if frame[start:].isascii() else ""
    for _ in range(count):
        begin = start + _LENGTH.size
        start = begin + (frame[start] << 8 | frame[start + 1])
        key = text[begin:start] or str(frame[begin:start], "utf-8", "surrogatepass")
        keys.append(key)
    return tuple(keys), start


def batches(keys: Sequence[str], most: int = MAX_KEYS) -> list[Sequence[str]]:
    """Split keys into runs of at most ``most`` that each fit into one message."""
    if len(keys) <= most and sum(map(len, keys)) * 4 <= MAX_BYTES:
        return [keys]
    runs: list[Sequence[str]] = []
    start = size = 0
    for at, key in enumerate(keys):
        width = 4 * len(key)
        if at > start and (at - start >= most or size + width > MAX_BYTES):
            runs.append(keys[start:at])
            start, size = at, 0
        size += width
    runs.append(keys[start:])
    return runs
