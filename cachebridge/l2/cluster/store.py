"""The store of a cluster: each call goes to the master of its key's slot.

A batch becomes one script for each slot, atomic with its own message; the scripts of
one master travel together.  What a script needs besides the key is in the key's slot.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from cachebridge.core.lease import PLAIN_MARK
from cachebridge.errors import L2Error
from cachebridge.l2.cluster.existing import ExistingKeys
from cachebridge.l2.cluster.slots import slot_of
from cachebridge.l2.connections.group import ping_any
from cachebridge.l2.redis.names import LISTS, name_of
from cachebridge.l2.redis.store import READ_BATCH
from cachebridge.l2.store import SCAN_COUNT
from cachebridge.l2.two_steps import announced

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from typing import TypeAlias

    from cachebridge.core.lease import LeaseGet, LeaseTerms, LoadedRaw, LoadReply
    from cachebridge.l2.redis.commands import Call
    from cachebridge.l2.redis.store import RedisStore
    from cachebridge.l2.store import Bounds, Counted, Read, Ttl
    from cachebridge.l2.two_steps import Outbox

    Answer: TypeAlias = Coroutine[Any, Any, "T"]
    Narrow: TypeAlias = Callable[[bytes, Iterable[Sequence[str]]], list[bytes]]

T = TypeVar("T")

NODE_BITS: Final = 10
"""Bits of a cursor that number the master.

