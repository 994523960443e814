"""Loading under a lease: what ``l2/redis/load_scripts.py`` does in Redis.

Memcached has no scripts.  What voids a load is the CAS number of the key's own item: a
load that begins where there is no value leaves an item without one (LOADING), and what
was loaded replaces just that item.  Every write of the key changes the number, and a
delete takes the item along.  The right to load is an item beside it, the *lease*, whose
TTL is the server's to count: no clock of ours is asked.  It holds what has become of
it, in one byte, and its owner's token::

    L   being loaded
    F   the loader raised; while the lease lasts the copy is served
    O   what was loaded can serve no other caller: every caller may load
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cachebridge.core.keys import shown_key
from cachebridge.core.lease import PLAIN_MARK, LeaseGet, LeaseState, LoadReply
from cachebridge.errors import L2Error
from cachebridge.l2.memcached import protocol
from cachebridge.l2.memcached.counting import CountOperations
from cachebridge.l2.memcached.items import (
    LOADING,
    NO_SUCH,
    Item,
    State,
    pack,
    pack_mark,
    read_item,
)
from cachebridge.l2.memcached.names import lease_of
from cachebridge.l2.memcached.protocol import numbers_of
from cachebridge.l2.memcached.requests import (
    checked,
    contention_error,
    error_in,
    is_word,
)

if TYPE_CHECKING:
    from cachebridge.core.lease import LeaseTerms, LoadedRaw
    from cachebridge.l2.memcached.clears import Clears
    from cachebridge.l2.memcached.cluster import Place
    from cachebridge.l2.memcached.protocol import Answer

LOADING_S: Final = 300
LEASES: Final = 10
"""A load that takes longer than both is not stored.  For as long, other clients see the
mark of a loader that was killed."""
BEING_LOADED, FAILED, OPEN = b"L", b"F", b"O"
_CHANGED: Final = (b"STORED", b"HD")
LEAST_LEASE_S: Final = 2
"""Memcached's second may be over at once; a lease of one would keep no caller out."""


class LoadOperations(CountOperations):
    """What each call of a load does with the servers, made for one call."""

    __slots__ = ()

    async def get_or_lease(self, key: str, token: bytes, terms: LeaseTerms) -> LeaseGet:
        """Read the key; if there is nothing to serve, take the lease to load it."""
        place = self.place(key)
        if not terms.is_refresh:  # what is there is mostly served, in one round trip
            item = await self._read(place)
            if (found := _serve(item, token, terms)) is not None:
                return found
        for _ in self._tries():
            item, held, clears = await self._enter(place, token, terms)
            if (found := _serve(item, token, terms)) is not None:
                await self._leave(place, held, token)
                return found
            if item.state is State.NOTHING:  # deleted in between
                continue
            cas = held.cas if held is not None and held.is_of(token) else 0
            return _judge(item, held, token, terms)._replace(
                generation=b"%d %d %d %b"
                % (item.cas, clears.latest, cas, clears.era.encode())
            )
        raise contention_error(key)

    async def _enter(
        self, place: Place, token: bytes, terms: LeaseTerms
    ) -> tuple[Item, _Lease | None, Clears]:
        """Leave an item that every write of the key changes, and try for the lease."""
        stamp = await self._stamp(place.node)
        lease_s = max(LEAST_LEASE_S, protocol.seconds(terms.lease_ms))
        mark = pack_mark(LOADING, max(LOADING_S, LEASES * lease_s), stamp)
        packed = protocol.put(b"add", place.name, *mark) + protocol.read(place.name)
        lease_name = lease_of(place.name)
        if terms.lease_ms:
            expiry, block = protocol.expiry(lease_s), BEING_LOADED + token
            packed += protocol.put(b"add", lease_name, 0, expiry, block)
        packed += protocol.read(lease_name)
        # Sent twice, the same token finds its own lease.
        clears, replies = await self._ask(
            place.node, packed, 4 if terms.lease_ms else 3, token=token
        )
        if not self._has_room(replies[0]):
            error = L2Error(f"there is no room to load {shown_key(place.key)}")
            raise error from error_in(replies[0])
        item = read_item(replies[1], place.key, clears, is_hashed=place.is_hashed)
        if item.state is State.NOTHING and item.cas:  # a dead one is in the way
            await self._swap(place, mark, item)
        return item, _read_lease(replies[-1]), clears

    async def _leave(self, place: Place, held: _Lease | None, token: bytes) -> None:
        """Give back a lease that is not needed after all."""
        if held is not None and held.is_of(token):
            await self._drop_lease(place, held.cas)

    async def _drop_lease(self, place: Place, cas: int) -> None:
        command = protocol.drop(lease_of(place.name), cas)
        await self._send(place.node, command, 1)

    # -- the end of a load -----------------------------------------------------------

    async def store_loaded(
        self, key: str, loaded: LoadedRaw, lease: LeaseGet
    ) -> LoadReply:
        """Set the value if the item is the one that the load began with."""
        place = self.place(key)
        began = _beginning(lease)
        packed = pack(
            key,
            loaded.raw,
            loaded.ttl_ms,
            began.stamp,
            is_hashed=place.is_hashed,
            keep_ms=loaded.keep_ms,
            cost_ms=loaded.cost_ms,
        )
        swap = protocol.swap(place.name, *packed, began.cas)
        return await self._end(place, swap, began)

    async def store_absent(
        self, key: str, ttl_ms: int, lease: LeaseGet, absence: bytes
    ) -> LoadReply:
        """Note that there is no such thing, on the same conditions."""
        place = self.place(key)
        began = _beginning(lease)
        if ttl_ms:
            mark = pack_mark(NO_SUCH, protocol.seconds(ttl_ms), began.stamp, absence)
            change = protocol.swap(place.name, *mark, began.cas)
        else:
            change = protocol.drop(place.name, began.cas)
        return await self._end(place, change, began)

    async def _end(self, place: Place, change: bytes, began: _Beginning) -> LoadReply:
        """End the load and its lease; if in vain, return what is there instead."""
        has_lease = bool(began.lease_cas)
        if has_lease:
            change += protocol.drop(lease_of(place.name), began.lease_cas)
        clears, (reply, *_) = await self._ask(
            place.node, change, 1 + has_lease, idempotent=False
        )
        # Without room the load is in vain, too: no other caller shall wait for it.
        changed = self._has_room(reply) and checked(reply).words[0] in _CHANGED
        if changed and clears.era != began.era:
            # The server has lost everything and counts anew: the item is another's.
            await self._send(place.node, protocol.delete(place.name), 1)
        elif changed and not clears.is_dead(place.key, began.stamp):
            return LoadReply(stored=True)
        item = await self._read(place)
        return LoadReply(False, *item.read)

    async def release(
        self, key: str, lease: LeaseGet, keep_ms: int
    ) -> tuple[bytes | None, bool]:
        """End the lease without a value; return a copy, and whether to publish.

        With a copy to serve, the lease stays, marked as failed.
        """
        place = self.place(key)
        self._clients[place.node].links.settle(lease.token)
        item, held = await self._read_both(place)
        if held is None or not held.is_of(lease.token):
            return None, False
        if item.state is State.COPY and item.age_ms <= keep_ms:
            await self._mark(place, held, FAILED, held.left_s)
            return item.raw, False
        if item.state is State.LOADING:  # first: the next loader leaves one of its own
            await self._drop(place, item)
        await self._drop_lease(place, held.cas)
        return None, item.state is not State.VALUE

    async def release_unshared(self, key: str, lease: LeaseGet, lease_ms: int) -> bool:
        """Let every caller load for a while; return whether the lease was ours."""
        place = self.place(key)
        _, held = await self._read_both(place)
        if held is None or not held.is_of(lease.token):
            return False
        lease_s = max(LEAST_LEASE_S, protocol.seconds(lease_ms))
        await self._mark(place, held, OPEN, lease_s)
        return True

    async def _read_both(self, place: Place) -> tuple[Item, _Lease | None]:
        packed = protocol.read(place.name) + protocol.read(lease_of(place.name))
        clears, replies = await self._ask(place.node, packed, 2)
        item = read_item(replies[0], place.key, clears, is_hashed=place.is_hashed)
        return item, _read_lease(replies[1])

    async def _mark(
        self, place: Place, held: _Lease, state: bytes, left_s: int
    ) -> None:
        """Write the state of a lease, unless it has just ended."""
        block = state + held.token
        expiry = protocol.expiry(left_s)
        command = protocol.swap(lease_of(place.name), 0, expiry, block, held.cas)
        (reply,) = await self._send(place.node, command, 1, idempotent=False)
        is_word(reply, b"STORED")


