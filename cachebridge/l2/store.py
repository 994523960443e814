"""What the engine expects of a shared store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, runtime_checkable

from cachebridge.core.lease import PLAIN_MARK
from cachebridge.core.ttl import GONE_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cachebridge.core.lease import LeaseGet, LeaseTerms, LoadedRaw, LoadReply

NOT_AN_INTEGER: Final = "not an integer"
"""Answer of ``incr`` if the stored value is no 64-bit integer, or would become none."""

TAGGED: Final = "tagged"
"""Answer of ``exists``, ``add`` and ``touch`` where there is a value whose bytes begin
with ``TAG_MARK`` (``core/dropping/tags.py``), or may begin so: it may not be alive."""

Read = tuple[bytes | None, int]
"""Raw value (None if absent) and PTTL in milliseconds: -1 no expiry, -2 gone."""

SCAN_COUNT: Final = 1000
"""Keys that one step of a scan looks at."""

GONE: Final[Read] = (None, GONE_MS)
"""What is read of a key that does not exist."""

Ttl = int | None | list[int]
"""Milliseconds, None without expiry; a list has one for each item."""


COUNTABLE: Final = range(-(2**53) + 1, 2**53)
"""The integers that a counter may be: those which Lua's numbers tell apart."""


class Bounds(NamedTuple):
    """What the value of a counter may not pass; None does not bound."""

    floor: int | None = None
    ceiling: int | None = None

    def allow(self, value: int, delta: int) -> bool:
        """Return whether ``value`` may change by ``delta``.

        A bound stops only changes towards it.
        """
        bound = self.floor if delta < 0 else self.ceiling
        total = value + delta
        if bound is not None and (total < bound if delta < 0 else total > bound):
            return False
        return total in COUNTABLE


class Counted(NamedTuple):
    """What ``count`` did."""

    changed: bool
    value: int
    """The value afterwards, 0 for a counter that does not exist."""
    ttl_ms: int
    """PTTL before: -1 no expiry, -2 did not exist."""


@runtime_checkable
class Lagging(Protocol):
    """A store that may read from replicas."""

    def past_replicas(self) -> L2Store:
        """Return one that does not."""


