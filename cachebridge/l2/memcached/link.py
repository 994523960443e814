"""Connections to Memcached: opened by pymemcache, then used as bare sockets."""

from __future__ import annotations

from ssl import SSLContext
from types import NoneType
from typing import TYPE_CHECKING, Final

from pymemcache.client.base import Client, KeepaliveOpts

from cachebridge.errors import ConfigError
from cachebridge.l2.connections.link import Link
from cachebridge.l2.memcached.protocol import Parser

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from cachebridge.config import EngineOptions
    from cachebridge.l2.location import Address

VALID_KWARGS: Final = {
    "no_delay": ((bool,), "True or False"),
    "socket_keepalive": (
        (KeepaliveOpts, NoneType),
        "a pymemcache.client.base.KeepaliveOpts",
    ),
    "tls_context": ((SSLContext, NoneType), "an ssl.SSLContext"),
}
"""The arguments of a connection, with their types and a description."""


def check_client_kwargs(kwargs: Mapping[str, Any]) -> None:
    """Raise ConfigError for CLIENT_KWARGS that have no meaning here."""
    for name, value in kwargs.items():
        if name not in VALID_KWARGS:
            raise ConfigError(
                f"CLIENT_KWARGS[{name!r}] is unknown for memcached://. Valid ones: "
                f"{', '.join(VALID_KWARGS)}."
            )
        types, wanted = VALID_KWARGS[name]
        if not isinstance(value, types):
            raise ConfigError(
                f"CLIENT_KWARGS[{name!r}] must be {wanted}, not {value!r}."
            )


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
