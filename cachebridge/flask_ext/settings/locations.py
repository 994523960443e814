"""From the ``CACHE_REDIS_*`` and ``CACHE_MEMCACHED_*`` keys to a location.

Errors contain no password.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, urlsplit

from cachebridge.checking.checks import integer
from cachebridge.config import warn_once
from cachebridge.counterparts.fates import NO_EFFECT
from cachebridge.errors import ConfigError
from cachebridge.flask_ext.settings.config import DEFAULTS
from cachebridge.l2 import cluster_url
from cachebridge.l2.sentinel import FORM, PORT, as_hosts

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger("cachebridge.flask")


def memcached_location(config: Mapping[str, Any]) -> str:
    """Return one URL for all servers, of which cachelib has a list of strings."""
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
            f"'127.0.0.1:11211', not {type(servers).__name__}."
        )
    for server in servers:
        if not isinstance(server, str) or "," in server:
            raise ConfigError(
                "CACHE_MEMCACHED_SERVERS: each server must be a text such as "
                f"'127.0.0.1:11211', without a weight, not {type(server).__name__}."
            )
    names = [server.strip().removeprefix("memcached://") for server in servers]
    return "memcached://" + ",".join(
        f"unix:{name}" if name.startswith("/") else name.removeprefix("inet:")
        for name in names
    )


def sentinel_location(
    config: Mapping[str, Any], arguments: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Return the URL for RedisSentinelCache, and SENTINEL_KWARGS.

    Takes these out of redis-py's ``arguments``, where Flask-Caching begins their names
    with ``sentinel_``.
    """
    sentinels = config["CACHE_REDIS_SENTINELS"] or [("127.0.0.1", PORT)]
    hosts = as_hosts("CACHE_REDIS_SENTINELS", sentinels)
    master = config["CACHE_REDIS_SENTINEL_MASTER"]
    if not isinstance(master, str) or not master:
        raise ConfigError("CACHE_REDIS_SENTINEL_MASTER must be the master's name.")
    way = take_way({**config, "CACHE_REDIS_URL": None}, arguments)
    scheme = "rediss" if way.is_tls else "redis"
    for_sentinels = {"ssl": False, "password": config["CACHE_REDIS_SENTINEL_PASSWORD"]}
    for name in [each for each in arguments if each.startswith("sentinel_")]:
        for_sentinels[name.removeprefix("sentinel_")] = arguments.pop(name)
    user = _login(config)
    db = _number(config, "CACHE_REDIS_DB")
    url = f"{scheme}{FORM}://{user}{hosts}/{quote(master, safe='')}/{db}"
    return url, for_sentinels


def cluster_location(config: Mapping[str, Any], arguments: dict[str, Any]) -> str:
    """Return the URL for RedisClusterCache; takes the way out of ``arguments``.

    As with Flask-Caching CACHE_REDIS_URL, of one node, overrides CACHE_REDIS_CLUSTER.
    """
    if _number(config, "CACHE_REDIS_DB"):
        warn_once(_log, f"CACHE_REDIS_DB {NO_EFFECT}: a cluster has database 0 alone")
    if config["CACHE_REDIS_URL"]:
        url = redis_location({**config, "CACHE_REDIS_DB": 0})
        scheme, _, rest = url.partition("://")
        form = "" if "+" in scheme else cluster_url.FORM
        return f"{scheme}{form}://{rest}"
    nodes = config["CACHE_REDIS_CLUSTER"]
    if not isinstance(nodes, str) or not nodes or "@" in nodes or "/" in nodes:
        # Without the value: it may be a URL with a password.
        raise ConfigError(
            "CACHE_REDIS_CLUSTER must name nodes: 'host:6379,host2:6379'; their "
            "password is CACHE_REDIS_PASSWORD."
        )
    scheme = "rediss" if take_way(config, arguments).is_tls else "redis"
    hosts = ",".join(each.strip() for each in nodes.split(","))
    return f"{scheme}{cluster_url.FORM}://{_login(config)}{hosts}"


_OF_CACHELIB: Final = {
    "CACHE_REDIS_URL": None,
    "CACHE_REDIS_HOST": "host",
    "CACHE_REDIS_PORT": "port",
    "CACHE_REDIS_PASSWORD": "password",
    "CACHE_REDIS_DB": "db",
    "CACHE_MEMCACHED_SERVERS": "servers",
    "CACHE_THRESHOLD": "threshold",
    "CACHE_KEY_PREFIX": "key_prefix",
}
"""By Flask-Caching's keys what cachelib's own classes take instead."""


