"""From Flask-Caching's ``CACHE_*`` keys to a location and cachebridge's options."""

from __future__ import annotations

import hashlib
import math
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from cachebridge.config import (
    OPTION_NAMES,
    CacheOptions,
    EngineOptions,
    parse_options,
)
from cachebridge.errors import ConfigError
from cachebridge.flask_ext.client_options import (
    memcached_options,
    redis_options,
    simple_options,
    warn_once,
)
from cachebridge.flask_ext.locations import memcached_location, redis_location
from cachebridge.flask_ext.responses import Timeout, whole_seconds
from cachebridge.flask_ext.serializers import configured_serializer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta

    from cachelib.serializers import BaseSerializer

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
    "CACHE_ENABLE_SIGNALS": False,
    "CACHE_SERIALIZER": None,
    "CACHE_REDIS_HOST": "localhost",
    "CACHE_REDIS_PORT": 6379,
    "CACHE_REDIS_PASSWORD": None,
    "CACHE_REDIS_DB": 0,
    "CACHE_REDIS_URL": None,
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
        "CACHE_REDIS_CLUSTER",
        "CACHE_REDIS_SENTINELS",
        "CACHE_REDIS_SENTINEL_MASTER",
        "CACHE_REDIS_SENTINEL_PASSWORD",
        "CACHE_UWSGI_NAME",
    }
)
"""Known, and without effect with the types there are here."""

