"""All options: parsed once into frozen objects; what is unknown or unusable raises.

``docs/options.md`` explains each of them; the names are the only list there is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from math import isfinite
from typing import Any, Final

from cachebridge.errors import ConfigError

DEFAULT_EXCLUDE: Final = (
    "django.contrib.sessions.cache",
    "django.contrib.sessions.cached_db",
    "throttle_",
    "rl:",
    "session:",
)
"""Prefixes of keys that are read, modified and written back as a whole: sessions, also
those of Flask-Session, and the throttles of Django REST framework and
django-ratelimit."""

MEBIBYTE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What belongs to an engine: equal for all caches of a process on one server."""

    l1_max_entries: int = 10_000
    l1_max_bytes: int = 64 * MEBIBYTE
    l1_max_entry_bytes: int = MEBIBYTE
    l1_ttl: float = 60.0
    l1_ttl_ratio: float = 0.5
    l1_eviction: str = "lru"
    bus: str = "pubsub"
    bus_location: str | None = field(default=None, repr=False)
    bus_trust: float = 2.0
    bus_heartbeat: float = 0.5
    socket_timeout: float = 1.0
    socket_connect_timeout: float = 0.5
    max_connections: int | None = None
    breaker_failures: int = 3
    breaker_retry: float = 1.0
    outage_ttl: float = 30.0
    max_loads: int | None = None
    client_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def differences(self, other: EngineOptions) -> list[str]:
        """Name the options in which the two differ."""
        return [
            each.name.upper()
            for each in fields(self)
            if getattr(self, each.name) != getattr(other, each.name)
        ]


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """What belongs to one cache (alias): keys, lifetimes, values."""

    timeout: float | None = 300.0
    key_prefix: str = ""
    serializer: str = "pickle"
    l1_exclude: tuple[str, ...] = DEFAULT_EXCLUDE
    clear_flushes_db: bool = False
    on_error: str = "degrade"
    lease_ttl: float = 5.0
    stale_ttl: float = 0.0
    stale_if_error: float = 0.0
    negative_ttl: float = 0.0
    ttl_jitter: float = 0.0
    early_refresh: float = 0.0


def parse_options(
    options: Mapping[str, Any], *, also_valid: tuple[str, ...] = ()
) -> tuple[EngineOptions, CacheOptions]:
    """Check ``options`` (upper-case names) and sort them to where they belong.

    Raises ConfigError naming the option and the valid names or values; ``also_valid``
    are names that the caller has taken out before and that the error should list.
    """
    engine: dict[str, Any] = {}
    cache: dict[str, Any] = {}
    for name, value in options.items():
        check = _CHECKS.get(name)
        if check is None:
            raise ConfigError(_unknown(name, also_valid))
        target = engine if name.lower() in _ENGINE_FIELDS else cache
        target[name.lower()] = check(name, value)
    engine_options = EngineOptions(**engine)
    _check_together(engine_options)
    return engine_options, CacheOptions(**cache)


def override_load_options(
    options: CacheOptions, overrides: Mapping[str, Any]
) -> CacheOptions:
    """Return the options with those of one load; ConfigError for an unusable value."""
    checked = {
        name: _CHECKS[name.upper()](name, value) for name, value in overrides.items()
    }
    return replace(options, **checked)


_CLIENT_OPTIONS: Final = {
    "max_connections": "MAX_CONNECTIONS",
    "socket_connect_timeout": "SOCKET_CONNECT_TIMEOUT",
    "socket_timeout": "SOCKET_TIMEOUT",
}
"""Arguments of redis-py's clients and pools that are options here."""


