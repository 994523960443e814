"""Loading under a lease as plans: what ``load_scripts`` are in Redis.

Memcached has no scripts.  What voids a load is the CAS number of the key's own item: a
load that begins where there is no value leaves an item without one (LOADING), and what
was loaded replaces just that item.  Every write of the key changes the number, and a
delete takes the item along.  Who may load is another item beside it, the *lease*, whose
TTL is the server's to count: no clock of ours is asked.  It holds what has become of
it, in one byte, and its owner's token::

    L   being loaded
    F   the loader raised; while the lease lasts the copy is served
    O   what was loaded can serve nobody else: everybody may load
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cachebridge.core.lease import LoadReply, Look, LookState
from cachebridge.l2.commands import Request
from cachebridge.l2.memcached import protocol
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
from cachebridge.l2.memcached.plans import Plans
from cachebridge.l2.memcached.talk import (
    TRIES,
    Ask,
    checked,
    is_word,
    restless,
)

if TYPE_CHECKING:
    from cachebridge.core.lease import LoadedRaw, LookTerms
    from cachebridge.l2.memcached.protocol import Answer
    from cachebridge.l2.memcached.talk import Place, Plan

LOADING_S: Final = 300
LEASES: Final = 10
"""A load that takes longer than both is not stored.  Other clients meet what is left of
a loader that was killed for as long."""
BEING_LOADED, FAILED, OPEN = b"L", b"F", b"O"
LEAST_LEASE_S: Final = 2
"""Memcached's second may be over at once; a lease of one would not keep anybody out."""


class LoadPlans(Plans):
    """What the calls of a load do with the servers.  Thread safe."""

    def look(self, key: str, token: bytes, terms: LookTerms) -> Plan:
        """Read the key; if there is nothing to serve, take the lease to load it."""
        place = self.place(key)
        if not terms.is_refresh:  # what is there is mostly served, in one round trip
            item = yield from self._read(place)
            if (found := _serve(item, token, terms)) is not None:
                return found
        for _ in range(TRIES):
            item, lease, clears = yield from self._enter(place, token, terms)
            if (found := _serve(item, token, terms)) is not None:
                yield from self._leave(place, lease, token)
                return found
            if item.state is State.NOTHING:  # deleted in between
                continue
            cas = lease.cas if lease is not None and lease.is_of(token) else 0
            return _judge(item, lease, token, terms)._replace(
                generation=b"%d %d %d %b"
                % (item.cas, clears.latest, cas, clears.era.encode())
            )
        raise restless(key)

    def _enter(self, place: Place, token: bytes, terms: LookTerms) -> Plan:
        """Leave an item that a write of the key would change, and try for the lease."""
        stamp = yield from self._stamp(place.node)
        lease_s = max(LEAST_LEASE_S, protocol.seconds(terms.lease_ms))
        mark = pack_mark(LOADING, max(LOADING_S, LEASES * lease_s), stamp)
        packed = protocol.put(b"add", place.name, *mark) + protocol.read(place.name)
        lease_name = lease_of(place.name)
        if terms.lease_ms:
            packed += protocol.put(b"add", lease_name, 0, lease_s, BEING_LOADED + token)
        packed += protocol.read(lease_name)
        # Sent twice, the same token finds its own lease.
        clears, replies = yield from self._talk(
            place.node, packed, 4 if terms.lease_ms else 3
        )
        item = read_item(replies[1], place.key, clears, is_hashed=place.is_hashed)
        if item.state is State.NOTHING and item.cas:  # a dead one is in the way
            yield from self._swap(place, mark, item)
        return item, _read_lease(replies[-1]), clears

    def _leave(self, place: Place, lease: _Lease | None, token: bytes) -> Plan:
        """Give back a lease that is not needed after all."""
        if lease is not None and lease.is_of(token):
            yield from self._drop_lease(place, lease.cas)

    def _drop_lease(self, place: Place, cas: int) -> Plan:
        command = protocol.drop(lease_of(place.name), cas)
        yield Ask(place.node, Request(command, 1))

    # -- the end of a load -----------------------------------------------------------

    def store_loaded(self, key: str, loaded: LoadedRaw, look: Look) -> Plan:
        """Set the value if the item is the one that the load began with."""
        place = self.place(key)
        cas, stamp, *_ = _beginning(look)
        packed = pack(
            key,
            loaded.raw,
            loaded.ttl_ms,
            stamp,
            is_hashed=place.is_hashed,
            keep_ms=loaded.keep_ms,
            cost_ms=loaded.cost_ms,
        )
        swap = protocol.swap(place.name, *packed, cas)
        return (yield from self._end(place, swap, stamp, look))

    def store_absent(self, key: str, ttl_ms: int, look: Look) -> Plan:
        """Note that there is no such thing, on the same conditions."""
        place = self.place(key)
        cas, stamp, *_ = _beginning(look)
        if ttl_ms:
            mark = pack_mark(NO_SUCH, protocol.seconds(ttl_ms), stamp)
            change = protocol.swap(place.name, *mark, cas)
        else:
            change = protocol.drop(place.name, cas)
        return (yield from self._end(place, change, stamp, look))

    def _end(self, place: Place, change: bytes, stamp: int, look: Look) -> Plan:
        """End the load and its lease; say what is there instead, if it was in vain."""
        *_, lease_cas, era = _beginning(look)
        if lease_cas:
            change += protocol.drop(lease_of(place.name), lease_cas)
        clears, (reply, *_) = yield from self._talk(
            place.node, change, 2 if lease_cas else 1, idempotent=False
        )
        # Without room it is in vain, too: nobody shall wait for it.
        changed = self._has_room(reply) and reply.words[0] in {b"STORED", b"HD"}
        if changed and clears.era != era:
            # The server has lost everything, and numbers began anew: it is another's.
            yield Ask(place.node, Request(protocol.delete(place.name), 1))
        elif changed and not clears.is_dead(place.key, stamp):
            return LoadReply(stored=True)
        item = yield from self._read(place)
        if item.state is State.VALUE:
            return LoadReply(False, item.raw, item.ttl_ms)
        return LoadReply(stored=False)

    def release(self, key: str, look: Look, keep_ms: int) -> Plan:
        """End the lease without a value; return a copy to serve, and whether to tell.

        With a copy the lease stays, marked as failed.
        """
        place = self.place(key)
        item, lease = yield from self._read_both(place)
        if lease is None or not lease.is_of(look.token):
            return None, False
        if item.state is State.COPY and item.age_ms <= keep_ms:
            yield from self._mark(place, lease, FAILED, lease.left_s)
            return item.raw, False
        if item.state is State.LOADING:  # first: the next loader leaves one of its own
            yield from self._drop(place, item)
        yield from self._drop_lease(place, lease.cas)
        return None, item.state is not State.VALUE

    def release_unshared(self, key: str, look: Look, lease_ms: int) -> Plan:
        """End the lease, and let everybody load for a while; tell if it was ours."""
        place = self.place(key)
        _, lease = yield from self._read_both(place)
        if lease is None or not lease.is_of(look.token):
            return False
        lease_s = max(LEAST_LEASE_S, protocol.seconds(lease_ms))
        yield from self._mark(place, lease, OPEN, lease_s)
        return True

    def _read_both(self, place: Place) -> Plan:
        packed = protocol.read(place.name) + protocol.read(lease_of(place.name))
        clears, replies = yield from self._talk(place.node, packed, 2)
        item = read_item(replies[0], place.key, clears, is_hashed=place.is_hashed)
        return item, _read_lease(replies[1])

    def _mark(self, place: Place, lease: _Lease, state: bytes, left_s: int) -> Plan:
        """Note what has become of a lease, unless it has just ended."""
        block = state + lease.token
        command = protocol.swap(lease_of(place.name), 0, left_s, block, lease.cas)
        (reply,) = yield Ask(place.node, Request(command, 1, idempotent=False))
        is_word(reply, b"STORED")


