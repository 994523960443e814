"""W004 and W013: who on the network could write values, or stand in for the server."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from django.core.checks import CheckMessage, Warning  # noqa: A004 Django's name for it

from cachebridge.contrib.django.aliases import binding_of, usable_bridges
from cachebridge.l2.handshake import what_tls_accepts
from cachebridge.l2.location import MEMCACHED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from ssl import SSLContext

    from cachebridge.engine.binding import Binding
    from cachebridge.l2.location import Location


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
                    f"{' and '.join(missing)}: an attacker who can write to that "
                    "server, or into the traffic, can run code in this application.",
                    hint=_hint(binding.engine.location),
                    id="cachebridge.W004",
                )
            )
    return found


def check_tls(**_given: Any) -> list[CheckMessage]:
    """Warn of TLS that was told not to check whom it talks to."""
    return [
        Warning(
            f"The cache {name!r} connects to {label} with TLS that accepts {accepted}: "
            "any host on the way can pose as the server, read all values and give "
            "others.",
            hint=(
                "Leave out ssl_cert_reqs and ssl_check_hostname (for Memcached: use "
                "ssl.create_default_context()), and name the authority of the "
                "server's certificate in ssl_ca_certs. Only where another way proves "
                "the server, such as a tunnel, silence this warning."
            ),
            id="cachebridge.W013",
        )
        for name, cache in usable_bridges().items()
        for label, accepted in _accepted(binding_of(cache))
        if accepted
    ]


def _accepted(binding: Binding) -> Iterator[tuple[str, str]]:
    """Yield the servers that are reached by TLS, and what that leaves unchecked."""
    engine = binding.engine
    if engine.location.scheme == MEMCACHED:
        context = engine.options.client_kwargs.get("tls_context")
        yield engine.location.label, _accepted_by(context)
    for server in engine.stores.servers:
        location, options = server.location, server.options
        arguments = {**location.connection_kwargs, **options.client_kwargs}
        if _is_tls(arguments):
            yield location.label, what_tls_accepts(arguments)
        if location.sentinel is not None:
            own = {**location.sentinel.arguments, **options.sentinel_kwargs}
            label = f"the sentinels of {location.sentinel.label}"
            yield label, what_tls_accepts({**arguments, **own})


def _accepted_by(context: SSLContext | None) -> str:
    if context is None:
        return ""
    if context.verify_mode == 0:  # ssl.CERT_NONE
        return "any certificate"
    return "" if context.check_hostname else "a certificate of any host"


def _is_tls(arguments: Mapping[str, Any]) -> bool:
    from redis.connection import SSLConnection  # noqa: PLC0415 only with Redis

    kind = arguments.get("connection_class")
    return kind is not None and issubclass(kind, SSLConnection)


def _hint(location: Location) -> str:
    what = "rediss:// with a password or an ACL user"
    if location.scheme == MEMCACHED:
        what = (
            "OPTIONS['tls_context'] and a server that demands a client's certificate, "
            "in a network of its own"
        )
    return (
        f"Use {what}; or a unix socket; or, if all values are plain data, "
        "OPTIONS['SERIALIZER'] = 'json' or 'msgpack'; or sign all values with "
        "OPTIONS['SIGNING_KEYS'], without SIGNING_ACCEPT_UNSIGNED. SECURITY.md says "
        "more."
    )


def _reads_pickles(binding: Binding) -> bool:
    """Return whether pickles are read that carry no signature."""
    options = binding.options
    are_sealed = bool(options.signing_keys or options.encryption_keys)
    return options.serializer == "pickle" and (
        not are_sealed or options.signing_accept_unsigned
    )


def _missing(binding: Binding) -> list[str]:
    """Return which protections the server and the way to it lack; [] if local."""
    location = binding.engine.location
    if location.scheme == MEMCACHED:
        return _missing_to_memcached(binding)
    if location.scheme not in {"redis", "rediss"}:
        return []
    given = {**location.connection_kwargs, **binding.engine.options.client_kwargs}
    hosts = [str(given.get("host", "localhost"))]
    if location.sentinel is not None:
        hosts = [host for host, _ in location.sentinel.servers]
    if all(map(_is_loopback, hosts)):
        return []
    missing = []
    if not _is_tls(given):
        missing.append("without TLS")
    elif accepted := what_tls_accepts(given):
        missing.append(f"with TLS that accepts {accepted}")
    if not any(
        given.get(login)
        for login in ("password", "credential_provider", "ssl_certfile")
    ):
        missing.append("without a password")
    return missing


def _missing_to_memcached(binding: Binding) -> list[str]:
    """See ``_missing``; the only login of Memcached is a client's certificate."""
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
    accepted = _accepted_by(context)
    return [f"with TLS that accepts {accepted}"] if accepted else []


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
