"""Serializers: a value becomes bytes that Redis and older writers understand.

Integers of 64 bits are stored as their decimal digits, so that Redis's INCR works on
them.  Values written by Django's RedisCache (integers, pickle) and by django-redis
(the same, also compressed with zlib) are read as they are.
"""

from __future__ import annotations

import json
import pickle
import zlib
from typing import Any, Final, Protocol

PICKLE_PROTOCOL: Final = 5
INT64: Final = range(-(2**63), 2**63)

_PICKLE_MARK: Final = 0x80
_ZLIB_MARK: Final = 0x78
_ENVELOPE_MARK: Final = 0xCB
_NUMBER_MARKS: Final = frozenset(b"-0123456789")


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
        try:
            if raw and raw[0] == _PICKLE_MARK:
                return pickle.loads(raw)
            if raw and raw[0] in _NUMBER_MARKS:
                return _number(raw)
            return pickle.loads(_inflate(raw))
        except Exception as exc:
            raise UndecodableError(type(exc).__name__) from exc


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
        try:
            return json.loads(_inflate(raw).decode("utf-8", "surrogatepass"))
        except Exception as exc:
            raise UndecodableError(type(exc).__name__) from exc


SERIALIZERS: Final[dict[str, Serializer]] = {
    "pickle": PickleSerializer(),
    "json": JsonSerializer(),
}


def _number(raw: bytes) -> int | float:
    try:
        return int(raw)
    except ValueError:
        return float(raw)