def _beginning(look: Look) -> tuple[int, int, int, str]:
    """Return how things were when the load began.

    The CAS number of its item; the latest clear, whose stamp the value gets, so that a
    clear since then voids it, too; the CAS number of the lease, 0 if it is another's;
    and the era.
    """
    cas, stamp, lease_cas, era = look.generation.split() or (0, 0, 0, b"")
    return int(cas), int(stamp), int(lease_cas), era.decode()


class _Lease(NamedTuple):
    """A lease as it was read."""

    token: bytes
    state: bytes
    left_s: int
    cas: int

    def is_of(self, token: bytes) -> bool:
        """Tell whether it is being used by this token."""
        return self.token == token and self.state == BEING_LOADED


def _read_lease(answer: Answer) -> _Lease | None:
    words, block = checked(answer)
    if block is None:
        return None
    return _Lease(block[1:], block[:1], max(1, int(words[-2][1:])), int(words[-1][1:]))


def _serve(item: Item, token: bytes, terms: LookTerms) -> Look | None:
    """Return what can be served at once; a refresh wants none of the values."""
    if item.state is State.NO_SUCH:
        return Look(LookState.ABSENT, None, item.ttl_ms, token=token)
    if terms.is_refresh:
        return None
    if item.state is State.VALUE:
        return Look(LookState.HIT, item.raw, item.ttl_ms, item.cost_ms, token=token)
    if item.state is State.COPY and item.age_ms <= terms.stale_ms:
        return Look(LookState.STALE, item.raw, 0, token=token)
    return None


def _judge(item: Item, lease: _Lease | None, token: bytes, terms: LookTerms) -> Look:
    """Tell whether the lease is ours, or how long somebody else may have it."""
    raw, ttl_ms = (item.raw, item.ttl_ms) if item.state is State.VALUE else (None, -2)
    if (
        lease is not None
        and lease.token != token
        and lease.state != OPEN
        and not terms.joins
    ):
        shown = None
        if lease.state == FAILED and item.state is State.COPY:
            shown = item.raw if item.age_ms <= terms.stale_if_error_ms else None
        wait_ms = lease.left_s * 1000
        return Look(LookState.BUSY, shown, 0, item.cost_ms, wait_ms, token=token)
    return Look(LookState.LEASE, raw, ttl_ms, item.cost_ms, token=token)
