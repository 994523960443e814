"""From a whole Flask-Caching configuration to the settings of one backend."""

from __future__ import annotations

import logging
import math
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cachebridge.checking.checks import did_you_mean, integer, mapping
from cachebridge.config import (
    OPTION_NAMES,
    CacheOptions,
    EngineOptions,
    parse_options,
    warn_once,
)
from cachebridge.counterparts.fates import NO_EFFECT, settle
from cachebridge.counterparts.memcached_settings import CACHELIB_MEMCACHED
from cachebridge.counterparts.redis_settings import CACHELIB_REDIS
from cachebridge.errors import ConfigError
from cachebridge.flask_ext.http.responses import Timeout, whole_seconds
from cachebridge.flask_ext.settings.config import (
    CLUSTER,
    DEFAULTS,
    MEMCACHED,
    MEMORY,
    NOTHING,
    REDIS,
    SENTINEL,
    configured_serializer,
    flag,
)
from cachebridge.flask_ext.settings.locations import (
    cluster_location,
    memcached_location,
    of_cachelib,
    redis_location,
    sentinel_location,
    take_way,
)
from cachebridge.l2.location import without_those_of_url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta

    from cachelib.serializers import BaseSerializer

    from cachebridge.counterparts.fates import Fate

_log = logging.getLogger("cachebridge.flask")

_OF_ALL: Final = ("default_timeout", "ignore_delete_many_errors", "threshold")
_ELSEWHERE: Final = {
    "TIMEOUT": "CACHE_DEFAULT_TIMEOUT",
    "KEY_PREFIX": "CACHE_KEY_PREFIX",
}
"""Options of cachebridge for which Flask-Caching has a key."""
BRIDGE_NAMES: Final = frozenset({"LOCATION", *OPTION_NAMES}) - _ELSEWHERE.keys()
_ROWS: Final[dict[str, Mapping[str, Fate]]] = {
    REDIS: CACHELIB_REDIS,
    MEMCACHED: CACHELIB_MEMCACHED,
    MEMORY: {},
    NOTHING: CACHELIB_REDIS,
}
"""What CACHE_OPTIONS may hold; there they are other clients' arguments."""


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
    """The most keys of a memory store that this backend alone uses."""


def backend_settings(
    config: Mapping[str, Any],
    *,
    kind: str,
    arguments: Sequence[Any] = (),
    options: Mapping[str, Any] | None = None,
) -> BackendSettings:
    """Translate a whole configuration for one backend.

    ``options`` replace CACHE_OPTIONS: Flask-Caching passes them to a backend class.
    Raises ConfigError naming the key that is unusable.
    """
    if arguments:
        raise ConfigError(
            "CACHE_ARGS is not supported: give the keys CACHE_REDIS_*, "
            "CACHE_MEMCACHED_SERVERS or CACHE_THRESHOLD by name."
        )
    extra = _mapping(config, "CACHE_OPTIONS") if options is None else dict(options)
    if str(config["CACHE_TYPE"]).startswith("cachelib."):
        config = {**config, **of_cachelib(config, extra)}
    timeout = extra.pop("default_timeout", config["CACHE_DEFAULT_TIMEOUT"])
    ignore = extra.pop("ignore_delete_many_errors", flag(config, "CACHE_IGNORE_ERRORS"))
    if kind == MEMORY:  # Flask-Caching's older name for it there
        ignore = extra.pop("ignore_errors", ignore)
    threshold = _overriding(config, "CACHE_THRESHOLD", extra, "threshold")
    prefix = _overriding(config, "CACHE_KEY_PREFIX", extra, "key_prefix") or ""
    if not isinstance(prefix, str) and not callable(prefix):
        raise ConfigError(
            f"CACHE_KEY_PREFIX must be a string, or return one, not {prefix!r}."
        )
    bridge = bridge_options(_mapping(config, "CACHE_BRIDGE"))
    location = bridge.pop("LOCATION", None)
    if location is None:
        location = _location_of_several(config, kind, extra, bridge)
    kind = _kind_at(location, kind)
    most = None
    if kind == MEMORY and location is None:
        most = integer(0)("CACHE_THRESHOLD", threshold) or DEFAULTS["CACHE_THRESHOLD"]
        location = "memory://"
    if location is None and kind == MEMCACHED:
        location = memcached_location(config)
        if threshold != DEFAULTS["CACHE_THRESHOLD"]:
            warn_once(
                _log,
                "CACHE_THRESHOLD has no effect on Memcached, which its own memory "
                "bounds; L1_MAX_ENTRIES in CACHE_BRIDGE bounds the level in process",
            )
    location = location or redis_location(config, take_way(config, extra))
    given = _client_options(kind, extra, location)
    if most is not None:
        given.setdefault("L1_MAX_ENTRIES", most)
        given["CLEAR_FLUSHES_DB"] = True  # the store is this backend's alone
    engine_options, cache_options = parse_options(
        {**given, **bridge}, valid=BRIDGE_NAMES
    )
    return BackendSettings(
        location=location,
        engine_options=engine_options,
        cache_options=cache_options,
        default_timeout=_default_timeout(timeout),
        key_prefix=prefix,
        ignore_delete_many_errors=bool(ignore),
        serializer=configured_serializer(config["CACHE_SERIALIZER"]),
        memory_threshold=most,
    )