class L2Store(Protocol):
    """A shared store.  Thread safe.

    A location has two stores of one class.  A thread carries the coroutines of its
    store to their end with ``cachebridge.waiting.run.run``: they block and never
    suspend.  Tasks await those of theirs, on any event loop.  A method may be a plain
    function that returns the coroutine.

    Each changing call is one atomic action of the server together with the publication
    of ``message``, unless that goes by another server (``l2/two_steps.py``); None
    publishes nothing.  TTLs are milliseconds, None is without
    expiry.  Every method raises L2Error if the store refuses, L2UnavailableError if it
    cannot be reached.

    ``store``, ``add`` that wins, ``incr``, ``count`` that changes, ``replace``,
    ``overwrite`` and ``delete`` also delete the load record of each key
    (``core/lease.py``); after a ``touch`` it follows the value.
    A record serves nothing if the key was changed without this store.  Memcached's
    store promises less: ``l2/memcached/store.py`` says what.
    """

    async def get(self, key: str) -> Read:
        """Read one key."""

    async def get_many(self, keys: Sequence[str]) -> list[Read]:
        """Read several keys in one round trip, in order; not one snapshot."""

    async def exists(self, key: str) -> bool | str:
        """Return whether the key exists, TAGGED for a tagged value."""

    async def store(
        self,
        items: Sequence[tuple[str, bytes]],
        ttl_ms: Ttl,
        message: bytes | None,
    ) -> Sequence[str]:
        """Set all items; return the keys of those for which there is no room.

        The old values of those keys are deleted.
        """

    async def add(
        self, key: str, raw: bytes, ttl_ms: int | None, message: bytes | None
    ) -> bool | str:
        """Set the key if it does not exist; return whether it was set.

        TAGGED says that it was not, because of a tagged value.
        """

    async def touch(
        self, key: str, ttl_ms: int | None, message: bytes | None
    ) -> bool | str:
        """Give an existing key a new TTL; return whether it exists, as ``exists``."""

    async def ttl(self, key: str) -> int:
        """Return what is left of the TTL: -1 no expiry, -2 no such key."""

    async def overwrite(
        self, key: str, raw: bytes, ttl_ms: int | None, message: bytes | None
    ) -> bool | str:
        """Set the key if it exists; return whether it was set.

        TAGGED says that it was not, because the value is tagged.
        """

    async def keep(self, key: str, expected: bytes, ttl_ms: int) -> bool:
        """Give the key a new TTL if it still is ``expected``; return whether it was.

        For keys that no L1 holds, such as a lock's: it publishes nothing.
        """

    async def delete(self, keys: Sequence[str], message: bytes | None) -> int:
        """Delete the keys and publish even if none existed; return how many did."""

    async def delete_older(
        self,
        keys: Sequence[str],
        ages_s: Callable[[], Sequence[float]],
        origin: bytes,
        message: bytes | None,
    ) -> int:
        """Delete those keys that no other process has written for so many seconds.

        ``ages_s`` is asked for the age of each key's failed change as late as possible.
        ``origin`` names this process, as its messages do.  A key of which the store
        does not know stays.  Otherwise as ``delete``.
        """

    async def incr(
        self, key: str, delta: int, message: bytes | None
    ) -> int | str | None:
        """Add to an integer and keep its TTL; None if absent, else NOT_AN_INTEGER."""

    async def count(
        self,
        key: str,
        delta: int,
        bounds: Bounds,
        ttl_ms: int | None,
        message: bytes | None,
    ) -> Counted | None:
        """Add to a counter if the bounds allow it, and publish only then.

        A counter that does not exist is 0, and is made with the TTL; another keeps its
        TTL.  None if the value is no integer, or none of ``COUNTABLE``.
        """

    async def replace(
        self, key: str, expected: bytes, raw: bytes | None, message: bytes | None
    ) -> bool:
        """Set (None: delete) the key, keeping its TTL, if it still is ``expected``."""

    # -- loading -----------------------------------------------------------------

    async def get_or_lease(self, key: str, token: bytes, terms: LeaseTerms) -> LeaseGet:
        """Read the key; if there is nothing to serve, take the right to load it.

        ``token`` names the caller, which gets the lease unless another holds one.
        """

    async def store_loaded(
        self, key: str, loaded: LoadedRaw, lease: LeaseGet, message: bytes | None
    ) -> LoadReply:
        """Set a loaded value if its generation still holds, and end the lease.

        If ``get_or_lease`` found no value and one has appeared since, that one stays.
        """

    async def store_absent(
        self,
        key: str,
        ttl_ms: int,
        lease: LeaseGet,
        message: bytes | None,
        mark: bytes = PLAIN_MARK,
    ) -> LoadReply:
        """Note that there is no such thing (0: only delete), on the same conditions.

        ``get_or_lease`` gives ``mark`` back.
        """

    async def release(
        self, key: str, lease: LeaseGet, keep_ms: int, message: bytes | None
    ) -> bytes | None:
        """End the lease without a value, if the caller still holds it.

        If ``get_or_lease`` was interrupted, a thread first waits until the server has
        carried that out, or never will: it must not take the lease afterwards.

        If there is a copy no older than ``keep_ms`` past its TTL, return it: then the
        lease stays, marked as failed, so that the next try has to wait for its end.
        """

    async def release_unshared(
        self, key: str, lease: LeaseGet, lease_ms: int, message: bytes | None
    ) -> None:
        """End the lease: for ``lease_ms`` every caller may load, for itself alone."""

    # -- everything ---------------------------------------------------------------

    async def clear(self, prefix: str, message: Callable[[], bytes]) -> bool | None:
        """Delete all keys that begin with ``prefix`` at once; None: ``scan`` for them.

        False if one of several servers is away, and will be cleared when it is back.
        """

    async def scan(
        self,
        pattern: str,
        cursor: int,
        count: int = SCAN_COUNT,
        *,
        records: bool = True,
    ) -> tuple[int, list[str]]:
        """Return the next cursor (0 at the end) and some keys matching the glob.

        With ``records`` a key that only has a load record is one of them.  ``count``
        is about how many keys the server looks at.
        """

    async def flush_db(self, message: bytes) -> bool:
        """Delete every key of the database; False as for ``clear``."""

    async def switch(self, name: str, word: bytes, message: bytes) -> None:
        """Keep the fleet's switch, a key that is no caller's, and publish.

        Only a store that publishes its messages itself is asked.
        """

    async def keep_list(self, name: str, raw: bytes, ttl_ms: int) -> None:
        """Keep a list of keys for warm-ups under a name of small letters and digits.

        It is no caller's key, and publishes nothing.
        """

    async def kept_list(self, name: str) -> bytes | None:
        """Return the list of that name, None if there is none."""

    async def publish(self, message: bytes) -> None:
        """Publish a message that goes with no change."""

    async def ping(self) -> None:
        """Return if the store answers; asked even while the breaker is open."""

    def close(self) -> None:
        """Close idle connections; the store opens new ones when used again."""

    def forget(self) -> None:
        """Drop every connection without touching the sockets: the child of a fork."""