def of_cachelib(config: Mapping[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Take what names server and keys out of CACHE_OPTIONS.

    Flask-Caching gives nothing else to a class of cachelib's own.
    """
    taken: dict[str, Any] = {}
    for key, name in _OF_CACHELIB.items():
        if config[key] != DEFAULTS[key]:
            warn_once(
                _log,
                f"{key} {NO_EFFECT}: CACHE_TYPE is a class of cachelib's own, which "
                "takes CACHE_OPTIONS alone",
            )
        default = "" if key == "CACHE_KEY_PREFIX" else DEFAULTS[key]
        taken[key] = options.pop(name, default) if name else None
    return taken


class Way(NamedTuple):
    """What CACHE_OPTIONS say about the way to the server."""

    is_tls: bool = False
    path: str | None = None


def take_way(config: Mapping[str, Any], options: dict[str, Any]) -> Way:
    """Take the way to the server out of CACHE_OPTIONS; with a URL it says all.

    As in redis-py, arguments of TLS count only beside ``ssl``.
    """
    if config["CACHE_REDIS_URL"]:
        return Way()
    way = Way(bool(options.pop("ssl", False)), options.pop("unix_socket_path", None))
    if not way.is_tls:
        for name in [each for each in options if each.startswith("ssl_")]:
            del options[name]
            warn_once(_log, f"CACHE_OPTIONS[{name!r}] {NO_EFFECT}: it is for ssl=True")
    return way


def redis_location(config: Mapping[str, Any], way: Way | None = None) -> str:
    """Return the URL of the server; its database overrides CACHE_REDIS_DB."""
    db = _number(config, "CACHE_REDIS_DB")
    url = config["CACHE_REDIS_URL"]
    if not url:
        return _url_of_parts(config, db, way or Way())
    if not isinstance(url, str):
        raise ConfigError(f"CACHE_REDIS_URL must be a URL, not {type(url).__name__}.")
    for name in ("CACHE_REDIS_HOST", "CACHE_REDIS_PORT", "CACHE_REDIS_PASSWORD"):
        if config[name] != DEFAULTS[name]:
            warn_once(_log, f"{name} {NO_EFFECT}: CACHE_REDIS_URL decides")
    scheme, _, rest = url.partition("://")
    if db == 0 or scheme == "memory":
        return url
    address, _, query = rest.partition("?")
    if "db=" in query:
        return url
    if scheme == "unix":
        return f"{url}{'&' if query else '?'}db={db}"
    # With sentinels the name of the master comes first.
    names = [each for each in urlsplit(url).path.split("/") if each]
    if len(names) != (FORM in scheme):
        return url
    return f"{scheme}://{address.rstrip('/')}/{db}" + (f"?{query}" if query else "")


def _url_of_parts(config: Mapping[str, Any], db: int, way: Way) -> str:
    host = config["CACHE_REDIS_HOST"]
    if not isinstance(host, str) or not host:
        raise ConfigError(
            "CACHE_REDIS_HOST must be the name of a host, not "
            f"{type(host).__name__}; CACHE_REDIS_URL takes a URL."
        )
    port = _number(config, "CACHE_REDIS_PORT")
    user = _login(config)
    if way.path:
        return f"unix://{user}{quote(way.path)}?db={db}"
    shown = f"[{host}]" if ":" in host else host
    return f"{'rediss' if way.is_tls else 'redis'}://{user}{shown}:{port}/{db}"


def _login(config: Mapping[str, Any]) -> str:
    """Return the password as a URL has it; it may be text or bytes."""
    password = config["CACHE_REDIS_PASSWORD"]
    if not password:
        return ""
    text = password if isinstance(password, bytes) else str(password)
    return f":{quote(text, safe='')}@"


def _number(config: Mapping[str, Any], name: str) -> int:
    value = config[name]
    if not isinstance(value, str):
        return integer(0)(name, value)
    if not value.isdecimal():  # without the value: two settings may be mixed up
        raise ConfigError(f"{name} must be an integer >= 0, not another text.")
    return int(value)
