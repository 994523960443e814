"""From Django's CACHES entry, also of other backends, to cachebridge's options.

Those of PyMemcacheCache are in ``memcached_options.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from cachebridge.config import OPTION_NAMES, split_client_arguments
from cachebridge.django_backend import memcached_options as memcached
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

_OF_REDIS: Final = frozenset(
    {name.upper() for name in _CLIENT_ARGUMENTS}
    | (_IGNORED - {"CULL_FREQUENCY"})
    | {"CONNECTION_POOL_KWARGS", *_HARMLESS, *_REPLACEMENTS}
)
"""What says nothing to Memcached, in any case of letters."""

_warned: set[str] = set()


def translate(options: Mapping[str, Any], location: object) -> dict[str, Any]:
    """Return cachebridge's options for the OPTIONS of a CACHES entry.

    Raises ConfigError for an option that has no counterpart, naming what to do instead.
    """
    translated: dict[str, Any] = {}
    client: dict[str, Any] = {}
    is_memcached = str(location).startswith("memcached:")
    take = _take_of_memcached if is_memcached else _take_of_redis
    for name, value in options.items():
        if not take(name, value, translated, client):
            _take_of_any(name, value, translated)
    if client:
        translated["CLIENT_KWARGS"] = {**client, **translated.get("CLIENT_KWARGS", {})}
    return translated


def _take_of_redis(
    name: str, value: Any, translated: dict[str, Any], client: dict[str, Any]
) -> bool:
    """Translate what other backends for Redis know; tell whether it was that."""
    upper = str(name).upper()
    memcached.refuse_for_redis(name)
    _refuse(name, upper, value)
    if name in _CLIENT_ARGUMENTS or upper in {"USERNAME", "PASSWORD"}:
        client[str(name).lower()] = value
    elif upper == "CONNECTION_POOL_KWARGS":
        client.update(_pool_arguments(value, translated))
    elif upper in _IGNORED or upper in _HARMLESS:
        _warn_once(f"OPTIONS[{name!r}] has no effect with cachebridge")
    else:
        return False
    return True


def _take_of_memcached(
    name: str, value: Any, translated: dict[str, Any], client: dict[str, Any]
) -> bool:
    """The same for those of PyMemcacheCache."""
    upper = str(name).upper()
    memcached.refuse(name, value)
    if upper in _OF_REDIS and name not in memcached.CLIENT_ARGUMENTS:
        raise ConfigError(f"OPTIONS[{name!r}] is for Redis, not for memcached://.")
    if name in memcached.CLIENT_ARGUMENTS:
        client[name] = value
    elif name in memcached.RENAMED:
        if value is not None:
            translated[memcached.RENAMED[name]] = value
    elif name == "ignore_exc":
        translated["ON_ERROR"] = "degrade" if value else "raise"
    elif name in memcached.IGNORED or upper == "CULL_FREQUENCY":
        _warn_once(f"OPTIONS[{name!r}] has no effect with cachebridge")
    else:
        _refuse(name, upper, value)
        return False
    return True


def _take_of_any(name: str, value: Any, translated: dict[str, Any]) -> None:
    upper = str(name).upper()
    if upper == "IGNORE_EXCEPTIONS":
        translated["ON_ERROR"] = "degrade" if value else "raise"
    elif upper == "SERIALIZER":
        translated[upper] = _SERIALIZERS.get(value, value)
    else:
        translated[_RENAMED.get(upper, str(name))] = value


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


def valid_names(location: object) -> tuple[str, ...]:
    """Return what OPTIONS may hold besides cachebridge's own names."""
    is_memcached = str(location).startswith("memcached:")
    others = memcached.VALID if is_memcached else _CLIENT_ARGUMENTS
    return tuple(sorted({"MAX_ENTRIES", *others, *OPTION_NAMES}))


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
