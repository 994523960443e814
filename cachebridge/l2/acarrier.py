"""Carries requests out on pooled raw connections, past the breaker.

Asynchronous: the twin of ``carrier.py``, line for line; a test compares them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from cachebridge.l2.apool import AsyncPool
from cachebridge.l2.exchange import exchange
from cachebridge.l2.server import FAILURES

if TYPE_CHECKING:
    from cachebridge.l2.commands import Request
    from cachebridge.l2.pool import Link
    from cachebridge.l2.server import Server


class AsyncCarrier:
    """See ``Carrier``.  For tasks of any event loop, and of several at once."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._pool = AsyncPool(server.pool)
        self._breaker = server.breaker

    async def run(self, request: Request, *, is_probe: bool = False) -> Any:
        """Send one request and return its answer; every failure is an L2Error."""
        breaker = self._breaker
        if breaker.is_open and not is_probe:
            breaker.admit()
        try:
            reply = await self._answer_to(request)
        except FAILURES as exc:
            raise self.server.error_of(exc) from exc
        if breaker.failures:
            breaker.succeed()
        return reply

    async def _answer_to(self, request: Request) -> Any:
        """Return the replies, errors among them."""
        return await self._exchange(request)

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
