"""What both clients of one server share: its connections, its breaker, its refusals."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from cachebridge.errors import L2Error, L2UnavailableError
from cachebridge.l2 import commands
from cachebridge.resp import is_unavailable

if TYPE_CHECKING:
    from cachebridge.core.breaker import Breaker
    from cachebridge.l2.commands import Request, Words
    from cachebridge.l2.pool import Pool

_log = logging.getLogger("cachebridge.l2")
_PAIR: Final = 2
_NO_RIGHT: Final = "can't run this command"
"""What a script says of a command that the account has no right to."""


FAILURES: Final = (RedisError, OSError)
"""What may come of talking to a server."""


class ScriptsRefusedError(Exception):
    """The server refuses scripts, and no plain commands do the same."""


class Server:
    """One server, as far as it is known.  Thread safe."""

    def __init__(self, pool: Pool, *, label: str, breaker: Breaker) -> None:
        self.pool = pool
        self.breaker = breaker
        self._label = label
        self.scripts_refused = False
        """Whether the server has refused a script; it will not be asked again."""

    def forget(self) -> None:
        """Drop idle connections: they belong to the parent process."""
        self.pool.forget()
        self.breaker.reset()

    def error_of(self, exc: RedisError | OSError) -> L2Error:
        """Return the exception for a failure, and let the breaker know of it."""
        text = f"{self._label}: {type(exc).__name__}: {exc}"
        if is_unavailable(exc):
            self.breaker.fail(text)
            return L2UnavailableError(text)
        if self.breaker.failures:
            self.breaker.succeed()
        error = L2Error(text)
        error.is_permanent = isinstance(exc, NoPermissionError) or _NO_RIGHT in text
        return error

    def note_refusal(self, failure: ResponseError) -> None:
        """Note that the server refuses scripts."""
        self.scripts_refused = True
        _log.warning(
            "%s refuses scripts (%s): writes use MULTI/EXEC instead",
            self._label,
            failure,
        )


def answer_in(request: Request, replies: list[Any]) -> Any:
    """Return what a request asked for: mostly the last reply, or the pair of a read."""
    return replies if request.replies == _PAIR else replies[-1]


def first_error(replies: list[Any]) -> ResponseError | None:
    """Return the first error among the replies and in the last, which may be EXEC's.

    An EXEC that was refused names the reason in the reply of the refused command.
    """
    last = replies[-1]
    inner = last if isinstance(last, list) else []
    return next((r for r in [*replies, *inner] if isinstance(r, ResponseError)), None)


def refuses_scripts(failure: ResponseError) -> bool:
    """Tell an account or a server without EVALSHA from any other refusal."""
    text = str(failure).lower()
    return "evalsha" in text or "'eval'" in text


def plain_of(request: Request) -> Request:
    """Return plain commands that do what the script would have done."""
    script = request.script
    if script is None or script.plain is None:
        raise ScriptsRefusedError("this server refuses EVALSHA")
    plain = [
        words
        for words in script.plain(request.keys, request.args)
        if words[0] != b"PUBLISH" or words[2]
    ]
    return commands.transaction(plain)._replace(idempotent=request.idempotent)


def plain_answer(request: Request, replies: list[Any]) -> Any:
    """Return what the script would have returned; raises the first error."""
    if (failure := first_error(replies)) is not None:
        raise failure
    results = replies[-1]
    if request.script is commands.READ:
        return [*results[0], *results[1:]]
    return results[-1]


def watch(request: Request) -> Request:
    """Begin a compare and set by optimistic locking."""
    (key,) = request.keys
    return commands.Request(
        commands.pack(b"WATCH", key) + commands.pack(b"GET", key), 2
    )


def is_as_expected(request: Request, watched: list[Any]) -> bool:
    """Tell whether the replies to ``watch`` allow to go on."""
    return bool(watched[0] == b"OK" and watched[1] == request.args[2])


def after_watch(request: Request, *, same: bool) -> Request:
    """Go on with a compare and set, or give it up."""
    (key,) = request.keys
    channel, message, _expected, *replacement = request.args
    if not same:
        return commands.Request(commands.pack(b"UNWATCH"))
    change: list[Words] = [(b"PUBLISH", channel, message)] if message else []
    if replacement:
        change.append((b"SET", key, replacement[0], b"KEEPTTL"))
    else:
        change.append((b"UNLINK", key))
    return commands.transaction(change)
