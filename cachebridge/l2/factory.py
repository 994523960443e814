"""How connections to a Redis or Valkey are made, as LOCATION and the options say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachebridge.errors import ConfigError
from cachebridge.l2.handshake import guarded, refused_argument, verify_peer
from cachebridge.texts import conceal, secrets_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.connection import Connection

    from cachebridge.config import EngineOptions
    from cachebridge.l2.location import Location


def arguments_of(
    location: Location, options: EngineOptions
) -> tuple[type[Connection], dict[str, Any]]:
    """Return the class of redis-py's connections to a server, and their arguments.

    Raises ConfigError for a login beside CREDENTIAL_PROVIDER.
    """
    from redis.connection import Connection, SSLConnection  # noqa: PLC0415 as below

    kwargs = {**location.connection_kwargs, **options.client_kwargs}
    kind: type[Connection] = kwargs.pop("connection_class", Connection)
    if not isinstance(kind, type):
        raise ConfigError(
            f"LOCATION {location.label!r} or CLIENT_KWARGS: connection_class must be a "
            "class of connections, such as redis.Connection, not a "
            f"{type(kind).__name__}."
        )
    if issubclass(kind, SSLConnection):
        verify_peer(kwargs)
    kwargs.update(
        socket_timeout=options.socket_timeout,
        socket_connect_timeout=options.socket_connect_timeout,
    )
    if options.credential_provider is not None:
        if kwargs.get("username") or kwargs.get("password"):
            raise ConfigError(
                f"LOCATION {location.label!r}: a user or a password stands beside "
                "CREDENTIAL_PROVIDER, which gives both. Leave them out."
            )
        kwargs["credential_provider"] = options.credential_provider
    return kind, kwargs


def connection_factory(
    location: Location,
    options: EngineOptions,
    find_master: Callable[[], tuple[str, int]] | None = None,
) -> Callable[[], Connection]:
    """Return a function that makes connections, not connected yet.

    ``find_master`` is asked for the address each time, if sentinels know it: then
    making one may block, and raise.  Raises ConfigError for arguments of the URL or
    CLIENT_KWARGS that redis-py refuses.
    """
    # Here, because redis-py takes longer to import than everything else.
    from redis._parsers import _RESP2Parser  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.exceptions import RedisError  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    kind, kwargs = arguments_of(location, options)
    kwargs.update(
        parser_class=_RESP2Parser,  # of replies of a handshake alone
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )
    secrets = {*secrets_in(kwargs)}
    connection_class = guarded(kind, secrets, location.label)
    problem = ""
    try:
        connection_class(**kwargs)
    except TypeError as exc:
        is_plain = location.scheme == "redis"
        problem = f"LOCATION {location.label!r} or CLIENT_KWARGS: " + (
            refused_argument(kind, kwargs, has_tls=not is_plain) or str(exc)
        )
    except (RedisError, ValueError) as exc:
        problem = f"LOCATION {location.label!r}: {exc}"
    if problem:
        raise ConfigError(conceal(problem, secrets, location.label))

    def make_connection() -> Connection:  # no partial: its repr would show the password
        if find_master is None:
            return connection_class(**kwargs)
        host, port = find_master()
        return connection_class(**{**kwargs, "host": host, "port": port})

    return make_connection
