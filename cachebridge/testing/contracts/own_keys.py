"""A store whose keys all stand under a prefix, and what takes them away again."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

import pytest

from cachebridge.core.keys import escape_glob
from cachebridge.core.lease import PLAIN_MARK
from cachebridge.errors import L2Error
from cachebridge.l2.redis.names import LISTS, is_own
from cachebridge.l2.store import SCAN_COUNT
from cachebridge.resp import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cachebridge.core.lease import LeaseGet, LeaseTerms, LoadedRaw, LoadReply
    from cachebridge.engine.servers.redis_server import RedisServer
    from cachebridge.l2.store import Bounds, Counted, L2Store, Read, Ttl

NEEDS_FLUSH: Final = "needs --flush"
_BATCH: Final = 1000


class Wrap(Protocol):
    """Makes the message about some keys that stands for what a test publishes."""

    def __call__(self, message: bytes | None, keys: Sequence[str] = ()) -> bytes | None:
        """Return it; None for None."""


class OwnKeys:
    """See ``L2Store``: the same over keys that begin with ``prefix``."""

    def __init__(
        self,
        store: L2Store,
        prefix: str,
        *,
        wrap: Wrap,
        may_flush: bool,
        lists_keys: bool,
    ) -> None:
        self._store, self._prefix, self._wrap = store, prefix, wrap
        self._may_flush, self._lists_keys = may_flush, lists_keys
        self._seen: set[str] = set()
        self._lists: set[str] = set()

    def _own(self, key: str) -> str:
        full = self._prefix + key
        self._seen.add(full)
        return full

    def _framed(self, key: str, message: bytes | None) -> tuple[str, bytes | None]:
        """Return the own key, and the message that stands for one about it."""
        own = self._own(key)
        return own, self._wrap(message, [own])

    def _all(self, keys: Sequence[str]) -> list[str]:
        return [self._own(key) for key in keys]

    async def get(self, key: str) -> Read:
        """Read one key."""
        return await self._store.get(self._own(key))

    async def get_many(self, keys: Sequence[str]) -> list[Read]:
        """Read several keys."""
        return await self._store.get_many(self._all(keys))

    async def exists(self, key: str) -> bool | str:
        """Return whether the key exists."""
        return await self._store.exists(self._own(key))

    async def store(
        self, items: Sequence[tuple[str, bytes]], ttl_ms: Ttl, message: bytes | None
    ) -> Sequence[str]:
        """Set all items."""
        own = [(self._own(key), raw) for key, raw in items]
        framed = self._wrap(message, [key for key, _ in own])
        refused = await self._store.store(own, ttl_ms, framed)
        return [key.removeprefix(self._prefix) for key in refused]

    async def add(
        self, key: str, raw: bytes, ttl_ms: int | None, message: bytes | None
    ) -> bool | str:
        """Set the key if it does not exist."""
        own, framed = self._framed(key, message)
        return await self._store.add(own, raw, ttl_ms, framed)

    async def touch(
        self, key: str, ttl_ms: int | None, message: bytes | None
    ) -> bool | str:
        """Give an existing key a new TTL."""
        own, framed = self._framed(key, message)
        return await self._store.touch(own, ttl_ms, framed)

    async def ttl(self, key: str) -> int:
        """Return what is left of the TTL."""
        return await self._store.ttl(self._own(key))

    async def overwrite(
        self, key: str, raw: bytes, ttl_ms: int | None, message: bytes | None
    ) -> bool | str:
        """Set the key if it exists."""
        own, framed = self._framed(key, message)
        return await self._store.overwrite(own, raw, ttl_ms, framed)

    async def keep(self, key: str, expected: bytes, ttl_ms: int) -> bool:
        """Give the key a new TTL if it still is ``expected``."""
        return await self._store.keep(self._own(key), expected, ttl_ms)

    async def delete(self, keys: Sequence[str], message: bytes | None) -> int:
        """Delete the keys."""
        own = self._all(keys)
        return await self._store.delete(own, self._wrap(message, own))

    async def delete_older(
        self,
        keys: Sequence[str],
        ages_s: Callable[[], Sequence[float]],
        origin: bytes,
        message: bytes | None,
    ) -> int:
        """Delete the keys that no other process has written since."""
        own = self._all(keys)
        framed = self._wrap(message, own)
        return await self._store.delete_older(own, ages_s, origin, framed)

    async def incr(
        self, key: str, delta: int, message: bytes | None
    ) -> int | str | None:
        """Add to an integer."""
        own, framed = self._framed(key, message)
        return await self._store.incr(own, delta, framed)

    async def count(
        self,
        key: str,
        delta: int,
        bounds: Bounds,
        ttl_ms: int | None,
        message: bytes | None,
    ) -> Counted | None:
        """Add to a counter if the bounds allow it."""
        own, framed = self._framed(key, message)
        return await self._store.count(own, delta, bounds, ttl_ms, framed)

    async def replace(
        self, key: str, expected: bytes, raw: bytes | None, message: bytes | None
    ) -> bool:
        """Compare and set, or compare and delete."""
        own, framed = self._framed(key, message)
        return await self._store.replace(own, expected, raw, framed)

    async def get_or_lease(self, key: str, token: bytes, terms: LeaseTerms) -> LeaseGet:
        """Read the key, or take the right to load it."""
        return await self._store.get_or_lease(self._own(key), token, terms)

    async def store_loaded(
        self, key: str, loaded: LoadedRaw, lease: LeaseGet, message: bytes | None
    ) -> LoadReply:
        """Set a loaded value."""
        own, framed = self._framed(key, message)
        return await self._store.store_loaded(own, loaded, lease, framed)

    async def store_absent(
        self,
        key: str,
        ttl_ms: int,
        lease: LeaseGet,
        message: bytes | None,
        mark: bytes = PLAIN_MARK,
    ) -> LoadReply:
        """Note that there is no such thing."""
        own, framed = self._framed(key, message)
        return await self._store.store_absent(own, ttl_ms, lease, framed, mark)

    async def release(
        self, key: str, lease: LeaseGet, keep_ms: int, message: bytes | None
    ) -> bytes | None:
        """End the lease without a value."""
        own, framed = self._framed(key, message)
        return await self._store.release(own, lease, keep_ms, framed)

    async def release_unshared(
        self, key: str, lease: LeaseGet, lease_ms: int, message: bytes | None
    ) -> None:
        """End the lease, and let every caller load for a while."""
        own, framed = self._framed(key, message)
        await self._store.release_unshared(own, lease, lease_ms, framed)

    async def clear(self, prefix: str, message: Callable[[], bytes]) -> bool | None:
        """Delete the keys with a prefix; Memcached remembers few clears of others."""
        if not (self._lists_keys or self._may_flush):
            pytest.skip(NEEDS_FLUSH)

        def framed() -> bytes:
            return self._wrap(message(), [self._prefix + prefix]) or b""

        return await self._store.clear(self._prefix + prefix, framed)

    async def scan(
        self,
        pattern: str,
        cursor: int,
        count: int = SCAN_COUNT,
        *,
        records: bool = True,
    ) -> tuple[int, list[str]]:
        """Return the next cursor and some keys."""
        found = escape_glob(self._prefix) + pattern
        cursor, keys = await self._store.scan(found, cursor, count, records=records)
        return cursor, [key.removeprefix(self._prefix) for key in keys]

    async def flush_db(self, message: bytes) -> bool:
        """Delete everything, also what is not of this run, if that is allowed."""
        if not self._may_flush:
            pytest.skip(NEEDS_FLUSH)
        return await self._store.flush_db(self._wrap(message) or b"")

    async def keep_list(self, name: str, raw: bytes, ttl_ms: int) -> None:
        """Keep a list of keys."""
        await self._store.keep_list(self._list(name), raw, ttl_ms)

    async def kept_list(self, name: str) -> bytes | None:
        """Return a list of keys."""
        return await self._store.kept_list(self._list(name))

    def _list(self, name: str) -> str:
        full = "".join(filter(str.isalnum, self._prefix.lower())) + name
        self._lists.add(full)
        return full

    async def publish(self, message: bytes) -> None:
        """Publish alone."""
        await self._store.publish(self._wrap(message) or b"")

    async def ping(self) -> None:
        """Return if the store answers."""
        await self._store.ping()

    def close(self) -> None:
        """Close idle connections."""
        self._store.close()

    def forget(self) -> None:
        """Drop every connection."""
        self._store.forget()

    async def remove(self, store: L2Store) -> int:
        """Delete all keys that were named, and the lists; return how many may be left.

        ``store`` is that for threads.
        """
        left, keys = 0, list(self._seen)
        for name in self._lists:
            with suppress(L2Error):
                await store.keep_list(name, b"", 1)
        for start in range(0, len(keys), _BATCH):
            some = keys[start : start + _BATCH]
            try:
                await store.delete(some, None)
            except L2Error:  # an account that may write nothing leaves nothing either
                with suppress(L2Error):
                    some = [key for key in some if await store.exists(key)]
                left += len(some)
        return left


def names_of_ours(server: RedisServer) -> set[bytes] | None:
    """Return the keys of cachebridge's own at a server; None if it does not list."""
    found: set[bytes] = set()
    cursor = b"0"
    while True:
        words = (b"SCAN", cursor, b"MATCH", b"cachebridge:*", b"COUNT", b"1000")
        reply = _ask(server, words)
        if not isinstance(reply, list):
            return None
        cursor, names = reply
        found.update(filter(is_own, names))
        if cursor == b"0":
            return found


def remove_names(
    server: RedisServer, known: set[bytes], origins: Sequence[bytes]
) -> None:
    """Delete the keys of cachebridge's own that were not there before.

    Marks and lists of other processes stay: only marks of these ``origins`` go.
    """
    for name in (names_of_ours(server) or set()) - known:
        is_of_process = name.startswith((b"cachebridge:mark:", LISTS))
        if not is_of_process or any(each.hex().encode() in name for each in origins):
            _ask(server, (b"UNLINK", name))


def _ask(server: RedisServer, words: Sequence[bytes]) -> Any:
    link = server.pool.open_unproven()
    try:
        (reply,) = link.exchange(pack(*words), 1)
    finally:
        link.close()
    return reply
