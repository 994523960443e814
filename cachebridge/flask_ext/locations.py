"""From the ``CACHE_REDIS_*`` and ``CACHE_MEMCACHED_*`` keys to a location.

Errors show no password.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from cachebridge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


def memcached_location(config: Mapping[str, Any]) -> str:
    """Return the URL of all servers; cachelib takes them as a list of texts."""
    for name in ("CACHE_MEMCACHED_USERNAME", "CACHE_MEMCACHED_PASSWORD"):
        if config[name]:
            raise ConfigError(
                f"{name} is not supported: SASL needs Memcached's binary protocol, and "
                "here the text protocol is spoken."
            )
    servers = config["CACHE_MEMCACHED_SERVERS"]
    if servers is None:
        servers = ["127.0.0.1:11211"]
    elif isinstance(servers, str):
        servers = servers.split(",")
    if not isinstance(servers, (list, tuple)) or not servers:
        raise ConfigError(
            "CACHE_MEMCACHED_SERVERS must be a list of servers such as "
            f"'127.0.0.1:11211', not {_shown(servers)}."
        )
    for server in servers:
        if not isinstance(server, str) or "," in server:
            raise ConfigError(
                "CACHE_MEMCACHED_SERVERS: each server must be a text such as "
                f"'127.0.0.1:11211', without a weight, not {_shown(server)}."
            )
    names = [server.strip().removeprefix("memcached://") for server in servers]
    return "memcached://" + ",".join(
        f"unix:{name}" if name.startswith("/") else name.removeprefix("inet:")
        for name in names
    )


def _shown(value: object) -> str:
    is_plain = isinstance(value, (str, tuple, list, int))
    return repr(value) if is_plain else type(value).__name__


def redis_location(config: Mapping[str, Any]) -> str:
    """Return the URL of the server; its database goes before that of the key."""
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
