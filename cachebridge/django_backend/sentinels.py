"""django-redis's way to name sentinels, translated to a URL of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from cachebridge.counterparts.fates import path_of
from cachebridge.errors import ConfigError
from cachebridge.l2.sentinel import FORM, as_hosts

if TYPE_CHECKING:
    from collections.abc import Mapping

_CLASSES: Final = frozenset(
    {
        "django_redis.client.SentinelClient",
        "django_redis.client.sentinel.SentinelClient",
        "django_redis.pool.SentinelConnectionFactory",
        "redis.sentinel.SentinelConnectionPool",
    }
)
"""Values of options that say that sentinels are used."""


def with_sentinels(
    location: Any, options: Mapping[str, Any]
) -> tuple[Any, Mapping[str, Any]]:
    """Return a LOCATION that names the sentinels, and OPTIONS without them.

    For other entries both are returned as they are.  Raises ConfigError.
    """
    rest = {
        name: value for name, value in options.items() if path_of(value) not in _CLASSES
    }
    named = next((name for name in rest if str(name).upper() == "SENTINELS"), None)
    if named is None:
        for name in options.keys() - rest.keys():
            if FORM not in str(location):
                raise ConfigError(
                    f"OPTIONS[{name!r}] is for Sentinel: give OPTIONS['SENTINELS'], or "
                    "the LOCATION redis+sentinel://host:26379/name/0."
                )
        return location, rest
    # A list has the URLs of the master and of the replicas; nothing is read from these.
    is_list = isinstance(location, (list, tuple)) and location
    first = str(location[0] if is_list else location)
    if first.startswith("memcached:"):
        return location, options
    hosts = as_hosts(f"OPTIONS[{named!r}]", rest.pop(named))
    scheme, _, _ = first.partition("://")
    if scheme not in {"redis", "rediss", "valkey", "valkeys"}:
        raise ConfigError(
            f"With OPTIONS[{named!r}] the LOCATION is redis://name/0, where 'name' is "
            f"that of the master; not {scheme}://."
        )
    url = urlsplit(first)
    user, at, name = url.netloc.rpartition("@")
    given = parse_qsl(url.query, keep_blank_values=True)
    query = urlencode([each for each in given if each[0] != "is_master"])
    master = f"{name.partition(':')[0]}/{url.path.strip('/')}"
    # There the sentinels are spoken to without TLS unless SENTINEL_KWARGS say so.
    rest["SENTINEL_KWARGS"] = {"ssl": False, **(rest.get("SENTINEL_KWARGS") or {})}
    asked = f"?{query}" if query else ""
    return f"{scheme}{FORM}://{user}{at}{hosts}/{master}{asked}", rest
