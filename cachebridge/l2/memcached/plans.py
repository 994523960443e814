"""Single commands as plans: one text for threads and for tasks."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from cachebridge.errors import L2Error, L2UnavailableError
from cachebridge.l2.base import NOT_AN_INTEGER
from cachebridge.l2.commands import Request
from cachebridge.l2.memcached import protocol
from cachebridge.l2.memcached.items import Item, State, is_int64, is_kept, read_item
from cachebridge.l2.memcached.names import lease_of
from cachebridge.l2.memcached.protocol import MemcachedError
from cachebridge.l2.memcached.talk import (
    TRIES,
    Ask,
    Talk,
    checked,
    is_current,
    is_word,
    restless,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cachebridge.l2.base import Read, Ttl
    from cachebridge.l2.memcached.clears import Clears
    from cachebridge.l2.memcached.protocol import Answer
    from cachebridge.l2.memcached.talk import Place, Plan

GONE: Final[Read] = (None, -2)


class Plans(Talk):
    """What each call does with the servers.  Thread safe."""

    # -- reading ---------------------------------------------------------------------

    def get(self, key: str) -> Plan:
        """Return the Read of a key."""
        item: Item = yield from self._read(self.place(key))
        return _read_of(item)

    def get_many(self, keys: Sequence[str]) -> Plan:
        """Return the Read of each key."""
        reads: dict[str, Read] = {}
        for number, places in self._by_node(keys):
            packed = b"".join([protocol.read(place.name) for place in places])
            clears, replies = yield from self._talk(number, packed, len(places))
            for place, reply in zip(places, replies, strict=True):
                item = read_item(reply, place.key, clears, is_hashed=place.is_hashed)
                reads[place.key] = _read_of(item)
        return [reads[key] for key in keys]

    def exists(self, key: str) -> Plan:
        """Tell whether the key has a value."""
        item = yield from self._peek(self.place(key))
        return item.state is State.VALUE

    def _peek(self, place: Place) -> Plan:
        """Return the item of a key, mostly without its bytes."""
        if place.is_hashed:
            return (yield from self._read(place))
        look = protocol.look_at(place.name)
        clears, (reply,) = yield from self._talk(place.node, look, 1)
        return (yield from self._judge_look(place, reply, clears))

    def _judge_look(self, place: Place, reply: Answer, clears: Clears) -> Plan:
        """Return the item that was looked at; read it if the look says too little."""
        if place.is_hashed or is_kept(reply):
            return (yield from self._read(place))
        return read_item(reply, place.key, clears, is_hashed=False)

    # -- writing ---------------------------------------------------------------------

    def store(self, items: Sequence[tuple[str, bytes]], ttl_ms: Ttl) -> Plan:
        """Set all items; return the keys for which there is no room."""
        if len(items) == 1:
            refused = yield from self._store_one(*items[0], ttl_ms)
            if refused is not None:
                return refused
        ttls = ttl_ms if isinstance(ttl_ms, list) else [ttl_ms] * len(items)
        values = {key: (raw, ttl) for (key, raw), ttl in zip(items, ttls, strict=True)}
        refused = []
        sized = self._by_node(values, lambda key: len(values[key][0]))
        for number, places in sized:
            refused += yield from self._store_on(number, places, values)
        return refused

    def _store_one(self, key: str, raw: bytes, ttl_ms: Ttl) -> Plan:
        """Set one item, the short way; None if that will not do."""
        place = self.place(key)
        node = self._node(place.node)
        clears = node.clears
        if clears is None or node.owed_clears or isinstance(ttl_ms, list):
            return None
        item = self._pack(place, raw, ttl_ms, clears.latest)
        packed = protocol.ASK_CLEARS + protocol.put(b"set", place.name, *item)
        first, reply = yield Ask(place.node, Request(packed, 2))
        if not is_current(clears, first):
            return None
        if isinstance(reply, MemcachedError):
            return (yield from self._refused(place.node, [place], [reply]))
        return []

    def _store_on(
        self,
        number: int,
        places: list[Place],
        values: dict[str, tuple[bytes, int | None]],
    ) -> Plan:
        while True:
            stamp = yield from self._stamp(number)
            packed = b"".join(
                [
                    protocol.put(
                        b"set",
                        place.name,
                        *self._pack(place, *values[place.key], stamp),
                    )
                    for place in places
                ]
            )
            clears, replies = yield from self._talk(number, packed, len(places))
            if not any(clears.is_dead(place.key, stamp) for place in places):
                break
        return (yield from self._refused(number, places, replies))

    def _refused(self, number: int, places: list[Place], replies: list[Answer]) -> Plan:
        """Return the keys for which there was no room, and see to their old values."""
        refused = [
            place
            for place, reply in zip(places, replies, strict=True)
            if not self._has_room(reply)
        ]
        for place in refused:
            yield Ask(number, Request(protocol.delete(place.name), 1))
        return [place.key for place in refused]

    def add(self, key: str, raw: bytes, ttl_ms: int | None) -> Plan:
        """Set the value if there is none; tell whether it was set."""
        place = self.place(key)
        for _ in range(TRIES):
            stamp = yield from self._stamp(place.node)
            packed = self._pack(place, raw, ttl_ms, stamp)
            clears, replies = yield from self._talk(
                place.node,
                protocol.put(b"add", place.name, *packed)
                + protocol.look_at(place.name),
                2,
                idempotent=False,
            )
            if not self._has_room(replies[0]):
                return False
            if is_word(replies[0], b"STORED") and not clears.is_dead(key, stamp):
                return True
            item = yield from self._judge_look(place, replies[1], clears)
            if item.state is State.VALUE:
                return False
            if item.cas and (
                yield from self._swap(
                    place, self._pack(place, raw, ttl_ms, stamp), item
                )
            ):
                return True
        raise restless(key)

    def touch(self, key: str, ttl_ms: int | None) -> Plan:
        """Give a value a new TTL; tell whether there is one.

        What was kept of it past its old TTL goes.
        """
        place = self.place(key)
        ttl_s = None if ttl_ms is None else protocol.seconds(ttl_ms)
        touch = protocol.touch(place.name, protocol.expiry(ttl_s))
        for _ in range(TRIES):
            item = yield from self._peek(place)
            if item.state is not State.VALUE:
                return False
            if item.is_kept:
                stamp = yield from self._stamp(place.node)
                packed = self._pack(place, item.raw, ttl_ms, stamp)
                if (yield from self._swap(place, packed, item)):
                    return True
                continue
            touch_and_look = touch + protocol.look_at(place.name)
            clears, replies = yield from self._talk(place.node, touch_and_look, 2)
            touched = read_item(replies[1], key, clears, is_hashed=False)
            if touched.state in {State.LOADING, State.NO_SUCH}:
                yield from self._drop(place, touched)  # it must not live on
            return is_word(replies[0], b"TOUCHED")
        raise restless(key)

    def delete(self, keys: Sequence[str]) -> Plan:
        """Delete the items and their leases; return how many had a value."""
        deleted = 0
        for number, places in self._by_node(keys):
            packed = b"".join(
                [
                    protocol.look_at(place.name)
                    + protocol.delete(place.name)
                    + protocol.delete(lease_of(place.name))
                    for place in places
                ]
            )
            clears, replies = yield from self._talk(number, packed, 3 * len(places))
            for place, look, gone in zip(
                places, replies[::3], replies[1::3], strict=True
            ):
                item = read_item(look, place.key, clears, is_hashed=False)
                deleted += is_word(gone, b"DELETED") and item.state is State.VALUE
        return deleted

    def incr(self, key: str, delta: int) -> Plan:
        """Add to digits, in the server: the TTL stays; see ``L2Store.incr``.

        Memcached knows no negative numbers: those are for compare and set.
        """
        place = self.place(key)
        for _ in range(TRIES):
            if delta >= 0:
                item, reply = yield from self._increase(place, delta)
            else:
                item, reply = yield from self._decrease(place, -delta)
            counted = reply is not None and not _is_not_a_number(reply)
            if counted and item.state is not State.VALUE and checked(reply).block:
                item = yield from self._peek(place)  # it has just come
            if item.state is not State.VALUE:
                return None
            if not counted:
                return NOT_AN_INTEGER
            if checked(reply).block is None:  # changed, or gone meanwhile
                continue
            value = int(reply.block)
            if 0 <= delta <= value <= protocol.INT64_MAX or delta < 0:
                return value
            # Beyond what others take for a number; the server counts modulo 2**64.
            undo = protocol.increase(place.name, 2**64 - delta)
            yield Ask(place.node, Request(undo, 1, idempotent=False))
            return NOT_AN_INTEGER
        raise restless(key)

    def _increase(self, place: Place, delta: int) -> Plan:
        clears, (look, reply) = yield from self._talk(
            place.node,
            protocol.look_at(place.name) + protocol.increase(place.name, delta),
            2,
            idempotent=False,
        )
        return read_item(look, place.key, clears, is_hashed=False), reply

    def _decrease(self, place: Place, delta: int) -> Plan:
        item = yield from self._read(place)
        if item.raw is None or not is_int64(item.raw) or int(item.raw) < delta:
            return item, None
        command = protocol.decrease(place.name, delta, item.cas)
        _, (reply,) = yield from self._talk(place.node, command, 1, idempotent=False)
        return item, reply

    def replace(self, key: str, expected: bytes, raw: bytes | None) -> Plan:
        """Compare and set, or compare and delete.  The TTL stays, to the second."""
        place = self.place(key)
        item = yield from self._read(place)
        if item.state is not State.VALUE or item.raw != expected:
            return False
        if raw is None:
            return (yield from self._drop(place, item))
        ttl_ms = None if item.ttl_ms < 0 else item.ttl_ms
        stamp = yield from self._stamp(place.node)
        packed = self._pack(place, raw, ttl_ms, stamp)
        return (yield from self._swap(place, packed, item))

    # -- everything ------------------------------------------------------------------

    def clear(self, prefix: str) -> Plan:
        """Make every item dead whose key begins with ``prefix``, on every server.

        One of several that is away is cleared before it is used again; then False.
        """
        return (
            yield from self._on_all(
                lambda number: self._clear_on(number, prefix), prefix
            )
        )

    def _on_all(self, plan_for: Callable[[int], Plan], prefix: str) -> Plan:
        """Carry a plan out for every server; False if one was away."""
        failures: dict[int, L2Error] = {}
        for number in range(len(self._cluster.nodes)):
            try:
                yield from plan_for(number)
            except L2UnavailableError as exc:
                failures[number] = exc
        if len(failures) == len(self._cluster.nodes):
            raise failures[0]
        for number in failures:
            self._node(number).owed_clears[prefix] = None
        return not failures

    def pay_clears(self) -> Plan:
        """Clear the servers that were away, as far as they are back."""
        for number, node in enumerate(self._cluster.nodes):
            if node.owed_clears:
                with suppress(L2Error):
                    yield from self._talk(number, b"", 0)

    def flush(self) -> Plan:
        """Delete every item of every server; see ``clear``."""
        return (yield from self._on_all(self._flush_on, ""))

    def _flush_on(self, number: int) -> Plan:
        (reply,) = yield Ask(number, Request(protocol.FLUSH, 1))
        checked(reply)
        self._node(number).clears = None


def _is_not_a_number(answer: Answer) -> bool:
    return isinstance(answer, MemcachedError) and "non-numeric" in str(answer)


def _read_of(item: Item) -> Read:
    return (item.raw, item.ttl_ms) if item.state is State.VALUE else GONE
