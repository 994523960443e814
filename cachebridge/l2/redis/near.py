"""Reads from a replica, where it cannot take the process back.

A replica applies writes late.  The bus's heartbeat goes to the primary and comes back
through the replica, whose stream is first in, first out: then the replica has every
write from before the heartbeat.  So a key is read from the replica only if this process
has not asked the primary for it since the last heartbeat that has come back.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cachebridge.core.outage import NEVER
from cachebridge.errors import L2Error
from cachebridge.l2.redis.scripts import READ

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.l2.connections.pool import Links
    from cachebridge.l2.redis.client import RedisClient
    from cachebridge.l2.redis.commands import Request

T = TypeVar("T")
MOST_MARKS: Final = 20_000
"""Names that are remembered one by one; with more, all count as just asked for."""


class Marks:
    """When the primary was last asked for a name.  Thread safe.

    ``proven`` returns when the last heartbeat was sent that has come back, NEVER while
    nothing is proven; by ``clock``, as all times here.
    """

    def __init__(self, clock: Callable[[], float], proven: Callable[[], float]) -> None:
        self._clock = clock
        self._proven = proven
        self._asked: dict[bytes, float] = {}
        self.reset()

    def reset(self) -> None:
        """Forget all, in the child of a fork."""
        self._asked = {}
        self._all_asked = NEVER
        self._lock = threading.Lock()

    def set(self, names: tuple[bytes, ...]) -> None:
        """Note that the primary has answered for these names, or for all by none."""
        now = self._clock()
        with self._lock:
            if not names:
                self._all_asked, self._asked = now, {}
            if len(self._asked) > MOST_MARKS:
                self._purge(now)
            for name in names:
                self._asked[name] = now

    def _purge(self, now: float) -> None:
        proven, asked = self._proven(), self._asked
        left = {name: at for name, at in asked.items() if at >= proven}
        if len(left) > MOST_MARKS // 2:
            self._all_asked, left = now, {}
        self._asked = left

    def allow(self, names: tuple[bytes, ...]) -> bool:
        """Return whether the replica has all that the primary has said of them."""
        # In this order: what ``_purge`` drops is in ``_all_asked`` by then.
        asked, proven = self._asked, self._proven()
        if proven <= self._all_asked:
            return False
        return all(asked.get(name, NEVER) < proven for name in names)


class NearClient:
    """Carries requests out as a ``RedisClient`` does: the primary's, or a replica's."""

    def __init__(
        self,
        primary: RedisClient,
        replica: Callable[[], RedisClient | NearClient | None],
        marks: Marks,
    ) -> None:
        """``replica`` returns the client of the replica that is read from, if any."""
        self.primary = primary
        self._replica = replica
        self._marks = marks
        self.links: Links = primary.links
        self.breaker = primary.breaker
        self.error_of = primary.error_of
        self.close = primary.close
        self.forget = primary.forget

    async def run(
        self,
        request: Request,
        read: Callable[[list[Any]], T],
        *,
        past_breaker: bool = False,
    ) -> T:
        """Send one request and return what ``read`` makes of its replies."""
        names = request.keys
        is_read = request.reads or request.script is READ
        if is_read and self._marks.allow(names):
            replica = self._replica()
            if replica is not None:
                try:
                    return await replica.run(request, read)
                except L2Error:  # its own breaker notes it; the primary answers
                    pass
        try:
            return await self.primary.run(request, read, past_breaker=past_breaker)
        finally:
            self._marks.set(names)
