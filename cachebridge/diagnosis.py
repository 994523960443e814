"""What is probably wrong with a server or the way to it, in a few words."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENDED: Final = (
    "the server ended the connection: it was restarted, is full, or speaks another "
    "protocol, such as TLS"
)
_SILENT: Final = (
    "no answer in time: the server is busy, a firewall is in between, or one side "
    "speaks TLS and the other does not"
)
_CHANNELS: Final = (
    "the account lacks the right to the channels: ACL SETUSER <user> &cachebridge:*"
)
_BY_TYPE: Final[dict[type[BaseException], str]] = {
    ConnectionRefusedError: (
        "nothing listens there: the server is not running, or not yet"
    ),
    socket.gaierror: "the name of the host cannot be resolved",
    FileNotFoundError: "there is no such socket",
    ConnectionResetError: _ENDED,
    TimeoutError: _SILENT,
}
_BY_NAME: Final = {
    "SSLCertVerificationError": "the server's certificate is not trusted here",
    "SSLError": "the server does not speak TLS as expected",
}
"""Of the module ssl, which is imported where TLS is used."""
_BY_TEXT: Final = {
    "WRONGPASS|invalid username-password|invalid password": (
        "the server refuses the password, or the user"
    ),
    "NOAUTH|Authentication required|unauthenticated": "the server asks for a password",
    "(access|publish to) .*channel": _CHANNELS,
    "Protocol error, got|not a reply|no reply of": (
        "what answers there is another kind of server, or speaks another protocol, "
        "such as HTTP or TLS"
    ),
    "Connection closed by server": _ENDED,
    "Timeout (connecting|reading)|timed out": _SILENT,
}
MOST_CAUSES: Final = 5


def diagnosis(failure: BaseException) -> str:
    """Return what to look at, in brackets, to be put behind the text of a failure.

    Empty if the text has to be enough.  Contains nothing of the failure itself.
    """
    for each in _causes(failure):
        for kind in type(each).__mro__:
            if kind.__name__ in _BY_NAME:
                return f" ({_BY_NAME[kind.__name__]})"
        for kind, advice in _BY_TYPE.items():
            if isinstance(each, kind):
                return f" ({advice})"
    text = str(failure)
    for pattern, advice in _BY_TEXT.items():
        if re.search(pattern, text):
            return f" ({advice})"
    return ""


def _causes(failure: BaseException) -> Iterator[BaseException]:
    """Yield the failure and what has caused it, as client libraries chain them."""
    each: BaseException | None = failure
    for _ in range(MOST_CAUSES):
        if each is None:
            return
        yield each
        each = each.__cause__ or each.__context__
