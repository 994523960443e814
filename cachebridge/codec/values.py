"""Serializers: a value becomes bytes that Redis and older writers understand.

Integers of 64 bits are stored as their decimal digits, so that Redis's INCR works on
them.  Values written by Django's RedisCache (integers, pickle), by django-redis (the
same, also compressed with zlib) and by cachelib (integers, pickle behind a mark) are
read as they are.
"""

from __future__ import annotations

import json
import pickle
import re
import zlib
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

PICKLE_PROTOCOL: Final = 5
INT64: Final = range(-(2**63), 2**63)

_PICKLE_MARK: Final = 0x80
_ZLIB_MARK: Final = 0x78
_CACHELIB_MARK: Final = 0x21
_ENVELOPE_MARK: Final = 0xCB
_NUMBER_MARKS: Final = frozenset(b"-0123456789")
_INTEGER: Final = re.compile(rb"-?[0-9]+")
_FLOAT: Final = re.compile(rb"-?[0-9]+\.[0-9]+(?:e[+-]?[0-9]{1,2})?")


class UndecodableError(Exception):
    """No value can be read from these bytes; the cause is chained."""


class Serializer(Protocol):
    """Turns values into bytes and back.  Thread safe.

    ``exact`` says that a decoded value equals the encoded one in type and content.
    """

    name: str
    exact: bool

    def encode(self, value: Any) -> bytes:
        """Return the bytes of ``value``; what it cannot encode raises as it likes."""

    def decode(self, raw: bytes) -> Any:
        """Return the value; raise UndecodableError for bytes it cannot read."""


def _inflate(raw: bytes) -> bytes:
    """Undo zlib where a writer has compressed, and refuse what is not for us."""
    mark = raw[0] if raw else -1
    if mark == _ENVELOPE_MARK:
        raise UndecodableError("written by a newer version of cachebridge")
    return zlib.decompress(raw) if mark == _ZLIB_MARK else raw


class PickleSerializer:
    """Pickle: every Python type comes back as it was.  Reads trusted bytes only."""

    name = "pickle"
    exact = True

    def encode(self, value: Any) -> bytes:
        """Return the bytes of ``value``; raises what pickle raises."""
        if type(value) is int and value in INT64:
            return b"%d" % value
        return pickle.dumps(value, PICKLE_PROTOCOL)

    def decode(self, raw: bytes) -> Any:
        """Return the value, raising UndecodableError if it cannot be rebuilt here."""
        return _decode_surely(self._load, raw)

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
    """JSON: readable by other languages; tuples come back as lists, keys as strings."""

    name = "json"
    exact = False

    def encode(self, value: Any) -> bytes:
        """Return the bytes of ``value``; TypeError for what JSON cannot express."""
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(
            "utf-8", "surrogatepass"
        )

    def decode(self, raw: bytes) -> Any:
        """Return the value; never unpickles."""
        return _decode_surely(self._load, raw)

    @staticmethod
    def _load(raw: bytes) -> Any:
        return json.loads(_inflate(raw).decode("utf-8", "surrogatepass"))


SERIALIZERS: Final[dict[str, Serializer]] = {
    "pickle": PickleSerializer(),
    "json": JsonSerializer(),
}


def _decode_surely(load: Callable[[bytes], Any], raw: bytes) -> Any:
    """Load a value; only what fails twice is undecodable, since it will be deleted.

    What fails once was struck by something else, such as a time limit that raises an
    exception wherever the thread happens to be.
    """
    try:
        return load(raw)
    except MemoryError:
        raise
    except Exception:
        try:
            load(raw)
        except MemoryError:
            raise
        except Exception as exc:
            raise UndecodableError(type(exc).__name__) from exc
        raise


def _number(raw: bytes) -> int | float:
    """Read decimal digits as Redis and other writers store them, and nothing else."""
    if _INTEGER.fullmatch(raw):
        return int(raw)
    if _FLOAT.fullmatch(raw):
        return float(raw)
    raise ValueError("not a decimal number")
