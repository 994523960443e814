"""When pending deletes are replayed: before calls that they concern, or in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from cachebridge.core.dropping.tags import stamps_among
from cachebridge.core.keys import fits_message
from cachebridge.engine.removals import OperationsHost
from cachebridge.errors import L2Error, L2UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cachebridge.core.breaker import Breaker
    from cachebridge.core.keys import KeyPattern
    from cachebridge.engine.later.write_behind import WriteBehind
    from cachebridge.engine.operations import Operations
    from cachebridge.engine.outage.state import Outage
    from cachebridge.engine.servers.stores import Stores

RETRY_S: Final = 1.0
"""Seconds between two tries on a server that answers and refuses."""


class OutageHost(OperationsHost, Protocol):
    """What fallbacks and replays need of their engine."""

    outage: Outage
    breaker: Breaker
    clock: Callable[[], float]
    stores: Stores
    write_behind: WriteBehind
    pid: int
    """The process that the engine is of."""

    def notice_fork(self) -> None:
        """Begin anew if this is the child of a fork."""

    def catch_up_in_background(self) -> None:
        """Have ``Replay.run`` called soon, in a thread of its own."""


class Replay:
    """Replays the pending deletes of one engine, for threads or for tasks.

    Thread safe.  ``coherent`` deletes with a message, whichever cache the delete is of:
    a peer may have a copy.  ``direct`` deletes keys that fit into no message.
    """

    def __init__(
        self, engine: OutageHost, coherent: Operations, direct: Operations
    ) -> None:
        self._engine = engine
        self._coherent = coherent
        self._direct = direct

    async def before(self, keys: Iterable[str]) -> L2Error | None:
        """Replay what concerns these keys; return the error if that fails.

        Deletes of other keys are replayed in the background.  A server that answers
        and refuses is not asked again for ``RETRY_S``.
        """
        engine = self._engine
        pending = engine.outage.pending_deletes
        now = engine.clock()
        if not pending.concern(keys):
            if now >= pending.next_try and not engine.breaker.is_open:
                pending.next_try = now + RETRY_S
                engine.catch_up_in_background()
            return None
        if pending.refusal is not None and now < pending.next_try:
            return pending.refusal.again()
        try:
            await self.run()
        except L2Error as exc:
            if not isinstance(exc, L2UnavailableError):
                pending.refusal, pending.next_try = exc, now + RETRY_S
            return exc
        pending.refusal = None
        return None

    async def run(self) -> None:
        """Replay all pending deletes; raises L2Error."""
        if self._engine.breaker.is_open:
            # A delete that fails would take what was set meanwhile out of L1.
            self._engine.breaker.admit()
            await self._coherent.l2.ping()
        pending = self._engine.outage.pending_deletes
        await pending.replay(self, self._coherent.io)

    # -- how (``pending_deletes.Deletes``) ---------------------------------------------

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete the keys, from L2 and from every L1.

        Here and below, what another process has written since the change failed stays.
        """
        began = self._engine.outage.pending_deletes.began
        named = [key for key in keys if fits_message(key)]
        stamps = stamps_among(named)
        # A stamp that another process has made since may be older than the invalidation
        # as well: nothing tells.  To delete it costs misses alone.
        await self._coherent.delete_many(stamps)
        await self._coherent.delete_older(set(named).difference(stamps), began)
        if len(named) < len(keys):
            await self._direct.delete_older(set(keys).difference(named), began)

    async def clear(self, pattern: KeyPattern) -> None:
        """Clear a cache."""
        pending = self._engine.outage.pending_deletes
        await self._coherent.clear(pattern, pending.clear_began(pattern))

    async def flush_db(self) -> None:
        """Delete the whole database."""
        pending = self._engine.outage.pending_deletes
        await self._coherent.flush_older(pending.flush_began())
