"""From ``CACHE_OPTIONS``, which are arguments of other clients, to options of ours."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from cachebridge.config import split_client_arguments
from cachebridge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_log = logging.getLogger("cachebridge.flask")

_REDIS_WITHOUT_EFFECT: Final = frozenset(
    {
        "check_connection",
        "health_check_interval",
        "retry",
        "retry_on_error",
        "retry_on_timeout",
        "single_connection_client",
    }
)
_MEMCACHED_WITHOUT_EFFECT: Final = frozenset(
    {"check_connection", "memcache_client_lib", "pool_blocking"}
)
_OF_CONNECTIONS: Final = ("no_delay", "socket_keepalive", "tls_context")
_OF_ALL: Final = ("default_timeout", "ignore_delete_many_errors", "threshold")

_warned: set[str] = set()


def simple_options(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Translate those of SimpleCache: there are none."""
    if arguments:
        raise _unknown(arguments, _OF_ALL)
    return {}


def redis_options(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Translate those of RedisCache, which are redis-py's."""
    if arguments.get("decode_responses"):
        raise ConfigError("CACHE_OPTIONS: decode_responses is not supported.")
    options, client = split_client_arguments(arguments)
    client.pop("decode_responses", None)
    client = _without(_REDIS_WITHOUT_EFFECT, client)
    if client:
        options["CLIENT_KWARGS"] = client
    return options


def memcached_options(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Translate those of cachelib's MemcachedCache, and pymemcache's of connections."""
    given = _without(_MEMCACHED_WITHOUT_EFFECT, arguments)
    options: dict[str, Any] = {}
    if "pool_size" in given:
        options["MAX_CONNECTIONS"] = given.pop("pool_size")
    client = {name: given.pop(name) for name in _OF_CONNECTIONS if name in given}
    if given:
        raise _unknown(given, (*_OF_ALL, *_OF_CONNECTIONS, "pool_size"))
    if client:
        options["CLIENT_KWARGS"] = client
    return options


def _without(names: Iterable[str], arguments: Mapping[str, Any]) -> dict[str, Any]:
    rest = dict(arguments)
    for name in names:
        if name in rest:
            del rest[name]
            warn_once(f"CACHE_OPTIONS[{name!r}] has no effect with cachebridge")
    return rest


def _unknown(arguments: Mapping[str, Any], valid: Iterable[str]) -> ConfigError:
    return ConfigError(
        f"CACHE_OPTIONS[{next(iter(arguments))!r}] is unknown. Valid ones: "
        f"{', '.join(sorted(valid))}."
    )


def warn_once(text: str) -> None:
    """Log a warning, however many backends are made."""
    if text not in _warned:
        _warned.add(text)
        _log.warning(text)
