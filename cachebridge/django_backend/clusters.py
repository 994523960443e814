"""Other backends' ways to name the nodes of a cluster, translated to a URL of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from cachebridge.counterparts.cluster_settings import CLUSTER_CLASSES, NODES
from cachebridge.counterparts.fates import path_of
from cachebridge.errors import ConfigError
from cachebridge.l2.cluster_url import FORM
from cachebridge.l2.sentinel import as_hosts

_POOL: Final = "CONNECTION_POOL_KWARGS"
_GROUPS: Final = (_POOL, "REDIS_CLIENT_KWARGS", "BASE_CLIENT_KWARGS")
"""With RedisCluster all are arguments of connections; a later one wins."""
_WITH_TLS: Final = {"redis": "rediss", "valkey": "valkeys"}
_SCHEMES: Final = frozenset({*_WITH_TLS, *_WITH_TLS.values()})


def with_nodes(
    location: Any, options: Mapping[str, Any]
) -> tuple[Any, Mapping[str, Any]]:
    """Return a LOCATION that names the nodes, and OPTIONS without what says so.

    For other entries both are returned as they are.  Raises ConfigError.
    """
    rest = {
        name: value
        for name, value in options.items()
        if path_of(value) not in CLUSTER_CLASSES
    }
    arguments: dict[str, Any] = {}
    for group in _GROUPS:
        for name in [each for each in rest if str(each).upper() == group]:
            if isinstance(rest[name], Mapping):
                arguments |= rest.pop(name)
    for name in [each for each in rest if str(each).lower() == NODES]:
        arguments[NODES] = rest.pop(name)
    is_told = any(path_of(value) in CLUSTER_CLASSES for value in options.values())
    if not (is_told or NODES in arguments):
        return location, options
    named = arguments.pop(NODES, None)
    is_tls = bool(arguments.pop("ssl", False))
    if arguments:
        rest[_POOL] = arguments
    scheme, _, _ = str(location).partition("://")
    if scheme.endswith(FORM) and named is None:
        return location, rest
    return _url_of(_urls(location), [] if named is None else named, is_tls=is_tls), rest


def _urls(location: Any) -> list[str]:
    """Return the URLs of a list, or of a text that holds several."""
    if isinstance(location, (list, tuple)):
        return [str(each).strip() for each in location]
    return re.split(r"[,; ]+(?=\w+://)", str(location))


def _url_of(urls: list[str], named: Any, *, is_tls: bool) -> str:
    """Return one URL for all nodes; login and query are those of the first."""
    schemes = {url.partition("://")[0] for url in urls}
    if len(schemes) != 1 or not schemes <= _SCHEMES:
        raise ConfigError(
            "LOCATION must be the URL of a node, such as redis://host:6379, or a list "
            f"of such URLs with one scheme: OPTIONS are those of a cluster. Or write "
            f"redis{FORM}://host:6379,host2:6379."
        )
    (scheme,) = schemes
    parts = [urlsplit(url) for url in urls]
    user, at, _ = parts[0].netloc.rpartition("@")
    hosts = dict.fromkeys(part.netloc.rpartition("@")[2] for part in parts)
    if named:
        hosts |= dict.fromkeys(as_hosts(NODES, _pairs(named)).split(","))
    scheme = _WITH_TLS.get(scheme, scheme) if is_tls else scheme
    query = f"?{parts[0].query}" if parts[0].query else ""
    return f"{scheme}{FORM}://{user}{at}{','.join(hosts)}{parts[0].path}{query}"


def _pairs(nodes: Any) -> Any:
    """Return nodes, dicts or redis-py's ClusterNodes, as pairs of host and port."""
    if not isinstance(nodes, (list, tuple)):
        return nodes
    return [
        (each.get("host"), each.get("port"))
        if isinstance(each, Mapping)
        else (getattr(each, "host", None), getattr(each, "port", None))
        for each in nodes
    ]
