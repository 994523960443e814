"""Serializers: a value becomes bytes that Redis and older writers understand.

Integers of 64 bits are stored as their decimal digits, so that Redis's INCR works on
them.  Values written by Django's RedisCache (integers, pickle), by django-redis (the
same, JSON, MessagePack, compressed or not) and by cachelib (integers, pickle after a
mark) are read, too.
"""

from __future__ import annotations

import json
import pickle
import re
from typing import TYPE_CHECKING, Any, Final, Protocol

from cachebridge.checking.extras import module_of
from cachebridge.codec.compression import decompress, is_spoilt
from cachebridge.codec.decoding import UndecodableError, decode_once
from cachebridge.codec.envelope import FLOAT_BYTES
from cachebridge.codec.seals import MARK, unverified
from cachebridge.config import DJANGO_REDIS_FORMAT
from cachebridge.core.entry import INT64

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.config import CacheOptions

__all__ = ["SERIALIZERS", "Serializer", "UndecodableError"]

PICKLE_PROTOCOL: Final = 5

_PICKLE_MARK: Final = 0x80
_CACHELIB_MARK: Final = 0x21
_OLDEST_PROTOCOL: Final = 2
_JSON_MARKS: Final = frozenset(b'{["')
_NUMBER_MARKS: Final = frozenset(b"-0123456789")
_PLAIN_MARKS: Final = _NUMBER_MARKS | {_CACHELIB_MARK}
_INTEGER: Final = re.compile(rb"-?[0-9]+")
_FLOAT: Final = re.compile(rb"-?[0-9]+\.[0-9]+(?:e[+-]?[0-9]{1,2})?")


class Serializer(Protocol):
    """Turns values into bytes and back.  Thread safe.

    ``exact`` says that a decoded value equals the encoded one in type and content.
    ``format`` names what the bytes are: serializers of one format read each other's.
    """

    name: str
    format: str
    exact: bool

    def encode(self, value: Any) -> bytes:
        """Return the bytes of ``value``; may raise any exception."""

    def decode(self, raw: bytes) -> Any:
        """Return the value; raise UndecodableError for bytes it cannot read."""

    def is_damaged(self, raw: bytes) -> bool:
        """Return whether no process can read these bytes, which this one cannot.

        Nothing that they contain is executed.
        """


def _plain(raw: bytes) -> bytes:
    """Take off what may stand around the bytes of a serializer, if no key is needed."""
    if raw and raw[0] == MARK:
        raw = unverified(raw)
    return decompress(raw)


class PickleSerializer:
    """Pickle: keeps every Python type.  Only for bytes from a trusted server."""

    name = format = "pickle"
    exact = True

    def __init__(self, protocol: int = PICKLE_PROTOCOL) -> None:
        self._protocol = protocol

    def encode(self, value: Any) -> bytes:
        """Return the bytes of ``value``; raises what pickle raises."""
        if type(value) is int and value in INT64:
            return b"%d" % value
        return pickle.dumps(value, self._protocol)

    def decode(self, raw: bytes) -> Any:
        """Return the value; UndecodableError if it cannot be rebuilt here."""
        return decode_once(self._load, raw, own_frames=2)

    def is_damaged(self, raw: bytes) -> bool:
        """Return whether the bytes are a pickle that was cut off or spoilt.

        An error of a class, or a class that is missing, says nothing about the bytes.
        """
        if is_spoilt(raw):
            return True
        start = raw[1:] if raw[:1] == b"!" else raw
        return (
            len(start) > 1
            and start[0] == _PICKLE_MARK
            and _OLDEST_PROTOCOL <= start[1] <= PICKLE_PROTOCOL
            and _is_no_pickle(start)
        )

    @staticmethod
    def _load(raw: bytes) -> Any:
        if raw and raw[0] == _PICKLE_MARK:
            return pickle.loads(raw)
        if raw and raw[0] not in _PLAIN_MARKS:
            raw = _plain(raw)
        if raw and raw[0] in _NUMBER_MARKS:
            return number(raw)
        if raw and raw[0] == _CACHELIB_MARK:
            return pickle.loads(memoryview(raw)[1:])
        return pickle.loads(raw)


class JsonSerializer:
    """JSON: readable by other languages; tuples become lists, keys become strings."""

    name = format = "json"
    exact = False

    def __init__(self, *, is_ascii: bool = False) -> None:
        """``is_ascii``: for readers that take no half of a surrogate pair."""
        self._is_ascii = is_ascii

    def encode(self, value: Any) -> bytes:
        """Return the bytes of ``value``; TypeError for what JSON cannot express."""
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=self._is_ascii)
        return text.encode("utf-8", "surrogatepass")

    def decode(self, raw: bytes) -> Any:
        """Return the value; never unpickles."""
        return decode_once(self._load, raw)

    def is_damaged(self, raw: bytes) -> bool:
        """Return whether the bytes begin as JSON does, and so should have been JSON.

        Others may read a text that begins as a number does, such as a date, and what is
        beyond limits of this process: numbers of many digits, deep nesting.
        """
        if is_spoilt(raw):
            return True
        return len(raw) > 1 and raw[0] in _JSON_MARKS and _is_no_json(self._load, raw)

    @staticmethod
    def _load(raw: bytes) -> Any:
        return json.loads(_plain(raw).decode("utf-8", "surrogatepass"))


