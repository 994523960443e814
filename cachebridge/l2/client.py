"""Carries requests out on pooled raw connections, past breaker and lack of scripts.

Synchronous.  What a request says stands in ``commands`` and ``load_scripts``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from cachebridge.errors import L2Error, L2UnavailableError
from cachebridge.l2 import commands
from cachebridge.l2.commands import Request
from cachebridge.resp import is_unavailable

if TYPE_CHECKING:
    from cachebridge.core.breaker import Breaker
    from cachebridge.l2.pool import Link, Pool

_log = logging.getLogger("cachebridge.l2")


class ScriptsRefusedError(Exception):
    """The server refuses scripts, and no plain commands do the same."""


class Client:
    """One server.  Thread safe; a call holds one connection while it runs."""

    def __init__(self, pool: Pool, *, label: str, breaker: Breaker) -> None:
        self._pool = pool
        self._label = label
        self._breaker = breaker
        self._scripts_refused = False

    @property
    def has_scripts(self) -> bool:
        """Whether the server has not refused a script yet."""
        return not self._scripts_refused

    def close(self) -> None:
        """Close idle connections."""
        self._pool.close_idle()

    def forget(self) -> None:
        """Drop idle connections: they belong to the parent process."""
        self._pool.forget()
        self._breaker.reset()

    def run(self, request: Request, *, is_probe: bool = False) -> Any:
        """Send one request and return its reply; every failure is an L2Error.

        Only ScriptsRefusedError is none.
        """
        breaker = self._breaker
        if breaker.is_open and not is_probe:
            breaker.admit()
        try:
            reply = self._answer_to(request)
        except (RedisError, OSError) as exc:
            raise self._error_of(exc) from exc
        if breaker.failures:
            breaker.succeed()
        return reply

    def _answer_to(self, request: Request) -> Any:
        if request.script is not None and self._scripts_refused:
            return self._run_plain(request)
        replies = self._exchange(request)
        failure = _first_error(replies)
        if failure is None:
            return replies[-1] if request.replies != 2 else replies  # noqa: PLR2004
        if isinstance(failure, NoScriptError):
            return self._answer_to(commands.load_script(request))
        if request.script is not None and _refuses_scripts(failure):
            self._note_refusal(failure)
            return self._run_plain(request)
        raise failure

    def _error_of(self, exc: RedisError | OSError) -> L2Error:
        """Return the exception for a failure, and let the breaker know of it."""
        text = f"{self._label}: {type(exc).__name__}: {exc}"
        if is_unavailable(exc):
            self._breaker.fail(text)
            return L2UnavailableError(text)
        if self._breaker.failures:
            self._breaker.succeed()
        return L2Error(text)

    def _exchange(self, request: Request) -> list[Any]:
        """Send and read on one connection, once more if an idle one proves dead.

        What may not be executed twice is sent once: it may have been executed.
        """
        link = self._pool.take()
        try:
            return self._exchange_on(link, request)
        except (RedisTimeoutError, TimeoutError):
            raise
        except (RedisConnectionError, OSError):
            if not request.idempotent:
                raise
        return self._exchange_on(self._pool.take(fresh=True), request)

    def _exchange_on(self, link: Link, request: Request) -> list[Any]:
        try:
            replies = link.exchange(request.packed, request.replies)
        except BaseException:
            self._pool.discard(link)
            raise
        self._pool.give_back(link)
        return replies

    # -- without scripts -------------------------------------------------------------

    def _note_refusal(self, failure: ResponseError) -> None:
        self._scripts_refused = True
        _log.warning(
            "%s refuses scripts (%s): writes use MULTI/EXEC instead",
            self._label,
            failure,
        )

    def _run_plain(self, request: Request) -> Any:
        """Do with plain commands what the script would have done."""
        script = request.script
        if script is commands.REPLACE:
            return self._replace_watching(request)
        if script is None or script.plain is None:
            raise ScriptsRefusedError("this server refuses EVALSHA")
        plain = [
            words
            for words in script.plain(request.keys, request.args)
            if words[0] != b"PUBLISH" or words[2]
        ]
        once = commands.transaction(plain)._replace(idempotent=request.idempotent)
        replies = self._exchange(once)
        if (failure := _first_error(replies)) is not None:
            raise failure
        results = replies[-1]
        if script is commands.READ:
            return [*results[0], *results[1:]]
        return results[-1]

    def _replace_watching(self, request: Request) -> bool:
        """Compare and set by optimistic locking on one connection."""
        (key,) = request.keys
        channel, message, expected, *replacement = request.args
        change: list[tuple[bytes, ...]] = [(b"PUBLISH", channel, message)]
        if not message:
            change = []
        if replacement:
            change.append((b"SET", key, replacement[0], b"KEEPTTL"))
        else:
            change.append((b"UNLINK", key))
        link = self._pool.take()
        try:
            watch = commands.pack(b"WATCH", key) + commands.pack(b"GET", key)
            watched, current = link.exchange(watch, 2)
            same = watched == b"OK" and current == expected
            following = (
                commands.transaction(change)
                if same
                else Request(commands.pack(b"UNWATCH"))
            )
            replies = link.exchange(following.packed, following.replies)
        except BaseException:
            self._pool.discard(link)
            raise
        self._pool.give_back(link)
        if (failure := _first_error([watched, current, *replies])) is not None:
            raise failure
        return same and replies[-1] is not None


def _first_error(replies: list[Any]) -> ResponseError | None:
    """Return the first error among the replies and in the last, which may be EXEC's.

    An EXEC that was refused names the reason in the reply of the refused command.
    """
    last = replies[-1]
    inner = last if isinstance(last, list) else []
    return next((r for r in [*replies, *inner] if isinstance(r, ResponseError)), None)


def _refuses_scripts(failure: ResponseError) -> bool:
    """Tell an account or a server without EVALSHA from any other refusal."""
    text = str(failure).lower()
    return "evalsha" in text or "'eval'" in text
