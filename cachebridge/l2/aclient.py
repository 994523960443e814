"""Carries requests out on pooled raw connections, past breaker and lack of scripts.

Asynchronous: the twin of ``client.py``, line for line; a test compares them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from cachebridge.l2 import commands
from cachebridge.l2.apool import AsyncPool
from cachebridge.l2.exchange import exchange
from cachebridge.l2.server import (
    after_watch,
    answer_in,
    first_error,
    is_as_expected,
    plain_answer,
    plain_of,
    refuses_scripts,
    watch,
)

if TYPE_CHECKING:
    from cachebridge.l2.commands import Request
    from cachebridge.l2.pool import Link
    from cachebridge.l2.server import Server


class AsyncClient:
    """See ``Client``.  For tasks of any event loop, and of several at once."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._pool = AsyncPool(server.pool)
        self._breaker = server.breaker

    @property
    def has_scripts(self) -> bool:
        """Whether the server has not refused a script yet."""
        return not self.server.scripts_refused

    async def run(self, request: Request, *, is_probe: bool = False) -> Any:
        """Send one request and return its reply; every failure is an L2Error.

        Only ScriptsRefusedError is none.
        """
        breaker = self._breaker
        if breaker.is_open and not is_probe:
            breaker.admit()
        try:
            reply = await self._answer_to(request)
        except (RedisError, OSError) as exc:
            raise self.server.error_of(exc) from exc
        if breaker.failures:
            breaker.succeed()
        return reply

    async def _answer_to(self, request: Request) -> Any:
        if request.script is not None and self.server.scripts_refused:
            return await self._run_plain(request)
        replies = await self._exchange(request)
        failure = first_error(replies)
        if failure is None:
            return answer_in(request, replies)
        if isinstance(failure, NoScriptError):
            return await self._answer_to(commands.load_script(request))
        if request.script is not None and refuses_scripts(failure):
            self.server.note_refusal(failure)
            return await self._run_plain(request)
        raise failure

    async def _exchange(self, request: Request) -> list[Any]:
        """Send and read on one connection, once more if an idle one proves dead.

        What may not be executed twice is sent once: it may have been executed.
        """
        link = await self._pool.take()
        try:
            return await self._exchange_on(link, request)
        except (RedisTimeoutError, TimeoutError):
            raise
        except (RedisConnectionError, OSError):
            if not request.idempotent:
                raise
        link = await self._pool.take(fresh=True)
        return await self._exchange_on(link, request)

    async def _exchange_on(self, link: Link, request: Request) -> list[Any]:
        try:
            replies = await exchange(link, request.packed, request.replies)
        except BaseException:
            self._pool.discard(link)
            raise
        self._pool.give_back(link)
        return replies

    # -- without scripts -------------------------------------------------------------

    async def _run_plain(self, request: Request) -> Any:
        """Do with plain commands what the script would have done."""
        if request.script is commands.REPLACE:
            return await self._replace_watching(request)
        return plain_answer(request, await self._exchange(plain_of(request)))

    async def _replace_watching(self, request: Request) -> bool:
        """Compare and set by optimistic locking on one connection."""
        link = await self._pool.take()
        first = watch(request)
        try:
            watched = await exchange(link, first.packed, first.replies)
            same = is_as_expected(request, watched)
            second = after_watch(request, same=same)
            replies = await exchange(link, second.packed, second.replies)
        except BaseException:
            self._pool.discard(link)
            raise
        self._pool.give_back(link)
        if (failure := first_error([*watched, *replies])) is not None:
            raise failure
        return same and replies[-1] is not None
