"""LOCATION: which server and database, and how to connect to it."""

from __future__ import annotations

import hashlib
import logging
import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from cachebridge.checking.checks import did_you_mean
from cachebridge.config import warn_once
from cachebridge.counterparts.fates import settle
from cachebridge.counterparts.redis_settings import REDIS_PY
from cachebridge.errors import ConfigError
from cachebridge.l2 import cluster_url, driver
from cachebridge.l2.sentinel import FORM as SENTINEL
from cachebridge.l2.sentinel import SentinelUrl, host_and_port, split_url
from cachebridge.texts import (
    hide_password,
    is_told_from_login,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.metadata import EntryPoint


_log = logging.getLogger("cachebridge.config")

_NAMES: Final = {
    "redis": "redis",
    "rediss": "rediss",
    "unix": "unix",
    "valkey": "redis",
    "valkeys": "rediss",
}
"""The schemes of one server, and what redis-py calls them."""
_SEVERAL: Final = [
    f"{each}{form}"
    for each in _NAMES
    if each != "unix"
    for form in (SENTINEL, cluster_url.FORM)
]
REDIS_SCHEMES: Final = (*_NAMES, *_SEVERAL)
_OF_IDENTITY: Final = {"host", "port", "path", "db", "username", "password"}
ENFORCED: Final = "enforced"
"""The value of ``slots`` in the URL of a server that enforces them."""
MEMCACHED: Final = "memcached"
SCHEMES: Final = ("redis", "rediss", "unix", "memory", MEMCACHED)
"""The first of all names, for errors."""
MEMCACHED_PORT: Final = 11211
_NO_REPLICAS: Final = (
    "Of a primary and its replicas give the URL of the primary alone, or with "
    "REPLICAS='near' a list that begins with it. For nodes of a cluster write "
    "redis+cluster://host:6379,host2:6379."
)
_WRONG_ARGUMENT: Final = re.compile(r"Invalid value for ['`](\w+)['`] in connection")
"""How redis-py says which argument of a query it cannot read."""


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
    """For Redis and Valkey, with or without Sentinel: redis, rediss or unix."""
    identity: tuple[str, ...] = field(repr=False)
    """Server, database and user: caches with equal identities share one engine."""
    db: int
    label: str
    """The location without its password, for errors and logs."""
    connection_kwargs: dict[str, Any] = field(
        repr=False, compare=False, default_factory=dict
    )
    options: dict[str, Any] = field(repr=False, compare=False, default_factory=dict)
    """The options of ours that are given in the URL or as arguments of connections."""
    servers: tuple[Address, ...] = ()
    """The servers of Memcached."""
    sentinel: SentinelUrl | None = field(default=None, repr=False, compare=False)
    """The sentinels that know the server's address."""
    cluster: tuple[tuple[str, int], ...] = field(default=(), compare=False)
    """Nodes of a cluster, which know the others."""
    replicas: tuple[Location, ...] = field(default=(), repr=False, compare=False)
    """Replicas of the server, to be read from."""
    enforces_slots: bool = field(default=False, compare=False)
    """Whether ``cluster`` is one server that looks like a cluster's only node."""

    driver: EntryPoint | None = field(default=None, compare=False)
    """What opens the store, if it is a third party's."""
    url: str = field(default="", repr=False, compare=False)
    """The whole of it, for a driver."""

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of connections that do not belong to the identity."""
        given = self.connection_kwargs
        return {name: given[name] for name in given if name not in _OF_IDENTITY}

    @property
    def is_redis(self) -> bool:
        """Whether a server of Redis or Valkey is meant."""
        return self.scheme in REDIS_SCHEMES


def without_those_of_url(
    location: object, arguments: Mapping[str, Any], place: str
) -> dict[str, Any]:
    """Return redis-py's arguments without those that the URL has, and that so win.

    One line in the log names an argument that has another value there.
    """
    if str(location).partition("://")[0] not in REDIS_SCHEMES:
        return dict(arguments)
    with suppress(ConfigError, ValueError):  # to be said when the URL is parsed
        from redis.connection import parse_url  # noqa: PLC0415 late, as below

        given = parse_url(_as_one_server(str(location))[0])
        given.pop("connection_class", None)
        for name in given.keys() & arguments.keys():
            if str(given[name]) != str(arguments[name]):
                warn_once(
                    _log, f"{place}[{name!r}] has no effect: the URL has another value"
                )
        return {name: arguments[name] for name in arguments if name not in given}
    return dict(arguments)


def parse_location(
    location: object, client_kwargs: Mapping[str, Any] | None = None
) -> Location:
    """Parse a LOCATION; raises ConfigError naming what is wrong with it.

    ``client_kwargs`` override the URL, also where they name the database, the user or
    the password: these belong to the identity.
    """
    valid = ", ".join(f"{scheme}://" for scheme in SCHEMES)
    if not location:
        raise ConfigError(
            f"LOCATION is missing: give the URL of the shared store ({valid}). "
            "Use 'memory://' for a cache of this process alone."
        )
    if not isinstance(location, str):
        raise ConfigError(
            f"LOCATION must be one URL ({valid}), not {type(location).__name__}."
            f"{_hint_for_list(location)}"
        )
    scheme, slashes, _ = location.partition("://")
    if not slashes or scheme not in {*SCHEMES, *REDIS_SCHEMES}:
        label = hide_password(location)
        if slashes and (found := driver.find(scheme)) is not None:
            whole = (scheme, location)
            return Location(scheme, whole, 0, label, driver=found, url=location)
        known = (*SCHEMES, *REDIS_SCHEMES, *driver.schemes())
        hint = did_you_mean(scheme, known) if slashes else _bare_hint(location)
        raise ConfigError(
            f"LOCATION {label!r} must begin with {valid}; valkey:// is redis://, "
            f"redis+sentinel:// asks sentinels, redis+cluster:// nodes. "
            f"Installed drivers: {', '.join(driver.schemes()) or 'none'}.{hint}"
        )
    if scheme == "memory":
        name = location.removeprefix("memory://")
        return Location(scheme, ("memory", name), 0, hide_password(location))
    if scheme == MEMCACHED:
        return _parse_memcached(location)
    url, several = _as_one_server(location)
    parsed = _parse_redis(url, client_kwargs or {}, hide_password(location))
    if several is None:
        return parsed
    servers = ",".join(sorted(f"{host}:{port}" for host, port in several.servers))
    name = several.master if isinstance(several, SentinelUrl) else cluster_url.FORM
    identity = (parsed.scheme, servers, name, *parsed.identity[3:])
    if isinstance(several, SentinelUrl):
        return replace(parsed, identity=identity, sentinel=several)
    if parsed.db:
        raise ConfigError(f"LOCATION {parsed.label!r}: a cluster has database 0 alone.")
    return replace(parsed, identity=identity, cluster=several.servers)


def _as_one_server(
    location: str,
) -> tuple[str, SentinelUrl | cluster_url.ClusterUrl | None]:
    """Return the URL as redis-py takes it, and what knows the address of the server.

    Raises ConfigError for a URL that names sentinels or nodes, and is wrong.
    """
    scheme, _, rest = location.partition("://")
    name, plus, form = scheme.partition("+")
    if not plus:
        return f"{_NAMES[name]}://{rest}", None
    label = hide_password(location)
    if f"+{form}" == cluster_url.FORM:
        cluster = cluster_url.split_url(location, _NAMES[name], label)
        return cluster.node_url, cluster
    sentinel = split_url(location, _NAMES[name], label)
    return sentinel.master_url, sentinel


def _parse_memcached(location: str) -> Location:
    label = hide_password(location)
    servers = []
    for text in location.removeprefix(f"{MEMCACHED}://").rstrip("/").split(","):
        server = _memcached_server(text.strip())
        if server is None:
            shown = (
                "one of its parts" if _may_hold_login(location, text) else repr(text)
            )
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


def _hint_for_list(servers: object) -> str:
    """Say what to write for a list of servers, as other backends take it."""
    given = servers if isinstance(servers, (list, tuple)) else ()
    if any(str(each).startswith(("redis:", "rediss:", "unix:/")) for each in given):
        return f" {_NO_REPLICAS}"
    names = [each for each in given if isinstance(each, str)]
    if not names or not all(map(_memcached_server, names)):
        names = [f"a:{MEMCACHED_PORT}", f"b:{MEMCACHED_PORT}"]
    return (
        f" Several servers of Memcached stand in one: {MEMCACHED}://{','.join(names)}"
    )


def _bare_hint(location: str) -> str:
    """Return the URL to write for servers without a scheme, as other backends do."""
    servers = re.split("[;,]", location)
    if not all(map(_memcached_server, servers)):
        return ""
    url = f"{MEMCACHED}://{','.join(servers)}"
    if location.endswith(f":{MEMCACHED_PORT}") or location.startswith("unix:"):
        return f" For Memcached write {url}"
    if len(servers) > 1:
        return f" For several servers of Memcached write {url}"
    return f" Write redis://{location}/0 or, for Memcached, {url}"


def _memcached_server(text: str) -> Address | None:
    """Read one server; None if it is none."""
    if text.startswith("unix:/"):
        path = text.removeprefix("unix:")
        return Address(path, path)
    found = host_and_port(text, MEMCACHED_PORT)
    return None if found is None else Address("{}:{}".format(*found), found)


def _parse_redis(
    location: str, client_kwargs: Mapping[str, Any], label: str
) -> Location:
    scheme = location.partition("://")[0]
    # Here, because redis-py takes longer to import than everything else.
    from redis.connection import parse_url  # noqa: PLC0415

    address = location.rpartition("@")[2].partition("?")[0]
    if location.count("://") > 1 or any(mark in address for mark in ",; "):
        raise ConfigError(
            f"LOCATION {label!r} must be one URL, not a list. {_NO_REPLICAS}"
        )
    path, said, given = "", "", None
    # The parser's error, which may quote a password, is no context of ours outside.
    try:
        path = urlsplit(location).path.strip("/")
        given = parse_url(location)
        for name in ("username", "password"):
            str({**given, **client_kwargs}.get(name, "")).encode()
    except UnicodeEncodeError:
        given = None
    except (TypeError, ValueError) as exc:
        wrong = _WRONG_ARGUMENT.match(str(exc))
        said = f"{wrong[1]!r} in its query has an invalid value. " if wrong else ""
    if given is None or not is_told_from_login(location):
        raise ConfigError(
            f"LOCATION {label!r} is not usable: {said}Write "
            "redis://user:password@host:port/0 or unix:///path?db=0; marks such as "
            "@ : / ? # in a password must be percent-encoded."
        )
    in_url = settle(given, REDIS_PY, lambda name: f"{name!r} in LOCATION {label!r}")
    beside = settle(client_kwargs, REDIS_PY, "CLIENT_KWARGS")
    kwargs = _without_empty_login(
        {
            **in_url.unknown,
            **in_url.arguments,
            **beside.unknown,
            **beside.arguments,
        }
    )
    db = kwargs.get("db", 0)
    for number in (path if scheme != "unix" and path else db, db):
        if not str(number).isdecimal():
            is_hidden = number is path and _may_hold_login(location, path)
            shown = "" if is_hidden else f" {number!r}"
            raise ConfigError(f"LOCATION {label!r}: database{shown} is not a number.")
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
    ours = in_url.options | beside.options
    slots = kwargs.pop("slots", None)
    parsed = Location(scheme, identity, int(db), label, kwargs, ours)
    return parsed if slots is None else _with_slots(parsed, slots)


def _with_slots(parsed: Location, slots: object) -> Location:
    """Return the location of a server that enforces slots, as the URL says."""
    if slots != ENFORCED or parsed.scheme == "unix" or parsed.db:
        raise ConfigError(
            f"LOCATION {parsed.label!r}: 'slots' may be '{ENFORCED}', for a server of "
            "one address that takes no command over several slots; it has database 0 "
            "alone, and no path of a socket."
        )
    node = (parsed.identity[1], int(parsed.identity[2]))
    return replace(parsed, cluster=(node,), enforces_slots=True)


def _without_empty_login(arguments: dict[str, Any]) -> dict[str, Any]:
    """Leave out what a variable of the environment gives that is not set."""
    return {
        name: value
        for name, value in arguments.items()
        if name not in {"db", "username", "password"} or value not in {None, ""}
    }


def _may_hold_login(location: str, part: str) -> bool:
    """Return whether a part of the URL may be a piece of a password."""
    _, at, address = location.partition("://")[2].rpartition("@")
    return part not in address or (not at and ":" in address)
