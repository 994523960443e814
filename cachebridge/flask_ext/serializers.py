"""cachelib's serializers for the engine, and the engine's for cachelib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cachelib.serializers import (
    BaseSerializer,
    JSONSerializer,
    RedisSerializer,
    SimpleSerializer,
)

from cachebridge.codec.values import SERIALIZERS, UndecodableError
from cachebridge.errors import ConfigError, UncacheableError

if TYPE_CHECKING:
    from cachebridge.codec.values import Serializer
    from cachebridge.flask_ext.backend import CacheBridgeBackend

_PICKLE: Final = SERIALIZERS["pickle"]
_PICKLE_MARK: Final = b"!"


class BridgeSerializer(SimpleSerializer):
    """What ``serializer`` of a backend is by default: the engine's own pickles."""

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
    exact = True

    def encode(self, value: Any) -> bytes:
        """Return the digits of an integer, a marked pickle of anything else."""
        if type(value) is int:
            return b"%d" % value
        return _PICKLE_MARK + _PICKLE.encode(value)

    def decode(self, raw: bytes) -> Any:
        """Return the value."""
        return _PICKLE.decode(raw)


class ForeignSerializer:
    """A serializer written for cachelib, as the engine uses it."""

    exact = False

    def __init__(self, serializer: BaseSerializer) -> None:
        self.name = type(serializer).__name__
        self._serializer = serializer

    def encode(self, value: Any) -> bytes:
        """Return the bytes; UncacheableError if the serializer has none."""
        raw = self._serializer.dumps(value)
        if raw is None:
            raise UncacheableError(f"{self.name} has no bytes for {type(value)!r}")
        return raw

    def decode(self, raw: bytes) -> Any:
        """Return the value, UndecodableError whatever the serializer raises."""
        try:
            return self._serializer.loads(raw)
        except MemoryError:
            raise
        except Exception as exc:
            raise UndecodableError(type(exc).__name__) from exc


_MARKED: Final = MarkedPickleSerializer()


class SerializerAttribute:
    """``serializer`` of a backend, which cachelib lets one set on object or class."""

    def __get__(
        self, backend: CacheBridgeBackend | None, owner: type[CacheBridgeBackend]
    ) -> BaseSerializer:
        if backend is None:
            return owner.class_serializer
        return backend.serializer_in_use()

    def __set__(self, backend: CacheBridgeBackend, serializer: BaseSerializer) -> None:
        backend.use_serializer(serializer)


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


def configured_serializer(given: object) -> BaseSerializer | None:
    """Return the serializer that CACHE_SERIALIZER names, a class or an object."""
    if given is None:
        return None
    if isinstance(given, type) and issubclass(given, BaseSerializer):
        try:
            return given()
        except TypeError as exc:
            raise ConfigError(
                "CACHE_SERIALIZER: Couldn't instantiate serializer: "
                f"{given!r} needs arguments; give an object."
            ) from exc
    if isinstance(given, BaseSerializer):
        return given
    raise ConfigError(
        "CACHE_SERIALIZER must be a subclass of cachelib.serializers.BaseSerializer, "
        f"or an object of one, not {given!r}."
    )
