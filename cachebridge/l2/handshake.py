"""What redis-py does for a connection, until it is open: verified, bounded, discreet.

redis-py connects, authenticates and selects the database; its parser has no bounds, its
timeout begins anew with each byte, and its errors quote what the server has sent.
"""

from __future__ import annotations

import time
from inspect import signature
from typing import TYPE_CHECKING, Any, Final

from cachebridge.checking.checks import did_you_mean
from cachebridge.errors import ConfigError
from cachebridge.resp import GARBLED, NotAReplyError
from cachebridge.texts import clean, secrets_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from socket import socket as Socket  # noqa: N812 a class in the end

    from redis.connection import Connection

MOST_BYTES: Final = 64 * 1024
"""Bytes of all replies of a handshake."""
_NO_CERTIFICATE: Final = (None, "none", 0)
"""None, and ssl.CERT_NONE, which is 0."""
_BOOLEANS: Final = {
    **dict.fromkeys(("1", "t", "true", "y", "yes", "on"), True),
    **dict.fromkeys(("", "0", "f", "false", "n", "no", "off"), False),
}


def verify_peer(arguments: dict[str, Any]) -> None:
    """Make TLS check the host name, unless the arguments say otherwise.

    redis-py does so by default since version 6 alone.  Raises ConfigError for a word
    that is neither yes nor no.
    """
    given = arguments.get("ssl_check_hostname", True)
    checks = _BOOLEANS.get(str(given).lower())
    if checks is None:
        raise ConfigError(
            "ssl_check_hostname must be true or false, not a "
            f"{type(given).__name__} of another meaning."
        )
    has_certificate = arguments.get("ssl_cert_reqs", "required") not in _NO_CERTIFICATE
    arguments["ssl_check_hostname"] = checks and has_certificate


def what_tls_accepts(arguments: Mapping[str, Any]) -> str:
    """Say what these arguments leave unchecked about the server; "" for nothing."""
    if arguments.get("ssl_cert_reqs", "required") in _NO_CERTIFICATE:
        return "any certificate"
    checked = dict(arguments)
    verify_peer(checked)
    return "" if checked["ssl_check_hostname"] else "a certificate of any host"


def refused_argument(
    kind: type[Connection], arguments: Mapping[str, Any], *, has_tls: bool
) -> str:
    """Say which argument a class of connections does not take; "" if it takes all."""
    valid = {
        name
        for each in kind.__mro__
        for name in signature(each.__init__).parameters  # type: ignore[misc]
    }
    for name in arguments:
        if name not in valid:
            hint = did_you_mean(name, valid)
            if name.startswith("ssl_") and not has_tls:
                hint = " It is for TLS: rediss://."
            return f"{name!r} is no argument of redis-py's {kind.__name__}.{hint}"
    return ""


def guarded(
    kind: type[Connection], secrets: Iterable[str], public: str
) -> type[Connection]:
    """Return a connection's class whose ``connect`` is bounded in time and memory.

    Its errors hold none of the ``secrets``, save those that ``public`` shows anyway.
    """
    hidden = frozenset(secrets)

    class Guarded(kind):  # type: ignore[valid-type, misc]
        def _connect(self) -> _Handshake:
            return _Handshake(super()._connect(), self.socket_timeout)

        def connect(self) -> None:
            garbled = ""
            try:
                super().connect()
            except GARBLED as exc:  # its text is no context of ours
                garbled = type(exc).__name__
            except Exception as exc:
                given = getattr(self.credential_provider, "secret", "")
                clean(exc, {*hidden, *secrets_in(given, "password")}, public)
                raise
            if garbled:
                raise NotAReplyError(f"not a reply of Redis ({garbled})")
            sock: Any = self._sock
            if isinstance(sock, _Handshake):
                self._sock: Any = sock.ended()

    Guarded.__name__ = Guarded.__qualname__ = kind.__name__
    return Guarded


class _Handshake:
    """A socket whose whole input has one deadline and one bound, until it is ended."""

    def __init__(self, socket: Socket, timeout_s: float | None) -> None:
        self._socket = socket
        self._timeout_s = timeout_s
        self._ends_at = None if timeout_s is None else time.monotonic() + timeout_s
        self._left = MOST_BYTES

    def recv(self, most: int) -> bytes:
        """Receive what is there; TimeoutError at the deadline of the whole."""
        if self._ends_at is not None:
            left_s = self._ends_at - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("timed out in the middle of the handshake")
            self._socket.settimeout(left_s)
        data = self._socket.recv(min(most, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise NotAReplyError("the replies of the handshake have no end")
        return data

    def ended(self) -> Socket:
        """Return the socket itself, with the timeout that it had."""
        self._socket.settimeout(self._timeout_s)
        self._ends_at, self._left = None, 1 << 62
        return self._socket

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)
