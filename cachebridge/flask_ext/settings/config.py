"""Flask-Caching's ``CACHE_*`` keys: their defaults, and how single ones are read."""

from __future__ import annotations

import hashlib
import warnings
from typing import TYPE_CHECKING, Any, Final

from cachelib.serializers import BaseSerializer

from cachebridge.checking.checks import boolean, did_you_mean
from cachebridge.errors import ConfigError
from cachebridge.texts import hide_password

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEFAULTS: Final[dict[str, Any]] = {
    "CACHE_TYPE": "NullCache",
    "CACHE_NO_NULL_WARNING": False,
    "CACHE_DEFAULT_TIMEOUT": 300,
    "CACHE_IGNORE_ERRORS": False,
    "CACHE_THRESHOLD": 500,
    "CACHE_KEY_PREFIX": "flask_cache_",
    "CACHE_ARGS": (),
    "CACHE_OPTIONS": None,
    "CACHE_SOURCE_CHECK": False,
    "CACHE_HASH_METHOD": hashlib.sha256,
    "CACHE_COMPATIBLE_KEYS": False,
    "CACHE_ENABLE_SIGNALS": False,
    "CACHE_SERIALIZER": None,
    "CACHE_REDIS_HOST": "localhost",
    "CACHE_REDIS_PORT": 6379,
    "CACHE_REDIS_PASSWORD": None,
    "CACHE_REDIS_DB": 0,
    "CACHE_REDIS_URL": None,
    "CACHE_REDIS_SENTINELS": None,
    "CACHE_REDIS_SENTINEL_MASTER": "mymaster",
    "CACHE_REDIS_SENTINEL_PASSWORD": None,
    "CACHE_REDIS_CLUSTER": None,
    "CACHE_MEMCACHED_SERVERS": None,
    "CACHE_MEMCACHED_USERNAME": None,
    "CACHE_MEMCACHED_PASSWORD": None,
    "CACHE_BRIDGE": None,
}
_OF_OTHER_TYPES: Final = frozenset(
    {
        "CACHE_DIR",
        "CACHE_FILE_HASH_METHOD",
        "CACHE_GCS_BUCKET",
        "CACHE_UWSGI_NAME",
    }
)
"""Flask-Caching keys that are accepted but do nothing with the supported types."""


def _short(name: str) -> str:
    """Return the other name of a type: ``redis`` for ``RedisCache``."""
    return name.removesuffix("Cache").lower()


REDIS: Final = "RedisCache"
SENTINEL: Final = "RedisSentinelCache"
CLUSTER: Final = "RedisClusterCache"
MEMCACHED: Final = "MemcachedCache"
MEMORY: Final = "SimpleCache"
NOTHING: Final = "NullCache"
_SUPPORTED: Final = (REDIS, SENTINEL, CLUSTER, MEMCACHED, MEMORY, NOTHING)
_TYPES: Final = {
    **{name: name for name in _SUPPORTED},
    **{_short(name): name for name in _SUPPORTED},
    "CacheBridgeBackend": REDIS,
}
_FOLDERS: Final = (
    "flask_caching.",
    "cachelib.",
    "cachebridge.flask_ext.",
)
_SHARED_INSTEAD: Final = "CACHE_TYPE 'RedisCache' is shared by all processes"
_NO_SASL: Final = (
    "SASL needs Memcached's binary protocol, and here the text protocol is spoken. Use "
    "'MemcachedCache' in a network of your own, or with a tls_context in CACHE_OPTIONS"
)
_REASONS: Final = {
    "SASLMemcachedCache": _NO_SASL,
    "SpreadSASLMemcachedCache": _NO_SASL,
    "FileSystemCache": _SHARED_INSTEAD,
    "UWSGICache": _SHARED_INSTEAD,
    "GoogleCloudStorageCache": _SHARED_INSTEAD,
}
_NO_OWN_BACKENDS: Final = "a backend of one's own has no second level"
_REPLACEMENTS: Final = {
    **_REASONS,
    **{_short(name): reason for name, reason in _REASONS.items()},
}


def merged(*configs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the ``CACHE_*`` keys of all, and defaults; a later config overrides.

    Raises ConfigError for a key that does not exist.
    """
    given: dict[str, Any] = {}
    for config in configs:
        given.update(config or {})
    found = {
        name: value for name, value in given.items() if str(name).startswith("CACHE_")
    }
    for name in found:
        if name not in DEFAULTS and name not in _OF_OTHER_TYPES:
            raise ConfigError(_unknown(name))
    return {**DEFAULTS, **found}


def _unknown(name: str) -> str:
    return (
        f"Unknown key {name!r}.{did_you_mean(name, DEFAULTS)} "
        f"Valid keys: {', '.join(sorted(DEFAULTS))}."
    )


def cache_type(config: Mapping[str, Any]) -> str:
    """Return which of the six types CACHE_TYPE names; ConfigError for any other."""
    given = config["CACHE_TYPE"]
    name = str(given)
    if name.startswith(_FOLDERS):
        name = name.rpartition(".")[2]
    if name in _TYPES:
        return _TYPES[name]
    hint = "" if name in _REPLACEMENTS else did_you_mean(name, _TYPES)
    # A URL may be given by mistake.
    shown = hide_password(given) if isinstance(given, str) and "@" in given else given
    own = "there is no such type" if hint else _NO_OWN_BACKENDS
    raise ConfigError(
        f"CACHE_TYPE {shown!r} is not supported: {_REPLACEMENTS.get(name, own)}.{hint} "
        f"Valid types: {REDIS!r}, {SENTINEL!r}, {CLUSTER!r}, {MEMCACHED!r}, "
        f"{MEMORY!r} (this process alone) and {NOTHING!r}."
    )


def flag(config: Mapping[str, Any], name: str) -> bool:
    """Return a key that is True or False."""
    return boolean(name, config[name])


def hash_method(config: Mapping[str, Any]) -> Callable[..., Any]:
    """Return the constructor of hashes."""
    value: Callable[..., Any] = config["CACHE_HASH_METHOD"]
    if callable(value):
        return value
    raise ConfigError(
        "CACHE_HASH_METHOD must be a constructor such as hashlib.sha256, not "
        f"{value!r}."
    )


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


def require_dict(config: object) -> None:
    """Raise ConfigError unless the configuration is a dict or None."""
    if config is not None and not isinstance(config, dict):
        raise ConfigError("`config` must be an instance of dict or None")


def warn_of_nothing(config: Mapping[str, Any]) -> None:
    """Warn that nothing is cached; called by the ``init_app`` that the user calls."""
    if not flag(config, "CACHE_NO_NULL_WARNING"):
        warnings.warn(
            "CACHE_TYPE is NullCache: nothing is cached. CACHE_NO_NULL_WARNING "
            "silences this.",
            stacklevel=3,
        )
    if config["CACHE_SERIALIZER"] is not None:
        warnings.warn(
            "CACHE_SERIALIZER has no effect with CACHE_TYPE NullCache.", stacklevel=3
        )