As many say how often the masters have become others, and its own cursor is above.
"""
NODES: Final = 1 << NODE_BITS


class Master(Protocol):
    """One master, with a store for threads and one for tasks."""

    threads: RedisStore
    tasks: RedisStore


class Masters(Protocol):
    """All masters of a cluster."""

    changes: int
    """How often the masters have become others."""

    @property
    def servers(self) -> Sequence[Master]:
        """All that may have connections, also some that are no masters now."""

    def owner(self, slot: int) -> Master:
        """Return the master that has the slot; some node if that is not known."""

    def all(self) -> Sequence[Master]:
        """Return the masters in an order that lasts; some node if none is known."""

    async def look(self, side: Callable[[Any], RedisStore]) -> None:
        """Ask a master for the map: another one is a departure, and used from now."""

    def close(self) -> None:
        """Close idle connections."""

    def forget(self) -> None:
        """Drop every connection: they belong to the parent process."""


class ClusterStore(ExistingKeys):
    """See ``L2Store``.  For threads or for tasks, as ``side`` says."""

    def __init__(
        self,
        masters: Masters,
        *,
        side: str,
        narrow: Narrow,
        outbox: Outbox | None = None,
    ) -> None:
        """``narrow`` makes, of one message, one about each group of its keys."""
        self._masters = masters
        self._side: Callable[[Master], RedisStore] = attrgetter(side)
        self._narrow = narrow
        self._outbox = outbox

    def _at(self, key: str) -> RedisStore:
        return self._side(self._masters.owner(slot_of(name_of(key))))

    def _all(self) -> list[RedisStore]:
        return [self._side(master) for master in self._masters.all()]

    # -- one key -----------------------------------------------------------------

    def get(self, key: str) -> Answer[Read]:
        """Read one key."""
        return self._at(key).get(key)

    def exists(self, key: str) -> Answer[bool | str]:
        """Return whether the key exists."""
        return self._at(key).exists(key)

    def add(
        self, key: str, raw: bytes, ttl_ms: int | None, message: bytes | None
    ) -> Answer[bool | str]:
        """Set the key if it does not exist."""
        return self._at(key).add(key, raw, ttl_ms, message)

    def touch(
        self, key: str, ttl_ms: int | None, message: bytes | None
    ) -> Answer[bool | str]:
        """Give an existing key a new TTL."""
        return self._at(key).touch(key, ttl_ms, message)

    def incr(
        self, key: str, delta: int, message: bytes | None
    ) -> Answer[int | str | None]:
        """Add to an integer."""
        return self._at(key).incr(key, delta, message)

    def count(
        self,
        key: str,
        delta: int,
        bounds: Bounds,
        ttl_ms: int | None,
        message: bytes | None,
    ) -> Answer[Counted | None]:
        """Add to a counter if the bounds allow it."""
        return self._at(key).count(key, delta, bounds, ttl_ms, message)

    def replace(
        self, key: str, expected: bytes, raw: bytes | None, message: bytes | None
    ) -> Answer[bool]:
        """Compare and set, or compare and delete."""
        return self._at(key).replace(key, expected, raw, message)

    def get_or_lease(
        self, key: str, token: bytes, terms: LeaseTerms
    ) -> Answer[LeaseGet]:
        """Read the key, or take the right to load it."""
        return self._at(key).get_or_lease(key, token, terms)

    def store_loaded(
        self, key: str, loaded: LoadedRaw, lease: LeaseGet, message: bytes | None
    ) -> Answer[LoadReply]:
        """Set a loaded value under its generation."""
        return self._at(key).store_loaded(key, loaded, lease, message)

    def store_absent(
        self,
        key: str,
        ttl_ms: int,
        lease: LeaseGet,
        message: bytes | None,
        mark: bytes = PLAIN_MARK,
    ) -> Answer[LoadReply]:
        """Note that there is no such thing."""
        return self._at(key).store_absent(key, ttl_ms, lease, message, mark)

    def release(
        self, key: str, lease: LeaseGet, keep_ms: int, message: bytes | None
    ) -> Answer[bytes | None]:
        """End the lease without a value; it may have been asked for elsewhere."""
        for each in self._masters.servers:
            self._side(each).settle(lease)
        return self._at(key).release(key, lease, keep_ms, message)

    def release_unshared(
        self, key: str, lease: LeaseGet, lease_ms: int, message: bytes | None
    ) -> Answer[None]:
        """End the lease, and let every caller load for a while."""
        return self._at(key).release_unshared(key, lease, lease_ms, message)

    # -- several keys --------------------------------------------------------------

    async def _each_slot(
        self,
        keys: Sequence[str],
        message: bytes | None,
        make: Callable[[RedisStore, list[int], bytes | None], Call[T]],
    ) -> list[tuple[list[int], T]]:
        """Send what ``make`` returns for the keys of each slot, given as positions.

        All requests for one master travel together, each of a thousand keys at most.
        """
        slots: dict[int, list[int]] = {}
        for at, key in enumerate(keys):
            slots.setdefault(slot_of(name_of(key)), []).append(at)
        parts = [
            (slot, held[start : start + READ_BATCH])
            for slot, held in slots.items()
            for start in range(0, len(held), READ_BATCH)
        ]
        groups = [group for _, group in parts]
        messages: Sequence[bytes | None] = [message] * len(groups)
        if message is not None and self._outbox is None and len(groups) > 1:
            messages = self._narrow(message, [[keys[i] for i in g] for g in groups])
        calls: dict[RedisStore, list[tuple[list[int], Call[T]]]] = {}
        for (slot, group), narrowed in zip(parts, messages, strict=True):
            store = self._side(self._masters.owner(slot))
            calls.setdefault(store, []).append((group, make(store, group, narrowed)))
        results = await _one_by_one(
            [
                store.client.run_each([call for _, call in calls[store]])  # type: ignore[union-attr] # no node reads from a replica
                for store in calls
            ]
        )
        return [
            (group, result)
            for pairs, few in zip(calls.values(), results, strict=True)
            for (group, _), result in zip(pairs, few, strict=True)
        ]

    def _announced(self, change: Answer[T], message: bytes | None) -> Answer[T]:
        """Let the message follow a change, if another server publishes it."""
        if self._outbox is None or message is None:
            return change
        return announced(change, message, self._outbox)

    async def get_many(self, keys: Sequence[str]) -> list[Read]:
        """Read several keys, in one round trip to each master."""
        reads: dict[int, Read] = {}
        for group, found in await self._each_slot(
            keys, None, lambda store, at, _: store.reading([keys[i] for i in at])
        ):
            reads.update(zip(group, found, strict=True))
        return [reads[at] for at in range(len(keys))]

    def store(
        self,
        items: Sequence[tuple[str, bytes]],
        ttl_ms: Ttl,
        message: bytes | None,
    ) -> Answer[Sequence[str]]:
        """Set all items."""
        if len(items) == 1:
            return self._at(items[0][0]).store(items, ttl_ms, message)
        return self._announced(self._store(items, ttl_ms, message), message)

    async def _store(
        self, items: Sequence[tuple[str, bytes]], ttl_ms: Ttl, message: bytes | None
    ) -> Sequence[str]:
        def make(
            store: RedisStore, at: list[int], narrowed: bytes | None
        ) -> Call[Sequence[str]]:
            ttls = [ttl_ms[i] for i in at] if isinstance(ttl_ms, list) else ttl_ms
            return store.storing([items[i] for i in at], ttls, narrowed)

        refused: list[str] = []
        for _, few in await self._each_slot([key for key, _ in items], message, make):
            refused += few
        return refused

    def delete(self, keys: Sequence[str], message: bytes | None) -> Answer[int]:
        """Delete the keys; always publish."""
        if len(keys) == 1:
            return self._at(keys[0]).delete(keys, message)

        def make(store: RedisStore, at: list[int], narrowed: bytes | None) -> Call[int]:
            return store.deleting([keys[i] for i in at], narrowed)

        return self._announced(self._sum(keys, message, make), message)

    def delete_older(
        self,
        keys: Sequence[str],
        ages_s: Callable[[], Sequence[float]],
        origin: bytes,
        message: bytes | None,
    ) -> Answer[int]:
        """Delete the keys that no other process has written since."""

        def make(store: RedisStore, at: list[int], narrowed: bytes | None) -> Call[int]:
            def ages_of_these() -> list[float]:
                ages = ages_s()
                return [ages[i] for i in at]

            few = [keys[i] for i in at]
            return store.deleting_older(few, ages_of_these, origin, narrowed)

        return self._announced(self._sum(keys, message, make), message)

    async def _sum(
        self,
        keys: Sequence[str],
        message: bytes | None,
        make: Callable[[RedisStore, list[int], bytes | None], Call[int]],
    ) -> int:
        return sum([few for _, few in await self._each_slot(keys, message, make)])

    # -- everything ---------------------------------------------------------------

    async def clear(self, _prefix: str, _message: Callable[[], bytes]) -> None:
        """Return None: keys have to be found with ``scan``."""

    async def scan(
        self,
        pattern: str,
        cursor: int,
        count: int = SCAN_COUNT,
        *,
        records: bool = True,
    ) -> tuple[int, list[str]]:
        """Make one step of a SCAN of one master after the other."""
        rest, at = cursor >> 2 * NODE_BITS, cursor & NODES - 1
        changes, every = self._changes(), self._all()
        if cursor and cursor >> NODE_BITS & NODES - 1 != changes:
            rest, at = 0, 0  # the masters are others now: begin anew
        rest, keys = await every[at].scan(pattern, rest, count, records=records)
        if not rest:
            at += 1
        if at == len(every):
            await self._masters.look(self._side)
            if self._changes() == changes:
                return 0, keys
            at = 0
        return (rest << 2 * NODE_BITS) + (changes << NODE_BITS) + at, keys

    def _changes(self) -> int:
        """Return a number above 0 that differs if the masters have become others."""
        return 1 + self._masters.changes % (NODES - 1)

    def flush_db(self, message: bytes) -> Answer[bool]:
        """Delete every key of every master."""
        return self._announced(self._flush_db(message), message)

    async def _flush_db(self, message: bytes) -> bool:
        return all(
            await _one_by_one(
                [each.client.run(*each.flushing(message)) for each in self._all()]
            )
        )

    def switch(self, name: str, word: bytes, message: bytes) -> Answer[None]:
        """Set the key of cachebridge's own, and publish."""
        master = self._masters.owner(slot_of(name.encode()))
        return self._side(master).switch(name, word, message)

    def keep_list(self, name: str, raw: bytes, ttl_ms: int) -> Answer[None]:
        """Set a list of keys."""
        return self._of_list(name).keep_list(name, raw, ttl_ms)

    def kept_list(self, name: str) -> Answer[bytes | None]:
        """Return a list of keys."""
        return self._of_list(name).kept_list(name)

    def _of_list(self, name: str) -> RedisStore:
        return self._side(self._masters.owner(slot_of(LISTS + name.encode())))

    async def publish(self, message: bytes) -> None:
        """Publish at every master: each session then hears it in its order."""
        for each in self._all() if self._outbox is None else self._all()[:1]:
            await each.publish(message)

    def ping(self) -> Answer[None]:
        """Return if a master answers."""
        return ping_any([(each.client.breaker, each.ping) for each in self._all()])

    def close(self) -> None:
        """Close idle connections."""
        self._masters.close()

    def forget(self) -> None:
        """Drop every connection: they belong to the parent process."""
        self._masters.forget()


async def _one_by_one(requests: Sequence[Answer[T]]) -> list[T]:
    """Carry out the requests to several masters; return what they return.

    The first failure ends it.  If an earlier request was carried out, it is no failure
    of a call that has not been sent.
    """
    results: list[T] = []
    left = iter(requests)
    try:
        for request in left:
            results.append(await request)  # noqa: PERF401 what there is counts
    except L2Error as error:
        error.is_unsent = error.is_unsent and not results
        raise
    finally:
        for request in left:
            request.close()
    return results
