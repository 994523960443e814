"""The Memcached store, asynchronous: the twin of ``store.py``, line for line.

The same plans, on the same connections; no thread is needed but to open one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachebridge.errors import L2Error
from cachebridge.l2.memcached.loads import LoadPlans
from cachebridge.l2.memcached.protocol import MemcachedError
from cachebridge.l2.memcached.store import cannot_scan, has_changed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cachebridge.core.lease import LoadedRaw, LoadReply, Look, LookTerms
    from cachebridge.l2.base import Read, Ttl
    from cachebridge.l2.memcached.cluster import Cluster
    from cachebridge.l2.memcached.store import Outbox
    from cachebridge.l2.memcached.talk import Plan


class AsyncMemcachedStore:
    """See ``AsyncL2Store``.  For tasks of any event loop."""

    def __init__(self, cluster: Cluster, outbox: Outbox) -> None:
        self._cluster = cluster
        self._plans = LoadPlans(cluster)
        self._outbox = outbox

    async def _run(self, plan: Plan) -> Any:
        """Carry a plan out; every failure is an L2Error."""
        nodes = self._cluster.nodes
        replies: Any = None
        failure: L2Error | None = None
        try:
            while True:
                ask = plan.send(replies) if failure is None else plan.throw(failure)
                failure = None
                try:
                    replies = await nodes[ask.node].async_carrier.run(ask.request)
                except L2Error as exc:
                    failure = exc
        except StopIteration as done:
            return done.value
        except MemcachedError as exc:
            raise L2Error(f"{self._cluster.label}: {exc}") from exc
        finally:
            plan.close()

    async def _change(
        self, plan: Plan, message: bytes | None, *, always: bool = False
    ) -> Any:
        """Carry a plan out, and publish the message if it has changed anything."""
        try:
            result = await self._run(plan)
        except BaseException:
            if message is not None:
                self._outbox.owe(message)  # it may have been executed all the same
            raise
        if message is not None and (always or has_changed(result)):
            await self._outbox.send_async(message)
        return result

    async def get(self, key: str) -> Read:
        """Read one key."""
        read: Read = await self._run(self._plans.get(key))
        return read

    async def get_many(self, keys: Sequence[str]) -> list[Read]:
        """Read several keys, a hundred per round trip and server."""
        reads: list[Read] = await self._run(self._plans.get_many(keys))
        return reads

    async def exists(self, key: str) -> bool:
        """Tell whether the key exists."""
        return bool(await self._run(self._plans.exists(key)))

    async def store(
        self,
        items: Sequence[tuple[str, bytes]],
        ttl_ms: Ttl,
        message: bytes | None,
    ) -> Sequence[str]:
        """Set all items; return the keys of those that are too large."""
        refused: list[str] = await self._change(
            self._plans.store(items, ttl_ms), message
        )
        return refused

    async def add(
        self, key: str, raw: bytes, ttl_ms: int | None, message: bytes | None
    ) -> bool:
        """Set the key if it does not exist."""
        return bool(await self._change(self._plans.add(key, raw, ttl_ms), message))

    async def touch(self, key: str, ttl_ms: int | None, message: bytes | None) -> bool:
        """Give an existing key a new TTL."""
        return bool(await self._change(self._plans.touch(key, ttl_ms), message))

    async def delete(self, keys: Sequence[str], message: bytes | None) -> int:
        """Delete the keys; publish in any case."""
        deleted: int = await self._change(self._plans.delete(keys), message)
        return deleted

    async def incr(
        self, key: str, delta: int, message: bytes | None
    ) -> int | str | None:
        """Add to an integer."""
        value: int | str | None = await self._change(
            self._plans.incr(key, delta), message
        )
        return value

    async def replace(
        self, key: str, expected: bytes, raw: bytes | None, message: bytes | None
    ) -> bool:
        """Compare and set, or compare and delete."""
        return bool(
            await self._change(self._plans.replace(key, expected, raw), message)
        )

    # -- loading -----------------------------------------------------------------

    async def look(self, key: str, token: bytes, terms: LookTerms) -> Look:
        """Read the key, or take the right to load it."""
        look: Look = await self._run(self._plans.look(key, token, terms))
        return look

    async def store_loaded(
        self, key: str, loaded: LoadedRaw, look: Look, message: bytes | None
    ) -> LoadReply:
        """Set a loaded value."""
        plan = self._plans.store_loaded(key, loaded, look)
        reply: LoadReply = await self._change(plan, message)
        return reply

    async def store_absent(
        self, key: str, ttl_ms: int, look: Look, message: bytes | None
    ) -> LoadReply:
        """Note that there is no such thing."""
        plan = self._plans.store_absent(key, ttl_ms, look)
        reply: LoadReply = await self._change(plan, message)
        return reply

    async def release(
        self, key: str, look: Look, keep_ms: int, message: bytes | None
    ) -> bytes | None:
        """End the lease without a value."""
        copy: bytes | None
        copy, is_free = await self._run(self._plans.release(key, look, keep_ms))
        if is_free and message is not None:
            await self._outbox.send_async(message)
        return copy

    async def release_unshared(
        self, key: str, look: Look, lease_ms: int, message: bytes | None
    ) -> None:
        """End the lease, and let everybody load for a while."""
        await self._change(self._plans.release_unshared(key, look, lease_ms), message)

    # -- everything ---------------------------------------------------------------

    async def clear(self, prefix: str, message: Callable[[], bytes]) -> bool:
        """Make every item dead whose key begins with ``prefix``."""
        cleared: bool = await self._change(
            self._plans.clear(prefix), message(), always=True
        )
        return cleared

    async def scan(self, pattern: str, cursor: int) -> tuple[int, list[str]]:
        """Raise UnsupportedOperationError."""
        raise cannot_scan(pattern, cursor)

    async def flush_db(self, message: bytes) -> bool:
        """Delete every key of every server."""
        flushed: bool = await self._change(self._plans.flush(), message, always=True)
        return flushed

    async def publish(self, message: bytes) -> None:
        """Publish alone."""
        await self._outbox.send_async(message)