def _location_of_several(
    config: Mapping[str, Any], kind: str, extra: dict[str, Any], bridge: dict[str, Any]
) -> str | None:
    """Return a URL that names sentinels or nodes; None for the other types."""
    if kind == CLUSTER:
        return cluster_location(config, extra)
    if kind != SENTINEL:
        return None
    location, for_sentinels = sentinel_location(config, extra)
    bridge.setdefault("SENTINEL_KWARGS", for_sentinels)
    return location


def _kind_at(location: object, kind: str) -> str:
    """Return whose arguments CACHE_OPTIONS has: LOCATION overrides CACHE_TYPE."""
    if str(location).startswith("memcached:"):
        return MEMCACHED
    is_other = kind in {MEMCACHED, SENTINEL, CLUSTER}
    return REDIS if is_other and location is not None else kind


def _client_options(
    kind: str, arguments: Mapping[str, Any], location: str
) -> dict[str, Any]:
    """Translate CACHE_OPTIONS, which are arguments of other clients."""
    rows = _ROWS[kind]
    settled = settle(arguments, rows, "CACHE_OPTIONS")
    if rows is not CACHELIB_REDIS:
        for name in settled.unknown:
            valid = sorted({*_OF_ALL, *rows})
            raise ConfigError(
                f"CACHE_OPTIONS[{name!r}] is unknown.{did_you_mean(name, valid)} Valid "
                f"ones: {', '.join(valid)}."
            )
    client = without_those_of_url(
        location, settled.unknown | settled.arguments, "CACHE_OPTIONS"
    )
    return settled.options | ({"CLIENT_KWARGS": client} if client else {})


# -- single keys -----------------------------------------------------------------------


def _mapping(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {} if config[name] is None else mapping(name, config[name])


def _overriding(
    config: Mapping[str, Any], key: str, options: dict[str, Any], name: str
) -> Any:
    """Return a key's value, which overrides the one that it takes out of the options.

    An empty one does not.
    """
    option, value = options.pop(name, None), config[key]
    if option is None or option == value:
        return value
    if value is None or value == "":
        return option
    warn_once(_log, f"CACHE_OPTIONS[{name!r}] {NO_EFFECT}: {key} decides")
    return value


def bridge_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of CACHE_BRIDGE; ConfigError for one that has its own key."""
    for name in options:
        if name in _ELSEWHERE:
            raise ConfigError(
                f"CACHE_BRIDGE[{name!r}] belongs in {_ELSEWHERE[name]}. Valid options: "
                f"{', '.join(sorted(BRIDGE_NAMES))}."
            )
    return dict(options)


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
