"""All options: parsed once into frozen objects; an unknown or unusable one raises.

``docs/options.md`` explains each of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cache
from math import inf, isfinite
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from cachebridge.bounds import MEBIBYTE
from cachebridge.checking.checks import (
    Check,
    boolean,
    choice,
    did_you_mean,
    integer,
    mapping,
    number,
    or_none,
    prefixes,
    text,
    text_or_none,
)
from cachebridge.checking.codecs import (
    COMPRESSORS,
    LEAST_TO_COMPRESS,
    choice_of_extras,
    require_extra,
    secrets,
)
from cachebridge.checking.sizes import SharedL1, shared_l1
from cachebridge.errors import ConfigError
from cachebridge.events import event

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from logging import Logger

T = TypeVar("T")

DEFAULT_EXCLUDE: Final = (
    "django.contrib.sessions.cache",
    "django.contrib.sessions.cached_db",
    "throttle_",
    "rl:",
    "session:",
)
"""Prefixes of keys whose values are read, changed and written back as a whole: sessions
(also of Flask-Session), and throttles of Django REST framework and django-ratelimit."""

POLICY_NAMES: Final = ("s3fifo", "lru", "fifo")
"""Which entries leave L1 when it is full: ``l1/eviction.py`` has the classes."""
MOST_DELAY_MS: Final = 10_000
DJANGO_REDIS_FORMAT: Final = "django-redis"


def _option(default: T, check: Check[T], *, is_shown: bool = True) -> T:
    """Declare an option: its default and its check."""
    return field(default=default, repr=is_shown, metadata={"check": check})


seconds = number("of seconds > 0", lambda value: 0 < value < inf)
_seconds_or_zero = number("of seconds >= 0", lambda value: 0 <= value < inf)
_delay_ms = number(
    f"of milliseconds from 1 to {MOST_DELAY_MS}",
    lambda value: 1 <= value <= MOST_DELAY_MS,
)
_share = number(">= 0 and < 1", lambda value: 0 <= value < 1)
_ratio = number("> 0 and <= 1", lambda value: 0 < value <= 1)
_factor = number(">= 0", lambda value: 0 <= value < inf)
_timeout: Check[Any] = or_none(number("of seconds or None", isfinite))


@cache
def _imported(path: str) -> Any:
    """Return what a dotted path names, made if it can be called: one per process."""
    from importlib import import_module  # noqa: PLC0415 seldom needed

    module, _, name = path.rpartition(".")
    if not module or not all(map(str.isidentifier, path.split("."))):
        # Without the text, which may be a password.
        raise ConfigError(
            "CREDENTIAL_PROVIDER must be a CredentialProvider of redis-py, or the "
            "dotted path of one, or of what makes one, not another text."
        )
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ConfigError(f"CREDENTIAL_PROVIDER {path!r}: {exc}") from exc
    if hasattr(found, "get_credentials") and not isinstance(found, type):
        return found
    return found() if callable(found) else found


def _provider(name: str, value: Any) -> Any:
    found = _imported(value) if isinstance(value, str) else value
    if found is None or callable(getattr(found, "get_credentials", None)):
        return found
    raise ConfigError(
        f"{name} must be a CredentialProvider of redis-py, or the dotted path of one, "
        f"or of what makes one, not {type(found).__name__}."
    )


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Options of an engine: equal for all caches of a process on one server."""

    l1_max_entries: int = _option(10_000, integer(0))
    l1_max_bytes: int = _option(64 * MEBIBYTE, integer(1))
    l1_max_entry_bytes: int = _option(MEBIBYTE, integer(1))
    l1_eviction: str = _option("s3fifo", choice(*POLICY_NAMES))
    l1_ttl: float = _option(60.0, seconds)
    l1_sweep: float = _option(5.0, _seconds_or_zero)
    l1_ttl_ratio: float = _option(0.5, _ratio)
    l1_warm: bool = _option(False, boolean)
    probe_every: int = _option(0, integer(0))
    l1_shared: SharedL1 | None = field(default=None, metadata={"check": shared_l1})
    bus: str = _option("pubsub", choice("pubsub", "none"))
    bus_location: str | None = _option(None, text_or_none, is_shown=False)
    replicas: str = _option("none", choice("none", "near"))
    fleet_ask: bool = _option(True, boolean)
    bus_trust: float = _option(2.0, seconds)
    bus_heartbeat: float = _option(0.5, seconds)
    socket_timeout: float = _option(1.0, seconds)
    socket_connect_timeout: float = _option(0.5, seconds)
    max_connections: int | None = _option(None, or_none(integer(1)))
    breaker_failures: int = _option(3, integer(0))
    breaker_retry: float = _option(1.0, seconds)
    outage_ttl: float = _option(30.0, _seconds_or_zero)
    max_loads: int | None = _option(None, or_none(integer(1)))
    write_behind_ms: float = _option(50.0, _delay_ms)
    client_kwargs: Mapping[str, Any] = field(
        default_factory=dict, repr=False, metadata={"check": mapping}
    )
    credential_provider: Any = field(
        default=None, repr=False, metadata={"check": _provider}
    )
    sentinel_kwargs: Mapping[str, Any] = field(
        default_factory=dict, metadata={"check": mapping}, repr=False
    )

    def differences(self, other: EngineOptions) -> list[str]:
        """Return the names of the options in which the two differ."""
        return [
            each.name.upper()
            for each in fields(self)
            if getattr(self, each.name) != getattr(other, each.name)
        ]


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """Options of one cache (alias): keys, lifetimes, values."""

    timeout: float | None = _option(300.0, _timeout)
    key_prefix: str = _option("", text)
    serializer: str = _option("pickle", choice_of_extras("pickle", "json", "msgpack"))
    compressor: str | None = _option(None, or_none(choice_of_extras(*COMPRESSORS)))
    compress_min_bytes: int = _option(1024, integer(LEAST_TO_COMPRESS))
    write_format: str = _option(
        "cachebridge", choice("cachebridge", DJANGO_REDIS_FORMAT)
    )
    signing_keys: tuple[bytes, ...] = _option((), secrets, is_shown=False)
    signing_accept_unsigned: bool = _option(False, boolean)
    encryption_keys: tuple[bytes, ...] = _option((), secrets, is_shown=False)
    l1_exclude: tuple[str, ...] = _option(DEFAULT_EXCLUDE, prefixes)
    clear_flushes_db: bool = _option(False, boolean)
    on_error: str = _option("degrade", choice("degrade", "raise"))
    lease_ttl: float = _option(5.0, _seconds_or_zero)
    stale_ttl: float = _option(0.0, _seconds_or_zero)
    stale_if_error: float = _option(0.0, _seconds_or_zero)
    negative_ttl: float = _option(0.0, _seconds_or_zero)
    ttl_jitter: float = _option(0.0, _share)
    early_refresh: float = _option(0.0, _factor)


