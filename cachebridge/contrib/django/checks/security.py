"""W004: pickles that somebody else on the network could write or change."""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from django.core.checks import CheckMessage, Warning  # noqa: A004 Django's name for it
from redis.connection import SSLConnection

from cachebridge.contrib.django.aliases import binding_of, usable_bridges
from cachebridge.l2.location import MEMCACHED

if TYPE_CHECKING:
    from cachebridge.engine.binding import Binding
    from cachebridge.l2.location import Location

_UNVERIFIED: Final = (None, "none", ssl.CERT_NONE)


def check_pickle(**_given: Any) -> list[CheckMessage]:
    """Warn of pickles over a network without TLS or without a login."""
    found: list[CheckMessage] = []
    for name, cache in usable_bridges().items():
        binding = binding_of(cache)
        missing = _missing(binding) if _reads_pickles(binding) else []
        if missing:
            label = binding.engine.location.label
            found.append(
                Warning(
                    f"The cache {name!r} reads pickles from {label}, over a network "
                    f"{' and '.join(missing)}: whoever can write to that server, or "
                    "into the traffic, can run code in this application.",
                    hint=_hint(binding.engine.location),
                    id="cachebridge.W004",
                )
            )
    return found


def _hint(location: Location) -> str:
    what = "rediss:// with a password or an ACL user"
    if location.scheme == MEMCACHED:
        what = (
            "OPTIONS['tls_context'] and a server that demands a client's certificate, "
            "in a network that nobody else is in"
        )
    return (
        f"Use {what}; or a unix socket; or, if all values are plain data, "
        "OPTIONS['SERIALIZER'] = 'json'. SECURITY.md says more."
    )


def _reads_pickles(binding: Binding) -> bool:
    """Tell whether values are pickles that carry no signature."""
    options = binding.options
    return options.serializer == "pickle" and not getattr(options, "signing_key", None)


def _missing(binding: Binding) -> list[str]:
    """Name what protects neither the server nor the way to it; nothing if local."""
    location = binding.engine.location
    if location.scheme == MEMCACHED:
        return _missing_to_memcached(binding)
    if location.scheme not in {"redis", "rediss"}:
        return []
    given = {**location.connection_kwargs, **binding.engine.options.client_kwargs}
    if _is_loopback(str(given.get("host", "localhost"))):
        return []
    missing = []
    connection_class = given.get("connection_class")
    if connection_class is None or not issubclass(connection_class, SSLConnection):
        missing.append("without TLS")
    elif given.get("ssl_cert_reqs", "required") in _UNVERIFIED:
        missing.append("with TLS that accepts any certificate")
    if not any(
        given.get(login)
        for login in ("password", "credential_provider", "ssl_certfile")
    ):
        missing.append("without a password")
    return missing


def _missing_to_memcached(binding: Binding) -> list[str]:
    """The same for several servers, whose only login would be a certificate."""
    hosts = [
        address.target[0]
        for address in binding.engine.location.servers
        if not isinstance(address.target, str)
    ]
    if all(map(_is_loopback, hosts)):
        return []
    context = binding.engine.options.client_kwargs.get("tls_context")
    if context is None:
        return ["without TLS", "without a password"]
    if context.verify_mode == ssl.CERT_NONE:
        return ["with TLS that accepts any certificate"]
    return []


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
