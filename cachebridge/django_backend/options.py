"""From Django's CACHES entry, also of other backends, to cachebridge's options."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from cachebridge.config import OPTION_NAMES, split_client_arguments
from cachebridge.errors import ConfigError

_log = logging.getLogger("cachebridge.django")

DJANGO_PARAMS: Final = (
    "TIMEOUT",
    "KEY_PREFIX",
    "VERSION",
    "KEY_FUNCTION",
    "MAX_ENTRIES",
)
_BESIDE_OPTIONS: Final = frozenset(DJANGO_PARAMS) - {"MAX_ENTRIES"}
_IGNORED: Final = frozenset(
    {"CULL_FREQUENCY", "PARSER_CLASS", "PICKLE_VERSION", "CLOSE_CONNECTION"}
)
"""Without effect here and without harm: ignored, with one warning."""

_HARMLESS: Final = {
    "CLIENT_CLASS": "django_redis.client.DefaultClient",
    "COMPRESSOR": "django_redis.compressors.identity.IdentityCompressor",
    "CONNECTION_FACTORY": "django_redis.pool.ConnectionFactory",
    "CONNECTION_POOL_CLASS": "redis.connection.ConnectionPool",
    "POOL_CLASS": "redis.connection.ConnectionPool",
    "REDIS_CLIENT_CLASS": "redis.client.Redis",
}
"""Ignored with this value, which says what happens anyway; refused with another."""

_SERIALIZERS: Final = {
    "django.core.cache.backends.redis.RedisSerializer": "pickle",
    "django_redis.serializers.pickle.PickleSerializer": "pickle",
    "django_redis.serializers.json.JSONSerializer": "json",
}
_REPLACEMENTS: Final = {
    "REDIS_CLIENT_KWARGS": "give connection arguments in CLIENT_KWARGS",
    "SENTINELS": "Sentinel is not supported yet",
    "SENTINEL_KWARGS": "Sentinel is not supported yet",
    "REPLICA_READ_ONLY": "reads and the subscription must use the same server",
}
_CLIENT_ARGUMENTS: Final = frozenset(
    {
        "client_name",
        "db",
        "password",
        "socket_keepalive",
        "socket_keepalive_options",
        "ssl_ca_certs",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_keyfile",
        "username",
    }
)
"""Options of Django's RedisCache that it hands on to redis-py's connections."""

_RENAMED: Final = {
    "MAX_ENTRIES": "L1_MAX_ENTRIES",
    "SOCKET_TIMEOUT": "SOCKET_TIMEOUT",
    "SOCKET_CONNECT_TIMEOUT": "SOCKET_CONNECT_TIMEOUT",
    "MAX_CONNECTIONS": "MAX_CONNECTIONS",
}
"""Counterparts, also in the lower case of Django's RedisCache."""

_warned: set[str] = set()


def translate(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return cachebridge's options for the OPTIONS of a CACHES entry.

    Raises ConfigError for an option that has no counterpart, naming what to do instead.
    """
    translated: dict[str, Any] = {}
    client: dict[str, Any] = {}
    for name, value in options.items():
        upper = str(name).upper()
        _refuse(name, upper, value)
        if name in _CLIENT_ARGUMENTS or upper in {"USERNAME", "PASSWORD"}:
            client[str(name).lower()] = value
        elif upper == "CONNECTION_POOL_KWARGS":
            client.update(_pool_arguments(value, translated))
        elif upper in _IGNORED or upper in _HARMLESS:
            _warn_once(f"OPTIONS[{name!r}] has no effect with cachebridge")
        elif upper == "IGNORE_EXCEPTIONS":
            translated["ON_ERROR"] = "degrade" if value else "raise"
        elif upper == "SERIALIZER":
            translated[upper] = _SERIALIZERS.get(value, value)
        else:
            translated[_RENAMED.get(upper, str(name))] = value
    if client:
        translated["CLIENT_KWARGS"] = {**client, **translated.get("CLIENT_KWARGS", {})}
    return translated


def _refuse(name: object, upper: str, value: Any) -> None:
    """Raise ConfigError for what cannot be translated."""
    if upper in _BESIDE_OPTIONS:
        raise ConfigError(f"{upper} belongs beside OPTIONS, not into it.")
    if upper in _REPLACEMENTS:
        raise ConfigError(
            f"OPTIONS[{name!r}] is not supported: {_REPLACEMENTS[upper]}."
        )
    if upper in _HARMLESS and value != _HARMLESS[upper]:
        raise ConfigError(
            f"OPTIONS[{name!r}] = {value!r} is not supported; only "
            f"{_HARMLESS[upper]!r} is."
        )


def valid_names() -> tuple[str, ...]:
    """Return what OPTIONS may hold besides cachebridge's own names."""
    return tuple(sorted({"MAX_ENTRIES", *_CLIENT_ARGUMENTS, *OPTION_NAMES}))


def _pool_arguments(value: Any, translated: dict[str, Any]) -> dict[str, Any]:
    """Sort django-redis's CONNECTION_POOL_KWARGS to where they belong here."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"CONNECTION_POOL_KWARGS must be a dict, not {value!r}.")
    options, arguments = split_client_arguments(value)
    translated.update(options)
    arguments.pop("retry_on_timeout", None)
    return arguments


def _warn_once(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        _log.warning(text)
