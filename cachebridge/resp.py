"""Commands and replies of Redis (RESP2): how they are packed, and what errors mean.

redis-py opens, authenticates and closes the connections.  What flows over them after
that is packed here and parsed in ``parsers.py``, because redis-py's general layers cost
more than the round trip's own work.

redis-py is imported with the first error reply, by then it has opened a connection:
importing it takes longer than importing all of cachebridge.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple

from cachebridge.texts import shown, shown_reply

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis.exceptions import ResponseError

READ_BYTES: Final = 65536
HUNG_UP: Final = "Connection closed by server."
"""The text of the error for a stream that has ended; redis-py has the same."""

GARBLED: Final = (
    AttributeError,
    LookupError,
    MemoryError,
    OverflowError,
    RecursionError,
    SystemError,
    TypeError,
    ValueError,
)
"""What a library's parser may raise for bytes that are no replies."""


class NotAReplyError(ConnectionError):
    """The server has sent bytes that are no reply, or not of the kind asked for."""


def wrong_kind(reply: object) -> NotAReplyError:
    """Return the exception for a reply that is not of the kind asked for."""
    said = f": {reply}" if isinstance(reply, Exception) else ""
    return NotAReplyError(f"a reply of another kind, {type(reply).__name__}{said}")


_ERRORS: Final = {
    "NOPERM": "NoPermissionError",
    "NOSCRIPT": "NoScriptError",
    "OOM": "OutOfMemoryError",
    "READONLY": "ReadOnlyError",
}
"""Names in ``redis.exceptions``."""


def reply_error(text: str) -> ResponseError:
    """Make the exception for the text of an error reply."""
    exceptions = import_module("redis.exceptions")
    name = _ERRORS.get(text.partition(" ")[0], "ResponseError")
    error: ResponseError = getattr(exceptions, name)(shown_reply(text))
    return error


_WRONG_SERVER: Final = re.compile(
    r"(READONLY|MASTERDOWN|LOADING|UNBLOCKED|MOVED|ASK) "
    r"|EXECABORT .*(READONLY|MASTERDOWN|LOADING|MOVED) "
    r"|ERR Error running script .*-(READONLY|MASTERDOWN) "
    r"|.*instance is now a read-only replica"
)
"""Error replies that say: this is not, or not now, the server that you want.

The last two are what servers before Redis 7 say of scripts and of transactions.
"""


def is_wrong_server(reply: object) -> bool:
    """Return whether the reply is an error of a server that has become the wrong one.

    It was demoted or replaced, and has carried out nothing.
    """
    return (
        isinstance(reply, Exception)
        and _WRONG_SERVER.match(str(reply)) is not None
        and is_refusal(reply)
    )


class _Heads(dict[int, bytes]):
    """What stands before a word of each length, and ends the line before."""

    def __missing__(self, length: int) -> bytes:
        head = b"\r\n$%d\r\n" % length
        if length < _MOST_HEADS:
            self[length] = head
        return head


_MOST_HEADS: Final = 4096
_HEADS: Final = _Heads()


def pack(*words: bytes) -> bytes:
    """Return one command in Redis's wire format."""
    return pack_after(b"*%d" % len(words), words)


def pack_after(head: bytes, words: Iterable[bytes]) -> bytes:
    """Return the rest of a command after its ``head``, which lacks a line end."""
    parts = [head]
    heads, add = _HEADS, parts.append
    for word in words:
        add(heads[len(word)])
        add(word)
    add(b"\r\n")
    return b"".join(parts)


class Hello(NamedTuple):
    """What a server says of itself to every client; '' for what it did not say."""

    product: str = ""
    version: str = ""
    role: str = ""
    """``master`` or ``replica``."""
    mode: str = ""
    """``standalone`` or ``cluster``."""


def read_hello(reply: object) -> Hello:
    """Read the reply to HELLO, which servers before Redis 6 do not know."""
    if not isinstance(reply, list):
        return Hello()
    said = {
        name: shown(value.decode(errors="replace"))
        for name, value in zip(reply[::2], reply[1::2], strict=False)
        if isinstance(name, bytes) and isinstance(value, bytes)
    }
    names = (b"server", b"version", b"role", b"mode")
    return Hello(*(said.get(name, "") for name in names))


def is_refusal(exc: BaseException) -> bool:
    """Return whether the exception is an error reply, also one that redis-py read."""
    return isinstance(exc, import_module("redis.exceptions").ResponseError)