REDIS: Final = "RedisCache"
MEMCACHED: Final = "MemcachedCache"
MEMORY: Final = "SimpleCache"
NOTHING: Final = "NullCache"
_TYPES: Final = {
    "RedisCache": REDIS,
    "MemcachedCache": MEMCACHED,
    "SimpleCache": MEMORY,
    "NullCache": NOTHING,
    "CacheBridgeBackend": REDIS,
    "redis": REDIS,
    "memcached": MEMCACHED,
    "simple": MEMORY,
    "null": NOTHING,
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
_REPLACEMENTS: Final = {
    "RedisSentinelCache": "Sentinel is not supported yet",
    "RedisClusterCache": "Redis Cluster is not supported yet",
    "SASLMemcachedCache": _NO_SASL,
    "SpreadSASLMemcachedCache": _NO_SASL,
    "FileSystemCache": _SHARED_INSTEAD,
    "UWSGICache": _SHARED_INSTEAD,
    "GoogleCloudStorageCache": _SHARED_INSTEAD,
    "redissentinel": "Sentinel is not supported yet",
    "rediscluster": "Redis Cluster is not supported yet",
    "saslmemcached": _NO_SASL,
    "spreadsaslmemcached": _NO_SASL,
    "filesystem": _SHARED_INSTEAD,
    "uwsgi": _SHARED_INSTEAD,
}
_ELSEWHERE: Final = {
    "TIMEOUT": "CACHE_DEFAULT_TIMEOUT",
    "KEY_PREFIX": "CACHE_KEY_PREFIX",
}
"""Options of ours that have a key of Flask-Caching's."""


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """What a backend is made of."""

    location: str
    engine_options: EngineOptions
    cache_options: CacheOptions
    default_timeout: int | timedelta = 300
    key_prefix: str | Callable[[], str] = ""
    ignore_delete_many_errors: bool = True
    serializer: BaseSerializer | None = None
    memory_threshold: int | None = None
    """The most keys of a store that belongs to this one backend."""


def merged(*configs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the ``CACHE_*`` keys of all, the last one's first, with the defaults.

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
    near = get_close_matches(name, DEFAULTS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"Unknown key {name!r}.{hint} Valid keys: {', '.join(sorted(DEFAULTS))}."


def cache_type(config: Mapping[str, Any]) -> str:
    """Return which of the four types is meant; ConfigError for any other."""
    given = config["CACHE_TYPE"]
    name = str(given)
    if name.startswith(_FOLDERS):
        name = name.rpartition(".")[2]
    if name in _TYPES:
        return _TYPES[name]
    reason = _REPLACEMENTS.get(name, "a backend of one's own has no second level")
    raise ConfigError(
        f"CACHE_TYPE {given!r} is not supported: {reason}. Valid types: {REDIS!r}, "
        f"{MEMCACHED!r}, {MEMORY!r} (this process alone) and {NOTHING!r}."
    )


def flag(config: Mapping[str, Any], name: str) -> bool:
    """Return a key that is on or off."""
    value = config[name]
    if isinstance(value, bool):
        return value
    raise ConfigError(f"{name} must be True or False, not {value!r}.")


def hash_method(config: Mapping[str, Any]) -> Callable[..., Any]:
    """Return the constructor of hashes."""
    value: Callable[..., Any] = config["CACHE_HASH_METHOD"]
    if callable(value):
        return value
    raise ConfigError(
        "CACHE_HASH_METHOD must be a constructor such as hashlib.sha256, not "
        f"{value!r}."
    )


def backend_settings(
    config: Mapping[str, Any],
    *,
    kind: str,
    arguments: Sequence[Any] = (),
    options: Mapping[str, Any] | None = None,
) -> BackendSettings:
    """Translate a whole configuration for one backend.

    ``options`` are what Flask-Caching makes of CACHE_OPTIONS, which they replace.
    Raises ConfigError naming the key that is unusable.
    """
    if arguments:
        raise ConfigError(
            "CACHE_ARGS is not supported: give the keys CACHE_REDIS_*, "
            "CACHE_MEMCACHED_SERVERS or CACHE_THRESHOLD by name."
        )
    extra = _mapping(config, "CACHE_OPTIONS") if options is None else dict(options)
    timeout = extra.pop("default_timeout", config["CACHE_DEFAULT_TIMEOUT"])
    ignore = extra.pop("ignore_delete_many_errors", flag(config, "CACHE_IGNORE_ERRORS"))
    threshold = extra.pop("threshold", config["CACHE_THRESHOLD"])
    prefix = extra.pop("key_prefix", config["CACHE_KEY_PREFIX"]) or ""
    if not isinstance(prefix, str) and not callable(prefix):
        raise ConfigError(
            f"CACHE_KEY_PREFIX must be a string, or return one, not {prefix!r}."
        )
    bridge = bridge_options(_mapping(config, "CACHE_BRIDGE"))
    location = bridge.pop("LOCATION", None)
    kind = _kind_at(location, kind)
    given = _CLIENT_OPTIONS[kind](extra)
    most = None
    if kind == MEMORY and location is None:
        location, most = "memory://", _threshold(threshold)
        given.setdefault("L1_MAX_ENTRIES", most)
        given["CLEAR_FLUSHES_DB"] = True  # the store is this backend's alone
    if location is None and kind == MEMCACHED:
        location = memcached_location(config)
        if threshold != DEFAULTS["CACHE_THRESHOLD"]:
            warn_once(
                "CACHE_THRESHOLD has no effect on Memcached, which its own memory "
                "bounds; L1_MAX_ENTRIES in CACHE_BRIDGE bounds the level in process"
            )
    engine_options, cache_options = parse_options(
        {**given, **bridge}, also_valid=("LOCATION",)
    )
    return BackendSettings(
        location=location or redis_location(config),
        engine_options=engine_options,
        cache_options=cache_options,
        default_timeout=_default_timeout(timeout),
        key_prefix=prefix,
        ignore_delete_many_errors=bool(ignore),
        serializer=configured_serializer(config["CACHE_SERIALIZER"]),
        memory_threshold=most,
    )


def _kind_at(location: object, kind: str) -> str:
    """Return whose arguments CACHE_OPTIONS are: LOCATION goes before the type."""
    if str(location).startswith("memcached:"):
        return MEMCACHED
    return REDIS if kind == MEMCACHED and location is not None else kind


_CLIENT_OPTIONS: Final = {
    REDIS: redis_options,
    MEMCACHED: memcached_options,
    MEMORY: simple_options,
    NOTHING: redis_options,
}


def _mapping(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = config[name]
    if value is None:
        return {}
    if isinstance(value, dict):
        return dict(value)
    raise ConfigError(f"{name} must be a dict, not {type(value).__name__}.")


def bridge_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return our own options; ConfigError for those that have a key of their own."""
    for name in options:
        if name in _ELSEWHERE:
            valid = sorted({"LOCATION", *OPTION_NAMES} - {*_ELSEWHERE})
            raise ConfigError(
                f"CACHE_BRIDGE[{name!r}] belongs in {_ELSEWHERE[name]}. Valid options: "
                f"{', '.join(valid)}."
            )
    return dict(options)


def _threshold(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value or DEFAULTS["CACHE_THRESHOLD"]
    raise ConfigError(f"CACHE_THRESHOLD must be an integer >= 0, not {value!r}.")


def _default_timeout(value: Timeout | None) -> int:
    seconds: Any = None
    with suppress(ValueError):
        seconds = whole_seconds(value)
    if not _is_seconds(seconds):
        raise ConfigError(
            "CACHE_DEFAULT_TIMEOUT must be a number of seconds (0 for ever) or a "
            f"timedelta, not {value!r}."
        )
    whole: int = math.ceil(seconds)
    return whole


def _is_seconds(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 <= value < math.inf
