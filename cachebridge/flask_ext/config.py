"""From Flask-Caching's ``CACHE_*`` keys to a location and cachebridge's options."""

from __future__ import annotations

import hashlib
import logging
import math
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from cachebridge.config import (
    OPTION_NAMES,
    CacheOptions,
    EngineOptions,
    parse_options,
    split_client_arguments,
)
from cachebridge.errors import ConfigError
from cachebridge.flask_ext.responses import Timeout, whole_seconds
from cachebridge.flask_ext.serializers import configured_serializer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta

    from cachelib.serializers import BaseSerializer

_log = logging.getLogger("cachebridge.flask")

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
    "CACHE_BRIDGE": None,
}
_OF_OTHER_TYPES: Final = frozenset(
    {
        "CACHE_DIR",
        "CACHE_FILE_HASH_METHOD",
        "CACHE_GCS_BUCKET",
        "CACHE_MEMCACHED_PASSWORD",
        "CACHE_MEMCACHED_SERVERS",
        "CACHE_MEMCACHED_USERNAME",
        "CACHE_REDIS_CLUSTER",
        "CACHE_REDIS_SENTINELS",
        "CACHE_REDIS_SENTINEL_MASTER",
        "CACHE_REDIS_SENTINEL_PASSWORD",
        "CACHE_UWSGI_NAME",
    }
)
"""Known, and without effect with the types there are here."""

REDIS: Final = "RedisCache"
MEMORY: Final = "SimpleCache"
NOTHING: Final = "NullCache"
_TYPES: Final = {
    "RedisCache": REDIS,
    "SimpleCache": MEMORY,
    "NullCache": NOTHING,
    "CacheBridgeBackend": REDIS,
    "redis": REDIS,
    "simple": MEMORY,
    "null": NOTHING,
}
_FOLDERS: Final = (
    "flask_caching.",
    "cachelib.",
    "cachebridge.flask_ext.",
)
_SHARED_INSTEAD: Final = "CACHE_TYPE 'RedisCache' is shared by all processes"
_REPLACEMENTS: Final = {
    "RedisSentinelCache": "Sentinel is not supported yet",
    "RedisClusterCache": "Redis Cluster is not supported yet",
    "MemcachedCache": "Memcached is not supported yet",
    "SASLMemcachedCache": "Memcached is not supported yet",
    "SpreadSASLMemcachedCache": "Memcached is not supported yet",
    "FileSystemCache": _SHARED_INSTEAD,
    "UWSGICache": _SHARED_INSTEAD,
    "GoogleCloudStorageCache": _SHARED_INSTEAD,
    "redissentinel": "Sentinel is not supported yet",
    "rediscluster": "Redis Cluster is not supported yet",
    "memcached": "Memcached is not supported yet",
    "filesystem": _SHARED_INSTEAD,
    "uwsgi": _SHARED_INSTEAD,
}
_ELSEWHERE: Final = {
    "TIMEOUT": "CACHE_DEFAULT_TIMEOUT",
    "KEY_PREFIX": "CACHE_KEY_PREFIX",
}
"""Options of ours that have a key of Flask-Caching's."""

_WITHOUT_EFFECT: Final = frozenset(
    {
        "check_connection",
        "health_check_interval",
        "retry",
        "retry_on_error",
        "retry_on_timeout",
        "single_connection_client",
    }
)
_warned: set[str] = set()


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
    """Return which of the three types is meant; ConfigError for any other."""
    given = config["CACHE_TYPE"]
    name = str(given)
    if name.startswith(_FOLDERS):
        name = name.rpartition(".")[2]
    if name in _TYPES:
        return _TYPES[name]
    reason = _REPLACEMENTS.get(name, "a backend of one's own has no second level")
    raise ConfigError(
        f"CACHE_TYPE {given!r} is not supported: {reason}. Valid types: {REDIS!r}, "
        f"{MEMORY!r} (this process alone) and {NOTHING!r}."
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
            "CACHE_ARGS is not supported: give the keys CACHE_REDIS_* or "
            "CACHE_THRESHOLD by name."
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
    given = _client_options(extra, kind)
    most = None
    if kind == MEMORY and location is None:
        location, most = "memory://", _threshold(threshold)
        given.setdefault("L1_MAX_ENTRIES", most)
        given["CLEAR_FLUSHES_DB"] = True  # the store is this backend's alone
    engine_options, cache_options = parse_options(
        {**given, **bridge}, also_valid=("LOCATION",)
    )
    return BackendSettings(
        location=location or _redis_location(config),
        engine_options=engine_options,
        cache_options=cache_options,
        default_timeout=_default_timeout(timeout),
        key_prefix=prefix,
        ignore_delete_many_errors=bool(ignore),
        serializer=configured_serializer(config["CACHE_SERIALIZER"]),
        memory_threshold=most,
    )


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


def _client_options(arguments: dict[str, Any], kind: str) -> dict[str, Any]:
    """Sort CACHE_OPTIONS, which are redis-py's, to where they belong here."""
    if kind == MEMORY:
        if arguments:
            raise ConfigError(
                f"CACHE_OPTIONS[{next(iter(arguments))!r}] is unknown. Valid ones: "
                "default_timeout, ignore_delete_many_errors, threshold."
            )
        return {}
    if arguments.get("decode_responses"):
        raise ConfigError("CACHE_OPTIONS: decode_responses is not supported.")
    options, client = split_client_arguments(arguments)
    client.pop("decode_responses", None)
    for name in _WITHOUT_EFFECT.intersection(client):
        del client[name]
        _warn_once(f"CACHE_OPTIONS[{name!r}] has no effect with cachebridge")
    if client:
        options["CLIENT_KWARGS"] = client
    return options


def _warn_once(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        _log.warning(text)


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


def _redis_location(config: Mapping[str, Any]) -> str:
    """Return the URL of the server.  The database of a URL goes before that of the key.

    Errors show no password.
    """
    db = _number(config, "CACHE_REDIS_DB")
    url = config["CACHE_REDIS_URL"]
    if not url:
        host = config["CACHE_REDIS_HOST"]
        if not isinstance(host, str) or not host:
            raise ConfigError(
                "CACHE_REDIS_HOST must be the name of a host, not "
                f"{type(host).__name__}; CACHE_REDIS_URL takes a URL."
            )
        port = _number(config, "CACHE_REDIS_PORT")
        password = config["CACHE_REDIS_PASSWORD"]
        user = f":{quote(str(password), safe='')}@" if password else ""
        shown = f"[{host}]" if ":" in host else host
        return f"redis://{user}{shown}:{port}/{db}"
    if not isinstance(url, str):
        raise ConfigError(f"CACHE_REDIS_URL must be a URL, not {type(url).__name__}.")
    scheme, _, rest = url.partition("://")
    if db == 0 or scheme == "memory":
        return url
    address, _, query = rest.partition("?")
    if "db=" in query:
        return url
    if scheme == "unix":
        return f"{url}{'&' if query else '?'}db={db}"
    if urlsplit(url).path.strip("/"):
        return url
    return f"{scheme}://{address.rstrip('/')}/{db}" + (f"?{query}" if query else "")


def _number(config: Mapping[str, Any], name: str) -> int:
    value = config[name]
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ConfigError(f"{name} must be an integer >= 0, not {value!r}.")