class LoadOverrides(NamedTuple):
    """Options of one load, as ``get_or_load`` takes them; None for the cache's own.

    Not checked yet: ``override_load_options`` does that.
    """

    lease_ttl: float | None = None
    stale_ttl: float | None = None
    stale_if_error: float | None = None
    negative_ttl: float | None = None
    early_refresh: float | None = None


def _checks_of(options: type[EngineOptions | CacheOptions]) -> dict[str, Check[Any]]:
    return {each.name.upper(): each.metadata["check"] for each in fields(options)}


_ENGINE_CHECKS: Final = _checks_of(EngineOptions)
_CHECKS: Final = {**_ENGINE_CHECKS, **_checks_of(CacheOptions)}
OPTION_NAMES: Final = tuple(sorted(_CHECKS))


def by_upper_name(options: dict[str, Any]) -> dict[str, Any]:
    """Return options by their upper-case names; ConfigError if one is given twice."""
    upper: dict[str, Any] = {}
    for name, value in options.items():
        if name.upper() in upper:
            raise ConfigError(f"{name.upper()} is given twice, in both cases.")
        upper[name.upper()] = value
    return upper


def parse_options(
    options: Mapping[str, Any],
    *,
    valid: Iterable[str] = OPTION_NAMES,
    others: Iterable[str] = (),
) -> tuple[EngineOptions, CacheOptions]:
    """Check ``options`` (upper-case names), and return those of the engine and cache.

    Raises ConfigError, which names the option and the ``valid`` names or values of the
    place that they stand in.  ``others`` are names of other backends that may stand
    there, too: for suggestions.
    """
    engine: dict[str, Any] = {}
    cache: dict[str, Any] = {}
    valid = tuple(sorted(valid))
    for name, value in options.items():
        check = _CHECKS.get(name)
        if check is None:
            raise ConfigError(
                f"Unknown option {name!r}.{did_you_mean(name, (*valid, *others))} "
                f"Valid options: {', '.join(valid)}."
            )
        target = engine if name in _ENGINE_CHECKS else cache
        target[name.lower()] = check(name, value)
    engine_options = EngineOptions(**engine)
    _check_together(engine_options)
    cache_options = CacheOptions(**cache)
    _check_sealing(cache_options)
    return engine_options, cache_options


def override_engine_options(
    options: EngineOptions, given: Mapping[str, Any]
) -> EngineOptions:
    """Return ``options`` with those ``given`` by a LOCATION, by upper-case names.

    Raises ConfigError for an unusable value.
    """
    checked = {
        name.lower(): _ENGINE_CHECKS[name](name, value) for name, value in given.items()
    }
    return replace(options, **checked) if checked else options


def override_load_options(
    options: CacheOptions, overrides: LoadOverrides
) -> CacheOptions:
    """Return ``options`` with those of one load; ConfigError for an unusable value."""
    checked = {
        name: _CHECKS[name.upper()](name, value)
        for name, value in overrides._asdict().items()
        if value is not None
    }
    return replace(options, **checked)


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
    if options.l1_shared and not options.l1_max_entries:
        raise ConfigError("L1_SHARED needs an L1: L1_MAX_ENTRIES is 0.")


def _check_sealing(options: CacheOptions) -> None:
    if options.signing_keys and options.encryption_keys:
        raise ConfigError(
            "SIGNING_KEYS and ENCRYPTION_KEYS exclude each other: an encrypted value "
            "cannot be forged, either. Leave SIGNING_KEYS out."
        )
    keys = "ENCRYPTION_KEYS" if options.encryption_keys else "SIGNING_KEYS"
    has_keys = bool(options.signing_keys or options.encryption_keys)
    if options.signing_accept_unsigned and not has_keys:
        raise ConfigError(
            "SIGNING_ACCEPT_UNSIGNED needs SIGNING_KEYS or ENCRYPTION_KEYS: without "
            "them every value is accepted."
        )
    if has_keys and options.write_format == DJANGO_REDIS_FORMAT:
        raise ConfigError(
            f"WRITE_FORMAT = {DJANGO_REDIS_FORMAT!r} and {keys} exclude each other: "
            "django-redis reads no such values."
        )
    if options.encryption_keys:
        require_extra("crypto", "ENCRYPTION_KEYS")


_warned: set[str] = set()


def warn_once(log: Logger, text: str) -> None:
    """Log a warning about an option, once per process."""
    if text not in _warned:
        _warned.add(text)
        log.warning(text, extra=event("option"))
