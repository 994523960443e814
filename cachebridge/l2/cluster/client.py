"""One master of a cluster: a request whose slot is elsewhere is sent on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from cachebridge.l2.cluster.slots import UNSERVED, Redirect, read_redirect, slot_of
from cachebridge.l2.redis.client import RedisClient
from cachebridge.l2.redis.commands import asking
from cachebridge.waiting.signals import Signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.core.breaker import Breaker
    from cachebridge.errors import L2Error
    from cachebridge.l2.cluster.slots import Address
    from cachebridge.l2.connections import client
    from cachebridge.l2.connections.pool import Links
    from cachebridge.l2.redis.commands import Request
    from cachebridge.waiting.io import IO

T = TypeVar("T")

MOST_HOPS: Final = 16
"""How often one request is sent to yet another node."""
PAUSE_S: Final = 0.005
"""Seconds until a slot that is under way is asked again: at first, then longer."""
LONGEST_PAUSE_S: Final = 0.05


class Redirected(Exception):  # noqa: N818 no error: it is followed
    """A node has answered that the slot is elsewhere."""

    def __init__(self, redirect: Redirect, failure: Exception) -> None:
        super().__init__(str(failure))
        self.redirect = redirect
        self.failure = failure


class Router(Protocol):
    """Knows which client has a slot, for threads or for tasks."""

    io: IO
    patience_s: float
    """How long a request is repeated while its slot is under way."""

    def at(self, slot: int) -> ClusterClient:
        """Return the client of the master that has the slot."""

    def moved(self, slot: int, address: Address) -> ClusterClient:
        """Return that of the master which has the slot now; the map is out of date."""

    def asked(self, address: Address) -> ClusterClient:
        """Return that of a node which is being given a slot."""


class ClusterClient(RedisClient):
    """See ``RedisClient``."""

    def __init__(
        self,
        links: Links,
        *,
        label: str,
        breaker: Breaker,
        leave: Callable[[str], None],
        router: Router,
        host: str,
        follows: bool = True,
    ) -> None:
        """One that ``follows`` sends requests on; another one raises Redirected.

        ``host`` is meant by a redirect that names only a port.
        """
        super().__init__(links, label=label, breaker=breaker, leave=leave)
        self._host = host
        self._router = router
        self._follows = follows
        self.once = self
        """Sends a request to this node alone."""
        if follows:
            self.once = ClusterClient(
                *(links,),
                label=label,
                breaker=breaker,
                leave=leave,
                router=router,
                host=host,
                follows=False,
            )

    async def _recover(
        self,
        failure: Exception,
        request: client.Request,
        read: Callable[[list[Any]], T],
    ) -> T:
        """Send the request to the node that has its slot."""
        redirect = read_redirect(failure)
        if redirect is None or not request.keys:  # type: ignore[attr-defined] # all are of commands
            return await super()._recover(failure, request, read)
        if not redirect.address[0]:
            here = self._host, redirect.address[1]
            redirect = redirect._replace(address=here)
        if not self._follows:
            raise Redirected(redirect, failure)
        return await self._follow(Redirected(redirect, failure), request, read)  # type: ignore[arg-type] # all are of commands

    async def _follow(
        self, redirected: Redirected, request: Request, read: Callable[[list[Any]], T]
    ) -> T:
        router = self._router
        until = time.monotonic() + router.patience_s
        pause_s, hops = PAUSE_S, 0
        while hops < MOST_HOPS and time.monotonic() <= until:
            kind, slot, address = redirected.redirect
            sent, read_sent = request, read
            hops += 1
            if kind == "MOVED":
                client = router.moved(slot, address)
            elif kind == "ASK":
                client = router.asked(address)
                sent, read_sent = asking(request, read)
            else:  # some keys of the call have moved, and some have not
                await router.io.wait(Signal(), pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                client = router.at(slot_of(request.keys[0]))
                hops = 0  # time alone bounds it: a slot may be long under way
            try:
                return await client.once.run(sent, read_sent)
            except Redirected as again:
                redirected = again
        raise self.error_of(redirected.failure) from redirected.failure

    def error_of(self, failure: Exception) -> L2Error:
        """See ``Client``; what concerns one slot says nothing of the node."""
        if str(failure).startswith(UNSERVED) or read_redirect(failure) is not None:
            return self.breaker.kind(f"{self.label}: {failure}")
        return super().error_of(failure)
