"""The Memcached store.

A change and its message are two steps (``l2/two_steps.py``).  TTLs are whole seconds,
rounded up.  In all else this store keeps the contract of ``L2Store``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from cachebridge.core.lease import PLAIN_MARK
from cachebridge.errors import NO_LIST, NO_LOCK, L2Error, UnsupportedOperationError
from cachebridge.l2.memcached.loads import LoadOperations
from cachebridge.l2.memcached.names import LISTS
from cachebridge.l2.memcached.protocol import MemcachedError
from cachebridge.l2.store import SCAN_COUNT
from cachebridge.l2.two_steps import announced

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import TypeAlias

    from cachebridge.core.lease import LeaseGet, LeaseTerms, LoadedRaw, LoadReply
    from cachebridge.l2.connections.client import Client
    from cachebridge.l2.memcached.cluster import Cluster
    from cachebridge.l2.store import Bounds, Counted, Read, Ttl
    from cachebridge.l2.two_steps import Outbox

    Answer: TypeAlias = Coroutine[Any, Any, "T"]

T = TypeVar("T")


class MemcachedStore:
    """See ``L2Store``.  For threads or for tasks, as its clients are."""

    def __init__(
        self, cluster: Cluster, outbox: Outbox, clients: Sequence[Client]
    ) -> None:
        """``clients`` are those of the cluster's nodes, for threads or for tasks."""
        self._cluster = cluster
        self._outbox = outbox
        self._clients = clients

    def _begin(self) -> LoadOperations:
        return LoadOperations(self._cluster, self._clients)

    async def _read(self, operation: Answer[T]) -> T:
        """Carry an operation out; every failure is an L2Error."""
        try:
            return await operation
        except MemcachedError as exc:
            raise self._error_of(exc) from exc

    def _change(
        self,
        call: LoadOperations,
        operation: Answer[T],
        message: bytes | None,
        *,
        always: bool = False,
    ) -> Answer[T]:
        """Carry an operation of ``call`` out, and publish what it has changed."""

        def judge(failure: BaseException) -> BaseException:
            if isinstance(failure, L2Error):
                failure.is_unsent = failure.is_unsent and not call.is_sent
            elif isinstance(failure, MemcachedError):
                return self._error_of(failure)
            return failure

        return announced(operation, message, self._outbox, always=always, judge=judge)

    def _error_of(self, failure: MemcachedError) -> L2Error:
        return L2Error(f"{self._cluster.label}: {failure}")

    def get(self, key: str) -> Answer[Read]:
        """Read one key."""
        return self._read(self._begin().get(key))

    def get_many(self, keys: Sequence[str]) -> Answer[list[Read]]:
        """Read several keys, a hundred per round trip and server."""
        return self._read(self._begin().get_many(keys))

    def exists(self, key: str) -> Answer[bool | str]:
        """Return whether the key exists."""
        return self._read(self._begin().exists(key))

    def store(
        self,
        items: Sequence[tuple[str, bytes]],
        ttl_ms: Ttl,
        message: bytes | None,
    ) -> Answer[Sequence[str]]:
        """Set all items; return the keys of those that are too large."""
        call = self._begin()
        return self._change(call, call.store(items, ttl_ms), message)

    def add(
        self, key: str, raw: bytes, ttl_ms: int | None, message: bytes | None
    ) -> Answer[bool | str]:
        """Set the key if it does not exist."""
        call = self._begin()
        return self._change(call, call.add(key, raw, ttl_ms), message)

    def touch(
        self, key: str, ttl_ms: int | None, message: bytes | None
    ) -> Answer[bool | str]:
        """Give an existing key a new TTL."""
        call = self._begin()
        return self._change(call, call.touch(key, ttl_ms), message)

    async def ttl(self, key: str) -> int:
        """Return what is left of the TTL, in whole seconds."""
        _, left_ms = await self.get(key)
        return left_ms

    def overwrite(
        self, key: str, raw: bytes, ttl_ms: int | None, message: bytes | None
    ) -> Answer[bool | str]:
        """Set the key if it exists."""
        call = self._begin()
        return self._change(call, call.overwrite(key, raw, ttl_ms), message)

    async def keep(self, _key: str, _expected: bytes, _ttl_ms: int) -> bool:
        """Raise UnsupportedOperationError: that takes two steps here."""
        raise UnsupportedOperationError(NO_LOCK)

    def delete(self, keys: Sequence[str], message: bytes | None) -> Answer[int]:
        """Delete the keys; always publish."""
        call = self._begin()
        return self._change(call, call.delete(keys), message)

    def delete_older(
        self,
        keys: Sequence[str],
        ages_s: Callable[[], Sequence[float]],
        _origin: bytes,
        message: bytes | None,
    ) -> Answer[int]:
        """Delete the keys; of the order of writes a new server alone is known."""
        call = self._begin()
        return self._change(call, call.delete_older(keys, ages_s), message)

    def incr(
        self, key: str, delta: int, message: bytes | None
    ) -> Answer[int | str | None]:
        """Add to an integer."""
        call = self._begin()
        return self._change(call, call.incr(key, delta), message)

    def count(
        self,
        key: str,
        delta: int,
        bounds: Bounds,
        ttl_ms: int | None,
        message: bytes | None,
    ) -> Answer[Counted | None]:
        """Add to a counter if the bounds allow it."""
        call = self._begin()
        return self._change(call, call.count(key, delta, bounds, ttl_ms), message)

    def replace(
        self, key: str, expected: bytes, raw: bytes | None, message: bytes | None
    ) -> Answer[bool]:
        """Compare and set, or compare and delete."""
        call = self._begin()
        return self._change(call, call.replace(key, expected, raw), message)

    # -- loading -----------------------------------------------------------------

    def get_or_lease(
        self, key: str, token: bytes, terms: LeaseTerms
    ) -> Answer[LeaseGet]:
        """Read the key, or take the right to load it."""
        return self._read(self._begin().get_or_lease(key, token, terms))

    def store_loaded(
        self, key: str, loaded: LoadedRaw, lease: LeaseGet, message: bytes | None
    ) -> Answer[LoadReply]:
        """Set a loaded value."""
        call = self._begin()
        return self._change(call, call.store_loaded(key, loaded, lease), message)

    def store_absent(
        self,
        key: str,
        ttl_ms: int,
        lease: LeaseGet,
        message: bytes | None,
        mark: bytes = PLAIN_MARK,
    ) -> Answer[LoadReply]:
        """Note that there is no such thing."""
        call = self._begin()
        absent = call.store_absent(key, ttl_ms, lease, mark)
        return self._change(call, absent, message)

    async def release(
        self, key: str, lease: LeaseGet, keep_ms: int, message: bytes | None
    ) -> bytes | None:
        """End the lease without a value."""
        copy, is_free = await self._read(self._begin().release(key, lease, keep_ms))
        if is_free and message is not None:
            await self._outbox.send(message)
        return copy

    async def release_unshared(
        self, key: str, lease: LeaseGet, lease_ms: int, message: bytes | None
    ) -> None:
        """End the lease, and let every caller load for a while."""
        call = self._begin()
        await self._change(call, call.release_unshared(key, lease, lease_ms), message)

    # -- everything ---------------------------------------------------------------

    async def clear(self, prefix: str, message: Callable[[], bytes]) -> bool:
        """Make every item dead whose key begins with ``prefix``."""
        call = self._begin()
        return await self._change(call, call.clear(prefix), message(), always=True)

    async def scan(
        self,
        _pattern: str,
        _cursor: int,
        _count: int = SCAN_COUNT,
        *,
        records: bool = True,  # noqa: ARG002 as in other stores
    ) -> tuple[int, list[str]]:
        """Raise UnsupportedOperationError: there is no list of the keys."""
        raise UnsupportedOperationError(NO_LIST)

    async def flush_db(self, message: bytes) -> bool:
        """Delete every key of every server."""
        call = self._begin()
        return await self._change(call, call.flush(), message, always=True)

    async def switch(self, name: str, _word: bytes, _message: bytes) -> None:
        """Raise UnsupportedOperationError: the server of the bus keeps the switch."""
        raise UnsupportedOperationError(f"Memcached does not keep {name!r}.")

    async def keep_list(self, name: str, raw: bytes, ttl_ms: int) -> None:
        """Set the item of a list."""
        call = self._begin()
        await self._read(call.store([(LISTS + name, raw)], ttl_ms))

    async def kept_list(self, name: str) -> bytes | None:
        """Return what the item of a list holds."""
        raw, _ = await self._read(self._begin().get(LISTS + name))
        return raw

    async def publish(self, message: bytes) -> None:
        """Publish alone."""
        await self._outbox.send(message)

    async def ping(self) -> None:
        """Return if a server answers; all are asked, whatever their breakers say."""
        call = self._begin()
        await call.ping()
        await self._read(call.pay_clears())

    def close(self) -> None:
        """Close idle connections."""
        self._cluster.close()

    def forget(self) -> None:
        """Drop every connection: they belong to the parent process."""
        self._cluster.forget()
