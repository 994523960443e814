"""cachelib's serializers as the engine uses them, and the engine's own for cachelib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cachelib.serializers import (
    BaseSerializer,
    JSONSerializer,
    RedisSerializer,
    SimpleSerializer,
)

from cachebridge.codec.decoding import decode_once
from cachebridge.codec.values import SERIALIZERS
from cachebridge.errors import UncacheableError

if TYPE_CHECKING:
    from cachebridge.codec.values import Serializer

_PICKLE: Final = SERIALIZERS["pickle"]
_PICKLE_MARK: Final = b"!"


class BridgeSerializer(SimpleSerializer):
    """The default ``serializer`` of a backend: the engine's own pickles."""

    def dumps(self, value: Any, protocol: int = 5) -> bytes:
        """Return the bytes that stand for a value in Redis."""
        del protocol  # the engine's
        return _PICKLE.encode(value)

    def loads(self, bvalue: bytes) -> Any:
        """Return the value of such bytes."""
        return _PICKLE.decode(bvalue)


class MarkedPickleSerializer:
    """Pickles as cachelib's RedisCache writes them; reads all the engine reads."""

    name = "cachelib"
    format = "pickle"
    exact = True

    def encode(self, value: Any) -> bytes:
        """Return the digits of an integer, a marked pickle of anything else."""
        if type(value) is int:
            return b"%d" % value
        return _PICKLE_MARK + _PICKLE.encode(value)

    def decode(self, raw: bytes) -> Any:
        """Return the value."""
        return _PICKLE.decode(raw)

    def is_damaged(self, raw: bytes) -> bool:
        """Return whether the bytes are a pickle that was cut off or spoilt."""
        return _PICKLE.is_damaged(raw)


class ForeignSerializer:
    """A serializer written for cachelib, as the engine uses it."""

    exact = False

    def __init__(self, serializer: BaseSerializer) -> None:
        self.name = type(serializer).__name__
        self.format = f"cachelib {self.name}"
        self._serializer = serializer

    def encode(self, value: Any) -> bytes:
        """Return the bytes; UncacheableError if the serializer has none."""
        raw = self._serializer.dumps(value)
        if raw is None:
            raise UncacheableError(f"{self.name} has no bytes for {type(value)!r}")
        return raw

    def decode(self, raw: bytes) -> Any:
        """Return the value; UndecodableError for any error of the serializer."""
        return decode_once(self._serializer.loads, raw, own_frames=1)

    def is_damaged(self, raw: bytes) -> bool:
        """Return False: what is damage there is not known here."""
        del raw
        return False


_MARKED: Final = MarkedPickleSerializer()


def engine_serializer(serializer: BaseSerializer) -> Serializer:
    """Return what the engine uses for a serializer of cachelib's kind."""
    kind = type(serializer)
    if kind is BridgeSerializer:
        return _PICKLE
    if kind is RedisSerializer:
        return _MARKED
    if kind is JSONSerializer:
        return SERIALIZERS["json"]
    return ForeignSerializer(serializer)
