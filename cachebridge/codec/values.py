"""Serializers: a value becomes bytes that Redis and older writers understand.

Integers of 64 bits are stored as their decimal digits, so that Redis's INCR works on
them.  Values written by Django's RedisCache (integers, pickle), by django-redis (the
same, also compressed with zlib) and by cachelib (integers, pickle after a mark) are
read, too.
"""

from __future__ import annotations

import json
import pickle
import re
import signal
import struct
import zlib
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, Final, Protocol

from cachebridge.bounds import inflate
from cachebridge.core.entry import INT64

if TYPE_CHECKING:
    from collections.abc import Callable

PICKLE_PROTOCOL: Final = 5

_PICKLE_MARK: Final = 0x80
_ZLIB_MARK: Final = 0x78
_CACHELIB_MARK: Final = 0x21
_ENVELOPE_MARK: Final = 0xCB
_OLDEST_PROTOCOL: Final = 2
_COMPRESSED: Final = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\x00": "lzma",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
"""How data begin that django-redis has compressed by its option COMPRESSOR."""
_JSON_MARKS: Final = frozenset(b'{["')
_NUMBER_MARKS: Final = frozenset(b"-0123456789")
_INTEGER: Final = re.compile(rb"-?[0-9]+")
_FLOAT: Final = re.compile(rb"-?[0-9]+\.[0-9]+(?:e[+-]?[0-9]{1,2})?")


class UndecodableError(Exception):
    """No value can be read from these bytes; the cause is chained.

    They may be of another writer: a newer version, another serializer, a class that
    only other processes have.
    """


class Serializer(Protocol):
    """Turns values into bytes and back.  Thread safe.

    ``exact`` says that a decoded value equals the encoded one in type and content.
    """

    name: str
    exact: bool

    def encode(self, value: Any) -> bytes:
        """Return the bytes of ``value``; may raise any exception."""

    def decode(self, raw: bytes) -> Any:
        """Return the value; raise UndecodableError for bytes it cannot read."""

    def is_damaged(self, raw: bytes) -> bool:
        """Return whether no process can read these bytes, which this one cannot.

        Nothing that they contain is executed.
        """


def _inflate(raw: bytes) -> bytes:
    """Decompress what a writer compressed; UndecodableError for newer formats."""
    mark = raw[0] if raw else -1
    if mark == _ENVELOPE_MARK:
        raise UndecodableError("written by a newer version of cachebridge")
    for start, name in _COMPRESSED.items():
        if raw.startswith(start):
            raise UndecodableError(f"compressed with {name}")
    return inflate(raw) if mark == _ZLIB_MARK else raw


def _is_zlib(raw: bytes) -> bool:
    """Return whether the bytes begin as those that zlib has compressed."""
    is_marked = len(raw) > 1 and raw[0] == _ZLIB_MARK
    return is_marked and (raw[0] << 8 | raw[1]) % 31 == 0  # RFC 1950, section 2.2


class PickleSerializer:
    """Pickle: keeps every Python type.  Only for bytes from a trusted server."""

    name = "pickle"
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
        if _is_zlib(raw):
            return _is_cut_off(raw)
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
        if raw and raw[0] in _NUMBER_MARKS:
            return _number(raw)
        if raw and raw[0] == _CACHELIB_MARK:
            return pickle.loads(memoryview(raw)[1:])
        return pickle.loads(_inflate(raw))


class JsonSerializer:
    """JSON: readable by other languages; tuples become lists, keys become strings."""

    name = "json"
    exact = False

    def encode(self, value: Any) -> bytes:
        """Return the bytes of ``value``; TypeError for what JSON cannot express."""
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(
            "utf-8", "surrogatepass"
        )

    def decode(self, raw: bytes) -> Any:
        """Return the value; never unpickles."""
        return decode_once(self._load, raw)

    def is_damaged(self, raw: bytes) -> bool:
        """Return whether the bytes begin as JSON does, and so should have been JSON.

        Others may read a text that begins as a number does, such as a date, and what is
        beyond limits of this process: numbers of many digits, deep nesting.
        """
        if _is_zlib(raw):
            return _is_cut_off(raw)
        return len(raw) > 1 and raw[0] in _JSON_MARKS and _is_no_json(self._load, raw)

    @staticmethod
    def _load(raw: bytes) -> Any:
        return json.loads(_inflate(raw).decode("utf-8", "surrogatepass"))


SERIALIZERS: Final[dict[str, Serializer]] = {
    "pickle": PickleSerializer(),
    "json": JsonSerializer(),
}


def decode_once(
    load: Callable[[bytes], Any], raw: bytes, own_frames: int | None = None
) -> Any:
    """Load a value; UndecodableError for whatever the bytes make ``load`` raise.

    Once, because unpickling may do something.  What has nothing to do with the bytes
    comes out: a time limit, which may strike anywhere.  It is told from their errors by
    its kind, unless code of the value has raised it: ``own_frames`` says how many calls
    deep ours goes, None that there is no other.
    """
    try:
        return load(raw)
    except UndecodableError as exc:
        raise UndecodableError(*exc.args) from exc
    except Exception as exc:
        if _came_from_outside(exc, own_frames):
            raise
        raise UndecodableError(type(exc).__name__) from exc


_OF_THE_BYTES: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    NameError,
    RuntimeError,
    StopAsyncIteration,
    StopIteration,
    SystemError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zlib.error,
)
"""The kinds that spoilt or strange bytes make Python itself raise.

MemoryError, too: of a length that a changed bit has made terabytes.
"""


def _came_from_outside(exc: Exception, own_frames: int | None) -> bool:
    frames = [frame for frame, _ in walk_tb(exc.__traceback__)]
    codes = {frame.f_code for frame in frames}
    if not codes.isdisjoint(_signal_handlers()):
        return True
    is_ours = own_frames is None or len(frames) <= own_frames
    return is_ours and not isinstance(exc, _OF_THE_BYTES)


def _signal_handlers() -> set[Any]:
    """Return the code of the functions that Python calls for signals."""
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    functions = [getattr(each, "__func__", each) for each in handlers]
    return {getattr(each, "__code__", None) for each in functions} - {None}


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


def _is_cut_off(raw: bytes) -> bool:
    try:
        inflate(raw)
    except zlib.error:
        return True
    except OverflowError:  # a process with a higher limit, or none, reads it
        return False
    return False


def _number(raw: bytes) -> int | float:
    """Read decimal digits as Redis and other writers store them; else ValueError."""
    if _INTEGER.fullmatch(raw):
        return int(raw)
    if _FLOAT.fullmatch(raw):
        return float(raw)
    raise ValueError("not a decimal number")
