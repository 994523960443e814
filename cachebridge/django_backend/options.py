"""Translates an entry of CACHES, also of another backend, to our options.

The tables of ``cachebridge.counterparts`` say what each setting means.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings

from cachebridge.checking.checks import did_you_mean
from cachebridge.codec.values import PickleSerializer
from cachebridge.config import OPTION_NAMES, warn_once
from cachebridge.counterparts.fates import NO_EFFECT, settle
from cachebridge.counterparts.memcached_settings import PYMEMCACHE
from cachebridge.counterparts.redis_settings import (
    BESIDE_OPTIONS,
    DJANGO_JSON,
    DJANGO_REDIS,
    DJANGO_SETTINGS,
    PICKLE_PROTOCOL,
    REDIS_PY,
)
from cachebridge.django_backend.serializers import DjangoJsonSerializer
from cachebridge.errors import ConfigError
from cachebridge.l2.location import without_those_of_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cachebridge.codec.values import Serializer
    from cachebridge.counterparts.fates import Fate

_log = logging.getLogger("cachebridge.django")

_READ_BY_DJANGO: Final = frozenset({"TIMEOUT", "KEY_PREFIX", "VERSION", "KEY_FUNCTION"})
_BESIDE: Final = _READ_BY_DJANGO | {"timeout", "OPTIONS", *BESIDE_OPTIONS}
VALID: Final = frozenset(OPTION_NAMES) - _READ_BY_DJANGO
"""Our own names that OPTIONS may hold."""
_FOR_REDIS: Final[dict[str, Fate]] = {**REDIS_PY, **DJANGO_REDIS}
_DJANGO_JSON: Final = DjangoJsonSerializer()
_KEYED: Final = ("SIGNING_KEYS", "ENCRYPTION_KEYS")
DJANGO_KEYS: Final = "django"
"""Stands for Django's SECRET_KEY, and for SECRET_KEY_FALLBACKS."""
_pickles: dict[int, Serializer] = {}


def rows_for(location: object) -> Mapping[str, Fate]:
    """Return the table for the OPTIONS of an entry."""
    return PYMEMCACHE if _is_memcached(location) else _FOR_REDIS


def translate(
    params: Mapping[str, Any], location: object
) -> tuple[dict[str, Any], Serializer | None]:
    """Return cachebridge's options for an entry, and its serializer unless it is ours.

    Raises ConfigError for a setting without a counterpart; its text says what to do.
    """
    beside = _settle_beside(params)
    given = params.get("OPTIONS") or {}
    for name in given:
        _require_place(name, location)
    settled = settle(given, rows_for(location), "OPTIONS")
    of_all = _settle_settings(location)
    options = {**of_all, **beside, **settled.options, **settled.unknown}
    for name in _KEYED:
        if options.get(name) == DJANGO_KEYS:
            options[name] = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    arguments = without_those_of_url(location, settled.arguments, "OPTIONS")
    if arguments:
        options["CLIENT_KWARGS"] = {**arguments, **options.get("CLIENT_KWARGS", {})}
    return options, _take_serializer(options)


def _settle_beside(params: Mapping[str, Any]) -> dict[str, Any]:
    """Settle what stands beside OPTIONS, where Django ignores what it does not know."""
    for name in params.keys() - _BESIDE:
        hint = did_you_mean(name, filter(str.isupper, _BESIDE))
        if str(name).upper() in {*OPTION_NAMES, *DJANGO_REDIS}:
            raise ConfigError(f"{name} belongs into OPTIONS, not beside it.")
        warn_once(_log, f"{name!r} beside OPTIONS {NO_EFFECT}.{hint}")
    _check_timeout(params.get("timeout", params.get("TIMEOUT", 300)))
    rest = {name: params[name] for name in params if name in BESIDE_OPTIONS}
    return settle(rest, BESIDE_OPTIONS, lambda name: f"{name} beside OPTIONS").options


def _check_timeout(value: Any) -> None:
    """Raise ConfigError for a TIMEOUT that Django would silently take for 300."""
    try:
        _ = None if value is None else int(value)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(
            f"TIMEOUT must be a number of seconds or None, not {value!r}."
        ) from None


def _settle_settings(location: object) -> dict[str, Any]:
    """Settle what django-redis takes from settings beside CACHES."""
    if _is_memcached(location):
        return {}
    given = {
        name: getattr(settings, name)
        for name in DJANGO_SETTINGS
        if hasattr(settings, name)
    }
    return settle(given, DJANGO_SETTINGS, str).options


def _require_place(name: object, location: object) -> None:
    """Raise ConfigError for an option that belongs to another place."""
    upper = str(name).upper()
    if name not in rows_for(location) and upper in _READ_BY_DJANGO:
        raise ConfigError(f"{upper} belongs beside OPTIONS, not into it.")
    if name in OPTION_NAMES or {name, upper} & rows_for(location).keys():
        return
    if _is_memcached(location) and {name, upper} & _FOR_REDIS.keys():
        raise ConfigError(f"OPTIONS[{name!r}] is for Redis, not for memcached://.")
    if name in PYMEMCACHE:
        raise ConfigError(
            f"OPTIONS[{name!r}] is pymemcache's: it is for memcached:// alone."
        )


def _take_serializer(options: dict[str, Any]) -> Serializer | None:
    """Take the serializer that is not one of ours out of the options."""
    protocol = options.pop(PICKLE_PROTOCOL, None)
    if options.get("SERIALIZER") == DJANGO_JSON:
        options["SERIALIZER"] = "json"
        return _DJANGO_JSON
    if protocol is None or options.get("SERIALIZER", "pickle") != "pickle":
        return None
    # One object for equal protocols: values in L1 belong to a serializer.
    return _pickles.setdefault(protocol, PickleSerializer(protocol))


def _is_memcached(location: object) -> bool:
    return str(location).startswith("memcached:")
