"""Connections to Memcached: opened by pymemcache, then used as bare sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pymemcache.client.base import Client

from cachebridge.errors import ConfigError
from cachebridge.l2.memcached.protocol import Parser
from cachebridge.l2.pool import Link

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from cachebridge.config import EngineOptions
    from cachebridge.l2.location import Address

VALID_KWARGS: Final = ("no_delay", "socket_keepalive", "tls_context")


def check_client_kwargs(kwargs: Mapping[str, Any]) -> None:
    """Raise ConfigError for CLIENT_KWARGS that mean nothing here."""
    for name in kwargs:
        if name not in VALID_KWARGS:
            raise ConfigError(
                f"CLIENT_KWARGS[{name!r}] is unknown for memcached://. Valid ones: "
                f"{', '.join(VALID_KWARGS)}."
            )
    try:
        Client("localhost", **kwargs)  # connects when it is used, not before
    except (TypeError, ValueError) as exc:
        raise ConfigError(f"CLIENT_KWARGS for memcached://: {exc}") from exc


def open_link(address: Address, options: EngineOptions) -> Link:
    """Connect; raises OSError."""
    client = Client(
        address.target,
        connect_timeout=options.socket_connect_timeout,
        timeout=options.socket_timeout,
        **{"no_delay": True, **options.client_kwargs},
    )
    client._connect()  # noqa: SLF001 no other way
    if client.sock is None:
        raise AssertionError("connected, without a socket")
    return Link(client.sock, Parser(), client.close)
