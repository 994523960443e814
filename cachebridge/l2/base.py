"""What the engine expects of a shared store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cachebridge.core.lease import LoadedRaw, LoadReply, Look, LookTerms

NOT_AN_INTEGER: Final = "not an integer"
"""Answer of ``incr`` when the stored value is not a 64-bit integer or would not be."""

Read = tuple[bytes | None, int]
"""Raw value (None if absent) and PTTL in milliseconds: -1 no expiry, -2 gone."""

Ttl = int | None | list[int]
"""Milliseconds, None without expiry; a list has one for each item."""


class L2Store(Protocol):
    """A shared store.  Thread safe.

    Each changing call is one atomic action of the server together with the publication
    of ``message``; None publishes nothing.  TTLs are milliseconds, None is without
    expiry.  Every method raises L2Error if the store refuses, L2UnavailableError if it
    cannot be reached.

    ``store``, ``add`` that wins, ``incr``, ``replace`` and ``delete`` also delete the
    load record of each key (``core/lease.py``).  Memcached's store is weaker in some of
    this; ``l2/memcached/store.py`` says in what.
    """

    def get(self, key: str) -> Read:
        """Read one key."""

    def get_many(self, keys: Sequence[str]) -> list[Read]:
        """Read several keys in one round trip, in order; not one snapshot."""

    def exists(self, key: str) -> bool:
        """Tell whether the key exists."""

    def store(
        self,
        items: Sequence[tuple[str, bytes]],
        ttl_ms: Ttl,
        message: bytes | None,
    ) -> Sequence[str]:
        """Set all items; return the keys of those for which there is no room.

        Of these nothing is left, their old values neither.
        """

    def add(
        self, key: str, raw: bytes, ttl_ms: int | None, message: bytes | None
    ) -> bool:
        """Set the key if it does not exist; tell whether it was set."""

    def touch(self, key: str, ttl_ms: int | None, message: bytes | None) -> bool:
        """Give an existing key a new TTL; tell whether it exists."""

    def delete(self, keys: Sequence[str], message: bytes | None) -> int:
        """Delete the keys and publish even if none existed; return how many did."""

    def incr(self, key: str, delta: int, message: bytes | None) -> int | str | None:
        """Add to an integer and keep its TTL; None if absent, else NOT_AN_INTEGER."""

    def replace(
        self, key: str, expected: bytes, raw: bytes | None, message: bytes | None
    ) -> bool:
        """Set (None: delete) the key, keeping its TTL, if it still is ``expected``."""

    # -- loading -----------------------------------------------------------------

    def look(self, key: str, token: bytes, terms: LookTerms) -> Look:
        """Read the key; if there is nothing to serve, take the right to load it.

        ``token`` names the asker, who gets the lease unless somebody else holds one.
        """

    def store_loaded(
        self, key: str, loaded: LoadedRaw, look: Look, message: bytes | None
    ) -> LoadReply:
        """Set a loaded value if its generation still holds, and end the lease.

        A value that appeared meanwhile (``look`` found none) stays.
        """

    def store_absent(
        self, key: str, ttl_ms: int, look: Look, message: bytes | None
    ) -> LoadReply:
        """Note that there is no such thing (0: only delete), on the same conditions."""

    def release(
        self, key: str, look: Look, keep_ms: int, message: bytes | None
    ) -> bytes | None:
        """End the lease without a value, if the asker still holds it.

        If there is a copy no older than ``keep_ms`` past its TTL, return it: then the
        lease stays, marked as failed, so that the next try has to wait for its end.
        """

    def release_unshared(
        self, key: str, look: Look, lease_ms: int, message: bytes | None
    ) -> None:
        """End the lease: for ``lease_ms`` everybody may load, since none can share."""

    # -- everything ---------------------------------------------------------------

    def clear(self, prefix: str, message: Callable[[], bytes]) -> bool | None:
        """Delete all keys that begin with ``prefix`` at once; None: ``scan`` for them.

        False if one of several servers is away, and will be cleared when it is back.
        """

    def scan(self, pattern: str, cursor: int) -> tuple[int, list[str]]:
        """Return the next cursor (0 at the end) and some keys matching the glob."""

    def flush_db(self, message: bytes) -> bool:
        """Delete every key of the database; False as for ``clear``."""

    def publish(self, message: bytes) -> None:
        """Publish a message that goes with no change."""

    def ping(self) -> None:
        """Return if the store answers."""

    def close(self) -> None:
        """Close idle connections; the store opens new ones when used again."""

    def forget(self) -> None:
        """Drop every connection without touching the sockets: the child of a fork."""


class AsyncL2Store(Protocol):
    """See ``L2Store``.  For tasks; a method may be awaited on any event loop."""

    async def get(self, key: str) -> Read:
        """See ``L2Store``."""

    async def get_many(self, keys: Sequence[str]) -> list[Read]:
        """See ``L2Store``."""

    async def exists(self, key: str) -> bool:
        """See ``L2Store``."""

    async def store(
        self,
        items: Sequence[tuple[str, bytes]],
        ttl_ms: Ttl,
        message: bytes | None,
    ) -> Sequence[str]:
        """See ``L2Store``."""

    async def add(
        self, key: str, raw: bytes, ttl_ms: int | None, message: bytes | None
    ) -> bool:
        """See ``L2Store``."""

    async def touch(self, key: str, ttl_ms: int | None, message: bytes | None) -> bool:
        """See ``L2Store``."""

    async def delete(self, keys: Sequence[str], message: bytes | None) -> int:
        """See ``L2Store``."""

    async def incr(
        self, key: str, delta: int, message: bytes | None
    ) -> int | str | None:
        """See ``L2Store``."""

    async def replace(
        self, key: str, expected: bytes, raw: bytes | None, message: bytes | None
    ) -> bool:
        """See ``L2Store``."""

    async def look(self, key: str, token: bytes, terms: LookTerms) -> Look:
        """See ``L2Store``."""

    async def store_loaded(
        self, key: str, loaded: LoadedRaw, look: Look, message: bytes | None
    ) -> LoadReply:
        """See ``L2Store``."""

    async def store_absent(
        self, key: str, ttl_ms: int, look: Look, message: bytes | None
    ) -> LoadReply:
        """See ``L2Store``."""

    async def release(
        self, key: str, look: Look, keep_ms: int, message: bytes | None
    ) -> bytes | None:
        """See ``L2Store``."""

    async def release_unshared(
        self, key: str, look: Look, lease_ms: int, message: bytes | None
    ) -> None:
        """See ``L2Store``."""

    async def clear(self, prefix: str, message: Callable[[], bytes]) -> bool | None:
        """See ``L2Store``."""

    async def scan(self, pattern: str, cursor: int) -> tuple[int, list[str]]:
        """See ``L2Store``."""

    async def flush_db(self, message: bytes) -> bool:
        """See ``L2Store``."""

    async def publish(self, message: bytes) -> None:
        """See ``L2Store``."""