class _Beginning(NamedTuple):
    """The state that a load began with."""

    cas: int
    """That of its item."""
    stamp: int
    """The latest clear: the value gets its stamp, so that a later one voids it, too."""
    lease_cas: int
    """That of the lease, 0 if another caller has it."""
    era: str


def _beginning(lease: LeaseGet) -> _Beginning:
    cas, stamp, lease_cas, era = lease.generation.split() or (0, 0, 0, b"")
    return _Beginning(int(cas), int(stamp), int(lease_cas), era.decode())


class _Lease(NamedTuple):
    """A lease as it was read."""

    token: bytes
    state: bytes
    left_s: int
    cas: int

    def is_of(self, token: bytes) -> bool:
        """Return whether this token is loading under it."""
        return self.token == token and self.state == BEING_LOADED


def _read_lease(answer: Answer) -> _Lease | None:
    reply = checked(answer)
    numbers, block = numbers_of(reply), reply.block
    if numbers is None or block is None:
        return None
    _, left_s, cas = numbers
    return _Lease(block[1:], block[:1], max(1, left_s), cas)


def _serve(item: Item, token: bytes, terms: LeaseTerms) -> LeaseGet | None:
    """Return what can be served at once; for a refresh, no value can."""
    if item.state is State.NO_SUCH:
        mark = PLAIN_MARK if item.raw is None else item.raw
        return LeaseGet(LeaseState.ABSENT, None, item.ttl_ms, token=token, mark=mark)
    if terms.is_refresh:
        return None
    if item.state is State.VALUE:
        return LeaseGet(
            LeaseState.HIT, item.raw, item.ttl_ms, item.cost_ms, token=token
        )
    if item.state is State.COPY and item.age_ms <= terms.stale_ms:
        return LeaseGet(LeaseState.STALE, item.raw, 0, token=token)
    return None


def _judge(
    item: Item, held: _Lease | None, token: bytes, terms: LeaseTerms
) -> LeaseGet:
    """Return the lease if it is ours, else how long another caller may have it."""
    raw, ttl_ms = item.read
    if (
        held is not None
        and held.token != token
        and held.state != OPEN
        and not terms.joins
    ):
        shown = None
        if held.state == FAILED and item.state is State.COPY:
            shown = item.raw if item.age_ms <= terms.stale_if_error_ms else None
        wait_ms = held.left_s * 1000
        return LeaseGet(LeaseState.BUSY, shown, 0, item.cost_ms, wait_ms, token=token)
    return LeaseGet(LeaseState.LEASE, raw, ttl_ms, item.cost_ms, token=token)
