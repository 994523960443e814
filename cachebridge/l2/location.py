"""LOCATION: which server and database, and how to connect to it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from redis.backoff import NoBackoff
from redis.connection import Connection, parse_url
from redis.retry import Retry

from cachebridge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.config import EngineOptions

REDIS_SCHEMES: Final = ("redis", "rediss", "unix")
SCHEMES: Final = (*REDIS_SCHEMES, "memory")
_RESERVED_KWARGS: Final = frozenset(
    {
        "protocol",
        "retry",
        "retry_on_timeout",
        "retry_on_error",
        "health_check_interval",
        "socket_timeout",
        "socket_connect_timeout",
        "decode_responses",
        "encoding",
        "encoding_errors",
    }
)


@dataclass(frozen=True, slots=True)
class Location:
    """A parsed LOCATION."""

    scheme: str
    identity: tuple[str, ...]
    """Server, database and user: caches with equal identities share one engine."""
    db: int
    label: str
    """The location without its password, for errors and logs."""
    connection_kwargs: dict[str, Any] = field(repr=False, compare=False)


def parse_location(location: object) -> Location:
    """Parse a LOCATION; raises ConfigError naming what is wrong with it."""
    valid = ", ".join(f"{scheme}://" for scheme in SCHEMES)
    if not location:
        raise ConfigError(
            f"LOCATION is missing: give the URL of the shared store ({valid}). "
            "Use 'memory://' for a cache of this process alone."
        )
    if not isinstance(location, str):
        raise ConfigError(
            f"LOCATION must be one URL ({valid}), not {type(location).__name__}: "
            "several servers are not supported."
        )
    scheme = urlsplit(location).scheme
    if scheme not in SCHEMES:
        raise ConfigError(f"LOCATION {_label(location)!r} must begin with {valid}.")
    if scheme == "memory":
        name = location.removeprefix("memory://")
        return Location(scheme, ("memory", name), 0, location, {})
    return _parse_redis(location, scheme)


def _parse_redis(location: str, scheme: str) -> Location:
    label = _label(location)
    parts = urlsplit(location)
    if any(mark in location for mark in ",; "):
        raise ConfigError(f"LOCATION {label!r} must be one URL, not a list.")
    try:
        kwargs: dict[str, Any] = dict(parse_url(location))
    except ValueError as exc:
        raise ConfigError(f"LOCATION {label!r} is not usable: {exc}") from exc
    path = parts.path.strip("/")
    if scheme != "unix" and path and not path.isdecimal():
        raise ConfigError(f"LOCATION {label!r}: database {path!r} is not a number.")
    if scheme == "unix" and not kwargs.get("path"):
        raise ConfigError(f"LOCATION {label!r} lacks the path of the socket.")
    db = kwargs.get("db", 0)
    secret = hashlib.sha256(str(kwargs.get("password", "")).encode()).hexdigest()
    identity = (
        scheme,
        str(kwargs.get("path") or kwargs.get("host", "localhost")),
        str(kwargs.get("port", 6379)),
        str(db),
        str(kwargs.get("username", "")),
        secret,
    )
    return Location(scheme, identity, db, label, kwargs)


def _label(location: str) -> str:
    """Return the location with its password hidden."""
    head, at, tail = location.rpartition("@")
    if not at:
        return location
    scheme, slashes, user = head.partition("://")
    name = user.partition(":")[0]
    return f"{scheme}{slashes}{name}:***@{tail}"


def connection_factory(
    location: Location, options: EngineOptions
) -> Callable[[], Connection]:
    """Return a function that makes connections, not connected yet.

    Raises ConfigError for arguments of the URL or CLIENT_KWARGS that redis-py refuses.
    """
    kwargs = {**location.connection_kwargs, **options.client_kwargs}
    reserved = sorted(_RESERVED_KWARGS.intersection(kwargs))
    if reserved:
        raise ConfigError(
            f"{reserved[0]!r} cannot be given in LOCATION or CLIENT_KWARGS of "
            f"{location.label!r}: cachebridge sets it (see SOCKET_TIMEOUT, "
            "SOCKET_CONNECT_TIMEOUT)."
        )
    connection_class: type[Connection] = kwargs.pop("connection_class", Connection)
    kwargs.update(
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        socket_timeout=options.socket_timeout,
        socket_connect_timeout=options.socket_connect_timeout,
    )

    def make_connection() -> Connection:
        return connection_class(**kwargs)

    try:
        make_connection()
    except (TypeError, ValueError) as exc:
        raise ConfigError(f"LOCATION {location.label!r}: {exc}") from exc
    return make_connection