class MsgpackSerializer:
    """MessagePack: smaller and faster than JSON, and bytes and keys keep their types.

    Tuples become lists, instances of subclasses of str, int, list and dict become
    plain ones.  Needs the package ormsgpack.
    """

    name = format = "msgpack"
    exact = False

    def __init__(self, *, only_text_keys: bool = False) -> None:
        """``only_text_keys``: refuse keys of dicts that django-redis cannot read."""
        self._only_text_keys = only_text_keys

    def encode(self, value: Any) -> bytes:
        """Return the bytes of ``value``; TypeError for what cannot come back."""
        if type(value) is int and value in INT64:
            return b"%d" % value
        packer = module_of("msgpack")
        # What would come back as a text or a dict is refused instead.
        refused = (
            packer.OPT_PASSTHROUGH_DATACLASS
            | packer.OPT_PASSTHROUGH_DATETIME
            | packer.OPT_PASSTHROUGH_ENUM
            | packer.OPT_PASSTHROUGH_UUID
        )
        keys = 0 if self._only_text_keys else packer.OPT_NON_STR_KEYS
        raw: bytes = packer.packb(value, option=refused | keys)
        return raw

    def decode(self, raw: bytes) -> Any:
        """Return the value; never unpickles."""
        return decode_once(self._load, raw)

    def is_damaged(self, raw: bytes) -> bool:
        """Return whether the bytes are compressed ones that no process can read.

        Other bytes say too little: each may begin a value of this format.
        """
        return is_spoilt(raw)

    @staticmethod
    def _load(raw: bytes) -> Any:
        if raw and raw[0] == MARK and len(raw) != FLOAT_BYTES:
            raw = unverified(raw)
        raw = decompress(raw)
        if raw and raw[0] in _NUMBER_MARKS:
            return number(raw)
        packer = module_of("msgpack")
        value = packer.unpackb(raw, option=packer.OPT_NON_STR_KEYS)
        if not _is_whole(raw):
            raise ValueError("bytes after the end")
        return value


_FIRST_BYTES: Final = {
    1: (*range(0x81), 0x90, 0xC0, 0xC2, 0xC3, *range(0xE0, 0x100)),
    2: (0xCC, 0xD0),
    3: (0xCD, 0xD1),
    5: (0xCA, 0xCE, 0xD2),
    9: (0xCB, 0xCF, 0xD3),
}
_EXACT: Final = {
    **{first: length for length, each in _FIRST_BYTES.items() for first in each},
    **{0xA0 + length: 1 + length for length in range(32)},
}
"""Lengths of values of MessagePack by their first byte, where it tells: of numbers,
short texts, and what is empty."""
_COUNTED: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
"""Bytes of the length that follows, of other texts and bytes."""


def _is_whole(raw: bytes) -> bool:
    """Return False if more follows a value of MessagePack that is no list or dict.

    The package does not ask: a pickle would be an empty dict, a text a small number.
    """
    if width := _COUNTED.get(raw[0]):
        end = 1 + width
        return len(raw) == end + int.from_bytes(raw[1:end], "big")
    return len(raw) == _EXACT.get(raw[0], len(raw))


SERIALIZERS: Final[dict[str, Serializer]] = {
    "pickle": PickleSerializer(),
    "json": JsonSerializer(),
    "msgpack": MsgpackSerializer(),
}
FOR_DJANGO_REDIS: Final[dict[str, Serializer]] = {
    **SERIALIZERS,
    "json": JsonSerializer(is_ascii=True),
    "msgpack": MsgpackSerializer(only_text_keys=True),
}
"""The same, which write what django-redis reads."""


def serializer_of(options: CacheOptions) -> Serializer:
    """Return the serializer that the options of a cache name."""
    is_for_others = options.write_format == DJANGO_REDIS_FORMAT
    return (FOR_DJANGO_REDIS if is_for_others else SERIALIZERS)[options.serializer]


def _is_no_json(load: Callable[[bytes], Any], raw: bytes) -> bool:
    try:
        load(raw)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return True
    except (ValueError, RecursionError):
        return False
    return False


def _is_no_pickle(raw: bytes) -> bool:
    """Return whether the bytes are no whole pickle; does not execute them."""
    import pickletools  # noqa: PLC0415 for what is damaged alone

    try:
        for _ in pickletools.genops(raw):
            pass
    except Exception:  # noqa: BLE001 whatever it stumbles over
        return True
    return False


def number(raw: bytes) -> int | float:
    """Read decimal digits as Redis and other writers store them; else ValueError."""
    if _INTEGER.fullmatch(raw):
        return int(raw)
    if _FLOAT.fullmatch(raw):
        return float(raw)
    raise ValueError("not a decimal number")