def split_client_arguments(
    arguments: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sort redis-py's arguments: options of ours, and the rest, for connections.

    A None of the former leaves the default.
    """
    options = {
        _CLIENT_OPTIONS[name]: value
        for name, value in arguments.items()
        if name in _CLIENT_OPTIONS and value is not None
    }
    rest = {
        name: value for name, value in arguments.items() if name not in _CLIENT_OPTIONS
    }
    return options, rest


def _unknown(name: object, also_valid: tuple[str, ...]) -> str:
    valid = sorted({*_CHECKS, *also_valid})
    near = get_close_matches(str(name).upper(), valid, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"Unknown option {name!r}.{hint} Valid options: {', '.join(valid)}."


def _check_together(options: EngineOptions) -> None:
    if options.bus_heartbeat * 2 > options.bus_trust:
        raise ConfigError(
            f"BUS_HEARTBEAT is {options.bus_heartbeat} s and BUS_TRUST "
            f"{options.bus_trust} s: trust must last at least two heartbeats."
        )
    if options.l1_max_entry_bytes > options.l1_max_bytes:
        raise ConfigError(
            f"L1_MAX_ENTRY_BYTES ({options.l1_max_entry_bytes}) is larger than "
            f"L1_MAX_BYTES ({options.l1_max_bytes})."
        )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _integer(least: int) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        raise ConfigError(f"{name} must be an integer >= {least}, not {value!r}.")

    return check


def _integer_or_none(least: int) -> Callable[[str, Any], int | None]:
    integer = _integer(least)

    def check(name: str, value: Any) -> int | None:
        return None if value is None else integer(name, value)

    return check


def _seconds(name: str, value: Any) -> float:
    if _is_number(value) and 0 < value < float("inf"):
        return float(value)
    raise ConfigError(f"{name} must be a number of seconds > 0, not {value!r}.")


def _seconds_or_zero(name: str, value: Any) -> float:
    if _is_number(value) and 0 <= value < float("inf"):
        return float(value)
    raise ConfigError(f"{name} must be a number of seconds >= 0, not {value!r}.")


def _share(name: str, value: Any) -> float:
    if _is_number(value) and 0 <= value < 1:
        return float(value)
    raise ConfigError(f"{name} must be a number >= 0 and < 1, not {value!r}.")


def _factor(name: str, value: Any) -> float:
    if _is_number(value) and 0 <= value < float("inf"):
        return float(value)
    raise ConfigError(f"{name} must be a number >= 0, not {value!r}.")


def _ratio(name: str, value: Any) -> float:
    if _is_number(value) and 0 < value <= 1:
        return float(value)
    raise ConfigError(f"{name} must be a number > 0 and <= 1, not {value!r}.")


def _timeout(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if _is_number(value) and isfinite(value):
        return float(value)
    raise ConfigError(f"{name} must be a number of seconds or None, not {value!r}.")


def _choice(*valid: str) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if value in valid:
            return str(value)
        names = " or ".join(map(repr, valid))
        raise ConfigError(f"{name} must be {names}, not {value!r}.")

    return check


def _boolean(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ConfigError(f"{name} must be True or False, not {value!r}.")


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ConfigError(f"{name} must be a string, not {value!r}.")


def _text_or_none(name: str, value: Any) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    # Without the value, which may hold a password.
    raise ConfigError(f"{name} must be a URL or None, not {type(value).__name__}.")


def _prefixes(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, (list, tuple, set, frozenset)) and all(
        isinstance(item, str) and item for item in value
    ):
        return tuple(value)
    raise ConfigError(f"{name} must be a list of non-empty strings, not {value!r}.")


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    # Without the value, which may hold a password.
    raise ConfigError(f"{name} must be a dict, not {type(value).__name__}.")


_ENGINE_FIELDS: Final = frozenset(each.name for each in fields(EngineOptions))
_CHECKS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "L1_MAX_ENTRIES": _integer(0),
    "L1_MAX_BYTES": _integer(1),
    "L1_MAX_ENTRY_BYTES": _integer(1),
    "L1_TTL": _seconds,
    "L1_TTL_RATIO": _ratio,
    "L1_EVICTION": _choice("lru"),
    "L1_EXCLUDE": _prefixes,
    "BUS": _choice("pubsub", "none"),
    "BUS_LOCATION": _text_or_none,
    "BUS_TRUST": _seconds,
    "BUS_HEARTBEAT": _seconds,
    "SOCKET_TIMEOUT": _seconds,
    "SOCKET_CONNECT_TIMEOUT": _seconds,
    "MAX_CONNECTIONS": _integer_or_none(1),
    "CLIENT_KWARGS": _mapping,
    "BREAKER_FAILURES": _integer(0),
    "BREAKER_RETRY": _seconds,
    "OUTAGE_TTL": _seconds_or_zero,
    "MAX_LOADS": _integer_or_none(1),
    "ON_ERROR": _choice("degrade", "raise"),
    "LEASE_TTL": _seconds_or_zero,
    "STALE_TTL": _seconds_or_zero,
    "STALE_IF_ERROR": _seconds_or_zero,
    "NEGATIVE_TTL": _seconds_or_zero,
    "TTL_JITTER": _share,
    "EARLY_REFRESH": _factor,
    "SERIALIZER": _choice("pickle", "json"),
    "TIMEOUT": _timeout,
    "KEY_PREFIX": _text,
    "CLEAR_FLUSHES_DB": _boolean,
}
OPTION_NAMES: Final = tuple(sorted(_CHECKS))
