"""Carries requests out to one server, on pooled connections, past its breaker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from cachebridge.diagnosis import diagnosis
from cachebridge.errors import L2Error
from cachebridge.observing import HOOK
from cachebridge.resp import NotAReplyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.core.breaker import Breaker
    from cachebridge.l2.connections.link import Link
    from cachebridge.l2.connections.pool import Links

T = TypeVar("T")
_FINAL = (TimeoutError, NotAReplyError)


class Request(Protocol):
    """What one call sends."""

    @property
    def packed(self) -> bytes:
        """The bytes to send."""

    @property
    def replies(self) -> int:
        """How many replies come back."""

    @property
    def idempotent(self) -> bool:
        """Whether sending it twice does no harm."""

    @property
    def token(self) -> bytes:
        """The token of the lease that it may take; empty for other requests."""


class Client:
    """One server, for threads or for tasks: its ``links`` decide.  Thread safe.

    A call holds one connection while it runs.
    """

    failures: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    """The exceptions that connecting, an exchange and ``read`` may raise."""

    def __init__(self, links: Links, *, label: str, breaker: Breaker) -> None:
        self.links = links
        self.breaker = breaker
        self.label = label

    async def run(  # noqa: C901 see below
        self,
        request: Request,
        read: Callable[[list[Any]], T],
        *,
        past_breaker: bool = False,
        is_observed: bool = False,
    ) -> T:
        """Send one request and return what ``read`` makes of its replies.

        Every failure is an L2Error.  ``past_breaker`` sends even while that is open.
        ``is_observed``: the observer, if there is one, has been told.

        Every level of coroutines costs a thread a third of a microsecond: the common
        path is all here, and only failures take further ones.
        """
        if (observer := HOOK.observer) is not None and not is_observed:
            with observer.exchange(self.label, request):
                return await self.run(
                    request, read, past_breaker=past_breaker, is_observed=True
                )
        breaker, links = self.breaker, self.links
        if breaker.is_open and not past_breaker:
            breaker.admit()
        try:
            link = links.take_now()
            if link is None:
                link = await links.take()
        except self.failures as exc:
            error = self.error_of(exc)
            error.is_unsent = True
            raise error from exc
        try:
            replies = links.exchange_now(link, request.packed, request.replies)
            if replies is None:
                replies = await links.exchange(link, request.packed, request.replies)
        except BaseException as exc:
            links.discard(link, request.token)
            if not isinstance(exc, OSError):
                raise
            replies = await self._send_again(request, exc)
        else:
            ticket = link.ticket
            try:
                links.give_back(link)
            except BaseException:  # it was interrupted
                links.free(ticket)
                raise
        try:
            result = read(replies)
        except self.failures as exc:
            return await self._recover(exc, request, read)
        if breaker.failures:
            breaker.succeed()
        return result

    async def _send_again(self, request: Request, failure: OSError) -> list[Any]:
        """Send the request once more on a new connection, or raise the failure.

        A request that timed out, or that must not be executed twice, is sent once: it
        may have been executed; so is one that was answered with no reply.  Otherwise an
        idle connection has proved dead.
        """
        if isinstance(failure, _FINAL) or not request.idempotent:
            raise self.error_of(failure) from failure
        link, replies = await self._exchange_anew(request)
        self.links.give_back(link)
        return replies

    async def _exchange_anew(self, request: Request) -> tuple[Link, list[Any]]:
        """Send the request on a new connection; the caller ends the use of that."""
        links = self.links
        try:
            link = await links.take(fresh=True)
            try:
                replies = await links.exchange(link, request.packed, request.replies)
            except BaseException:
                links.discard(link, request.token)
                raise
        except self.failures as exc:
            raise self.error_of(exc) from exc
        return link, replies

    async def _recover(
        self,
        failure: Exception,
        request: Request,  # noqa: ARG002 RedisClient needs it, and ``read``
        read: Callable[[list[Any]], T],  # noqa: ARG002
    ) -> T:
        """Return the result although ``read`` has raised, or raise an L2Error."""
        if isinstance(failure, NotAReplyError):
            self.links.close_idle()  # what else has arrived there may be garbage too
        raise self.error_of(failure) from failure

    def error_of(self, failure: Exception) -> L2Error:
        """Return the exception for a failure, and tell the breaker of it."""
        said = f"{type(failure).__name__}: {failure}{diagnosis(failure)}"
        text = f"{self.label}: {said}"
        if self.is_unavailable(failure):
            self.breaker.fail(text)
            return self.breaker.kind(text)
        if self.breaker.failures:
            self.breaker.succeed()
        return L2Error(text)

    def is_unavailable(self, failure: Exception) -> bool:
        """Return whether the server can do nothing at all at the moment."""
        return isinstance(failure, OSError)

    def close(self) -> None:
        """Close idle connections."""
        self.links.close_idle()

    def forget(self) -> None:
        """Drop every connection: they belong to the parent process."""
        self.links.forget()
        self.breaker.reset()
