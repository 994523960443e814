"""Carries requests out to Redis or Valkey, and says what its refusals mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    NoPermissionError,
    NoScriptError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from cachebridge.errors import NO_CLUSTER, L2Error, L2UnavailableError
from cachebridge.l2.connections.client import Client
from cachebridge.l2.connections.link import Link
from cachebridge.l2.redis import commands
from cachebridge.parsers import make_parser
from cachebridge.resp import is_wrong_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket as Socket  # noqa: N812 a class in the end

    from redis.connection import Connection

    from cachebridge.core.breaker import Breaker
    from cachebridge.l2.connections import client
    from cachebridge.l2.connections.pool import Links
    from cachebridge.l2.redis.commands import Call

T = TypeVar("T")

_UNAVAILABLE: Final = (
    "BUSY ",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "NOAUTH",
    "ERR Protocol error: unauthenticated",  # the same, to a command of many words
    "ERR max number of clients",
    "no upstream host",  # Envoy's, as is the next
    "upstream failure",
)
"""Error replies of a server that can do nothing at all at the moment."""
_CLUSTERED: Final = ("MOVED ", "ASK ", "CROSSSLOT ")
"""Error replies of a server in cluster mode."""
_NO_RIGHT: Final = "can't run this command"
"""What a script says of a command that the account has no right to."""


def open_link(connection: Connection) -> Link:
    """Connect a connection of redis-py; raises what that raises."""
    try:
        connection.connect()
        sock: Socket = connection._sock  # type: ignore[assignment]  # noqa: SLF001 no other way
        return Link(sock, make_parser(), connection.disconnect)
    except BaseException:
        connection.disconnect()
        raise


class RedisUnavailableError(L2UnavailableError, RedisConnectionError):
    """The same for code that catches ``redis.exceptions``, as of other backends."""


class RedisClient(Client):
    """See ``Client``.  ``leave`` is called if a reply says that the server is wrong."""

    failures = (RedisError, OSError)

    def __init__(
        self,
        links: Links,
        *,
        label: str,
        breaker: Breaker,
        leave: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(links, label=label, breaker=breaker)
        breaker.kind = RedisUnavailableError
        self._leave = leave or (lambda _reason: links.leave())

    async def run_each(self, calls: list[Call[T]]) -> list[T]:
        """Send several requests at once; each reply is read as if it came alone.

        What one request has to do besides, such as to send a script, follows one by
        one.  The first failure is raised, as by ``run``.
        """
        if len(calls) == 1:
            return [await self.run(*calls[0])]
        requests = [request for request, _ in calls]
        packed = b"".join([request.packed for request in requests])
        replies = await self.run(
            requests[0]._replace(
                packed=packed,
                replies=len(requests),
                idempotent=all(request.idempotent for request in requests),
                script=None,
            ),
            list,
        )
        results = []
        for (request, read), reply in zip(calls, replies, strict=True):
            try:
                results.append(read([reply]))
            except self.failures as exc:
                try:
                    results.append(await self._recover(exc, request, read))
                except L2Error as error:
                    error.is_unsent = False  # others were carried out
                    raise
        return results

    async def _recover(
        self,
        failure: Exception,
        request: client.Request,
        read: Callable[[list[Any]], T],
    ) -> T:
        """Ask the right server; send a script that it does not know with its text."""
        if is_wrong_server(failure):
            self._leave(str(failure))
            replies = await self._ask_anew(request)
            try:
                result = read(replies)
            except self.failures as exc:
                failure = exc
            else:
                if self.breaker.failures:
                    self.breaker.succeed()
                return result
        if (
            isinstance(failure, NoScriptError)
            and isinstance(request, commands.Request)
            and request.script is not None
        ):
            # Part of the same call: the breaker has admitted it, and would refuse now.
            # Without its script: a server that refuses the text as well is asked once.
            request = commands.load_script(request)._replace(script=None)
            return await self.run(request, read, past_breaker=True)
        return await super()._recover(failure, request, read)

    async def _ask_anew(self, request: client.Request) -> list[Any]:
        """Send the request over a new connection: the first server did nothing."""
        link, replies = await self._exchange_anew(request)
        if any(map(is_wrong_server, replies)):
            self.links.discard(link)
        else:
            self.links.give_back(link)
        return replies

    def error_of(self, failure: Exception) -> L2Error:
        """See ``Client``; a refusal that lasts names the missing right."""
        error = super().error_of(failure)
        if isinstance(failure, ResponseError):
            advice = _advice(failure)
            if advice:
                error.args = (f"{error}; {advice}",)
            error.is_permanent = (
                bool(advice)
                or isinstance(failure, NoPermissionError)
                or _NO_RIGHT in str(failure)
            )
        return error

    def is_unavailable(self, failure: Exception) -> bool:
        """Return whether the server cannot be reached, or serves no command now."""
        if isinstance(failure, ResponseError):
            text = str(failure)
            return text.startswith(_UNAVAILABLE) or (
                is_wrong_server(failure) and not text.startswith(_CLUSTERED)
            )
        return isinstance(failure, (OSError, RedisConnectionError, RedisTimeoutError))


def _advice(failure: ResponseError) -> str:
    """Say what to do about a server or account that cannot be used as it is."""
    if str(failure).startswith(_CLUSTERED):
        return NO_CLUSTER
    text = str(failure).lower()
    if "evalsha" not in text and "'eval'" not in text:
        return ""
    if isinstance(failure, NoPermissionError):
        return (
            "the account may not run scripts, which every change is one of: "
            "ACL SETUSER <user> +evalsha +eval (see SECURITY.md)"
        )
    return "cachebridge needs a server that has EVALSHA and EVAL (see SECURITY.md)"
