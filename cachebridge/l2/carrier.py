"""Carries requests out on pooled raw connections, past the breaker.

Synchronous; its twin is ``acarrier.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from cachebridge.l2.server import FAILURES

if TYPE_CHECKING:
    from cachebridge.l2.commands import Request
    from cachebridge.l2.pool import Link
    from cachebridge.l2.server import Server


class Carrier:
    """One server.  Thread safe; a call holds one connection while it runs."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._pool = server.pool
        self._breaker = server.breaker

    def close(self) -> None:
        """Close idle connections."""
        self._pool.close_idle()

    def forget(self) -> None:
        """Drop idle connections: they belong to the parent process."""
        self.server.forget()

    def run(self, request: Request, *, is_probe: bool = False) -> Any:
        """Send one request and return its answer; every failure is an L2Error."""
        breaker = self._breaker
        if breaker.is_open and not is_probe:
            breaker.admit()
        try:
            reply = self._answer_to(request)
        except FAILURES as exc:
            raise self.server.error_of(exc) from exc
        if breaker.failures:
            breaker.succeed()
        return reply

    def _answer_to(self, request: Request) -> Any:
        """Return the replies, errors among them."""
        return self._exchange(request)

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
        link = self._pool.take(fresh=True)
        return self._exchange_on(link, request)

    def _exchange_on(self, link: Link, request: Request) -> list[Any]:
        try:
            replies = link.exchange(request.packed, request.replies)
        except BaseException:
            self._pool.discard(link)
            raise
        self._pool.give_back(link)
        return replies
