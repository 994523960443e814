"""LOCATION: which server and database, and how to connect to it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from redis.backoff import NoBackoff
from redis.connection import Connection, parse_url
from redis.retry import Retry

from cachebridge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cachebridge.config import EngineOptions

REDIS_SCHEMES: Final = ("redis", "rediss", "unix")
MEMCACHED: Final = "memcached"
SCHEMES: Final = (*REDIS_SCHEMES, "memory", MEMCACHED)
MEMCACHED_PORT: Final = 11211
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


_PASSWORD_IN_QUERY: Final = re.compile(r"([?&](?:ssl_)?password=)[^&]*")


class Address(NamedTuple):
    """One server of Memcached."""

    name: str
    """As Django's PyMemcacheCache names it to place keys: with its port."""
    target: tuple[str, int] | str
    """Host and port, or the path of a socket."""


@dataclass(frozen=True, slots=True)
class Location:
    """A parsed LOCATION."""

    scheme: str
    identity: tuple[str, ...]
    """Server, database and user: caches with equal identities share one engine."""
    db: int
    label: str
    """The location without its password, for errors and logs."""
    connection_kwargs: dict[str, Any] = field(
        repr=False, compare=False, default_factory=dict
    )
    servers: tuple[Address, ...] = ()
    """Those of Memcached."""

    @property
    def is_redis(self) -> bool:
        """Whether a Redis server is meant."""
        return self.scheme in REDIS_SCHEMES


def parse_location(
    location: object, client_kwargs: Mapping[str, Any] | None = None
) -> Location:
    """Parse a LOCATION; raises ConfigError naming what is wrong with it.

    ``client_kwargs`` go before what the URL says, also where they name the database,
    the user or the password: these belong to the identity.
    """
    valid = ", ".join(f"{scheme}://" for scheme in SCHEMES)
    if not location:
        raise ConfigError(
            f"LOCATION is missing: give the URL of the shared store ({valid}). "
            "Use 'memory://' for a cache of this process alone."
        )
    if not isinstance(location, str):
        raise ConfigError(
            f"LOCATION must be one URL ({valid}), not {type(location).__name__}. "
            f"Several servers of Memcached stand in one: {_as_memcached(location)}"
        )
    scheme, slashes, _ = location.partition("://")
    if not slashes or scheme not in SCHEMES:
        label = hide_password(location)
        raise ConfigError(
            f"LOCATION {label!r} must begin with {valid}.{_bare_hint(location)}"
        )
    if scheme == "memory":
        name = location.removeprefix("memory://")
        return Location(scheme, ("memory", name), 0, location)
    if scheme == MEMCACHED:
        return _parse_memcached(location)
    return _parse_redis(location, scheme, client_kwargs or {})


def _parse_memcached(location: str) -> Location:
    label = hide_password(location)
    servers = []
    for text in location.removeprefix(f"{MEMCACHED}://").rstrip("/").split(","):
        server = _memcached_server(text.strip())
        if server is None:
            shown = "what stands there" if "@" in location else repr(text)
            raise ConfigError(
                f"LOCATION {label!r} is not usable: {shown} is no server. Write "
                "memcached://host:11211,host2:11211, or unix:/path for a socket; "
                "Memcached knows no databases, users or passwords here."
            )
        servers.append(server)
    names = [server.name for server in servers]
    if len(set(names)) < len(names):
        raise ConfigError(f"LOCATION {label!r} names a server twice.")
    identity = (MEMCACHED, *sorted(names))
    return Location(MEMCACHED, identity, 0, label, servers=tuple(servers))


def _as_memcached(servers: object) -> str:
    """Return how servers are written that Django takes as a list."""
    given = servers if isinstance(servers, (list, tuple)) else ()
    names = [each for each in given if isinstance(each, str)]
    if names and all(map(_memcached_server, names)):
        return f"{MEMCACHED}://{','.join(names)}"
    return f"{MEMCACHED}://a:{MEMCACHED_PORT},b:{MEMCACHED_PORT}"


def _bare_hint(location: str) -> str:
    """Say what to write for servers without a scheme, as other backends take them."""
    servers = re.split("[;,]", location)
    if not all(map(_memcached_server, servers)):
        return ""
    url = f"{MEMCACHED}://{','.join(servers)}"
    if location.endswith(f":{MEMCACHED_PORT}") or location.startswith("unix:"):
        return f" For Memcached write {url}"
    if len(servers) > 1:
        return f" For several servers of Memcached write {url}"
    return f" Write redis://{location}/0 or, for Memcached, {url}"


_MEMCACHED_SERVER: Final = re.compile(
    r"(\[[0-9A-Fa-f:.]+\]|[^\s:;/@?#\[\]]+)(?::(\d+))?"
)


def _memcached_server(text: str) -> Address | None:
    """Read one server; None if it is none."""
    if text.startswith("unix:/"):
        path = text.removeprefix("unix:")
        return Address(path, path)
    found = _MEMCACHED_SERVER.fullmatch(text)
    if found is None:
        return None
    host, port = found[1].strip("[]"), int(found[2] or MEMCACHED_PORT)
    return Address(f"{host}:{port}", (host, port)) if 0 < port < 65536 else None  # noqa: PLR2004


def _parse_redis(
    location: str, scheme: str, client_kwargs: Mapping[str, Any]
) -> Location:
    label = hide_password(location)
    if any(mark in location for mark in ",; "):
        raise ConfigError(f"LOCATION {label!r} must be one URL, not a list.")
    try:
        path = urlsplit(location).path.strip("/")
        kwargs: dict[str, Any] = {**parse_url(location), **client_kwargs}
    except (TypeError, ValueError):
        # What the parser says may quote a part of the password.
        raise ConfigError(
            f"LOCATION {label!r} is not usable: no valid URL of a server. Marks such "
            "as @ : / ? # in a password must be percent-encoded."
        ) from None
    db = kwargs.get("db", 0)
    for given in (path if scheme != "unix" and path else db, db):
        if not str(given).isdecimal():
            raise ConfigError(
                f"LOCATION {label!r}: database {given!r} is not a number."
            )
    if scheme == "unix" and not kwargs.get("path"):
        raise ConfigError(f"LOCATION {label!r} lacks the path of the socket.")
    secret = hashlib.sha256(str(kwargs.get("password", "")).encode()).hexdigest()
    identity = (
        scheme,
        str(kwargs.get("path") or kwargs.get("host", "localhost")),
        str(kwargs.get("port", 6379)),
        str(int(db)),
        str(kwargs.get("username", "")),
        secret,
    )
    return Location(scheme, identity, int(db), label, kwargs)


def hide_password(location: str) -> str:
    """Return the location as it may be shown, its passwords hidden."""
    location = _PASSWORD_IN_QUERY.sub(r"\1***", location)
    head, at, tail = location.rpartition("@")
    if not at:
        return location
    scheme, slashes, user = head.partition("://")
    if not slashes:
        scheme, user = "", head
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
