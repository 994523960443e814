"""The Memcached store, synchronous.  Its twin is ``astore.py``.

A change and its message are two steps, to two servers: the message follows the change.
What cannot be published at once is owed (``Outbox``); so is the message of a change
whose outcome is unknown.  Nothing else of ``L2Store``'s contract is weaker, save that
TTLs are whole seconds, rounded up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from cachebridge.core.lease import LoadReply
from cachebridge.errors import L2Error, UnsupportedOperationError
from cachebridge.l2.memcached.loads import LoadPlans
from cachebridge.l2.memcached.protocol import MemcachedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cachebridge.core.lease import LoadedRaw, Look, LookTerms
    from cachebridge.l2.base import Read, Ttl
    from cachebridge.l2.memcached.cluster import Cluster
    from cachebridge.l2.memcached.talk import Plan


class Outbox(Protocol):
    """Publishes messages, or keeps them until it can.  Thread safe; does not raise."""

    def send(self, message: bytes) -> None:
        """Publish now, or later if that fails."""

    async def send_async(self, message: bytes) -> None:
        """The same for a task."""

    def owe(self, message: bytes) -> None:
        """Publish behind the caller."""


def cannot_scan(pattern: str, _cursor: int) -> UnsupportedOperationError:
    """Return the exception for what would need a list of the keys."""
    return UnsupportedOperationError(
        f"Memcached cannot list the keys that match {pattern!r}: clear() works, "
        "patterns do not."
    )


def has_changed(result: object) -> bool:
    """Tell by the result of a plan whether others have to hear of it.

    A count of deleted keys says so in any case: a peer may hold what nobody else has.
    """
    if isinstance(result, LoadReply):
        return result.stored
    return result is True or type(result) in {int, list}


class MemcachedStore:
    """See ``L2Store``.  Thread safe; a request holds one connection while it runs."""

    def __init__(self, cluster: Cluster, outbox: Outbox) -> None:
        self._cluster = cluster
        self._plans = LoadPlans(cluster)
        self._outbox = outbox

    def _run(self, plan: Plan) -> Any:
        """Carry a plan out; every failure is an L2Error."""
        nodes = self._cluster.nodes
        replies: Any = None
        failure: L2Error | None = None
        try:
            while True:
                ask = plan.send(replies) if failure is None else plan.throw(failure)
                failure = None
                try:
                    replies = nodes[ask.node].carrier.run(ask.request)
                except L2Error as exc:
                    failure = exc
        except StopIteration as done:
            return done.value
        except MemcachedError as exc:
            raise L2Error(f"{self._cluster.label}: {exc}") from exc
        finally:
            plan.close()

    def _change(
        self, plan: Plan, message: bytes | None, *, always: bool = False
    ) -> Any:
        """Carry a plan out, and publish the message if it has changed anything."""
        try:
            result = self._run(plan)
        except BaseException:
            if message is not None:
                self._outbox.owe(message)  # it may have been executed all the same
            raise
        if message is not None and (always or has_changed(result)):
            self._outbox.send(message)
        return result

    def get(self, key: str) -> Read:
        """Read one key."""
        read: Read = self._run(self._plans.get(key))
        return read

    def get_many(self, keys: Sequence[str]) -> list[Read]:
        """Read several keys, a hundred per round trip and server."""
        reads: list[Read] = self._run(self._plans.get_many(keys))
        return reads

    def exists(self, key: str) -> bool:
        """Tell whether the key exists."""
        return bool(self._run(self._plans.exists(key)))

    def store(
        self,
        items: Sequence[tuple[str, bytes]],
        ttl_ms: Ttl,
        message: bytes | None,
    ) -> Sequence[str]:
        """Set all items; return the keys of those that are too large."""
        refused: list[str] = self._change(self._plans.store(items, ttl_ms), message)
        return refused

    def add(
        self, key: str, raw: bytes, ttl_ms: int | None, message: bytes | None
    ) -> bool:
        """Set the key if it does not exist."""
        return bool(self._change(self._plans.add(key, raw, ttl_ms), message))

    def touch(self, key: str, ttl_ms: int | None, message: bytes | None) -> bool:
        """Give an existing key a new TTL."""
        return bool(self._change(self._plans.touch(key, ttl_ms), message))

    def delete(self, keys: Sequence[str], message: bytes | None) -> int:
        """Delete the keys; publish in any case."""
        deleted: int = self._change(self._plans.delete(keys), message)
        return deleted

    def incr(self, key: str, delta: int, message: bytes | None) -> int | str | None:
        """Add to an integer."""
        value: int | str | None = self._change(self._plans.incr(key, delta), message)
        return value

    def replace(
        self, key: str, expected: bytes, raw: bytes | None, message: bytes | None
    ) -> bool:
        """Compare and set, or compare and delete."""
        return bool(self._change(self._plans.replace(key, expected, raw), message))

    # -- loading -----------------------------------------------------------------

    def look(self, key: str, token: bytes, terms: LookTerms) -> Look:
        """Read the key, or take the right to load it."""
        look: Look = self._run(self._plans.look(key, token, terms))
        return look

    def store_loaded(
        self, key: str, loaded: LoadedRaw, look: Look, message: bytes | None
    ) -> LoadReply:
        """Set a loaded value."""
        plan = self._plans.store_loaded(key, loaded, look)
        reply: LoadReply = self._change(plan, message)
        return reply

    def store_absent(
        self, key: str, ttl_ms: int, look: Look, message: bytes | None
    ) -> LoadReply:
        """Note that there is no such thing."""
        plan = self._plans.store_absent(key, ttl_ms, look)
        reply: LoadReply = self._change(plan, message)
        return reply

    def release(
        self, key: str, look: Look, keep_ms: int, message: bytes | None
    ) -> bytes | None:
        """End the lease without a value."""
        copy: bytes | None
        copy, is_free = self._run(self._plans.release(key, look, keep_ms))
        if is_free and message is not None:
            self._outbox.send(message)
        return copy

    def release_unshared(
        self, key: str, look: Look, lease_ms: int, message: bytes | None
    ) -> None:
        """End the lease, and let everybody load for a while."""
        self._change(self._plans.release_unshared(key, look, lease_ms), message)

    # -- everything ---------------------------------------------------------------

    def clear(self, prefix: str, message: Callable[[], bytes]) -> bool:
        """Make every item dead whose key begins with ``prefix``."""
        cleared: bool = self._change(self._plans.clear(prefix), message(), always=True)
        return cleared

    def scan(self, pattern: str, cursor: int) -> tuple[int, list[str]]:
        """Raise UnsupportedOperationError."""
        raise cannot_scan(pattern, cursor)

    def flush_db(self, message: bytes) -> bool:
        """Delete every key of every server."""
        flushed: bool = self._change(self._plans.flush(), message, always=True)
        return flushed

    def publish(self, message: bytes) -> None:
        """Publish alone."""
        self._outbox.send(message)

    def ping(self) -> None:
        """Return if a server answers; all are asked, whatever their breakers say."""
        self._cluster.ping()
        self._run(self._plans.pay_clears())

    def close(self) -> None:
        """Close idle connections."""
        self._cluster.close()

    def forget(self) -> None:
        """Drop idle connections: they belong to the parent process."""
        self._cluster.forget()
