"""Single commands: reading, writing, counting, clearing."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from cachebridge.errors import L2Error, L2UnavailableError
from cachebridge.l2.connections.group import ping_any
from cachebridge.l2.memcached import protocol
from cachebridge.l2.memcached.items import (
    MOST_DIGITS,
    Item,
    State,
    is_int64,
    is_kept,
    pack,
    read_item,
)
from cachebridge.l2.memcached.names import lease_of
from cachebridge.l2.memcached.protocol import MemcachedError, Request
from cachebridge.l2.memcached.requests import (
    Requests,
    checked,
    contention_error,
    is_current,
    is_word,
)
from cachebridge.l2.store import NOT_AN_INTEGER, TAGGED

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from cachebridge.l2.memcached.clears import Clears
    from cachebridge.l2.memcached.cluster import Place
    from cachebridge.l2.memcached.protocol import Answer
    from cachebridge.l2.store import Read, Ttl


class Operations(Requests):
    """What each call of the store does with the servers, made for one call."""

    __slots__ = ()

    # -- reading ---------------------------------------------------------------------

    async def get(self, key: str) -> Read:
        """Return the Read of a key."""
        place = self.place(key)
        clears, (reply,) = await self._ask(place.node, protocol.read(place.name), 1)
        return read_item(reply, key, clears, is_hashed=place.is_hashed).read

    async def get_many(self, keys: Sequence[str]) -> list[Read]:
        """Return the Read of each key."""
        reads: dict[str, Read] = {}
        for number, places in self._by_node(keys):
            packed = b"".join([protocol.read(place.name) for place in places])
            clears, replies = await self._ask(number, packed, len(places))
            for place, reply in zip(places, replies, strict=True):
                item = read_item(reply, place.key, clears, is_hashed=place.is_hashed)
                reads[place.key] = item.read
        return [reads[key] for key in keys]

    async def exists(self, key: str) -> bool | str:
        """Return whether the key has a value."""
        item = await self._peek(self.place(key))
        return TAGGED if item.is_tagged else item.state is State.VALUE

    async def _peek(self, place: Place) -> Item:
        """Return the item of a key, mostly without its bytes."""
        if place.is_hashed:
            return await self._read(place)
        clears, (reply,) = await self._ask(place.node, protocol.look_at(place.name), 1)
        return await self._judge(place, reply, clears)

    async def _judge(self, place: Place, reply: Answer, clears: Clears) -> Item:
        """Return the item that was looked at; read it if the reply says too little."""
        if place.is_hashed or is_kept(reply):
            return await self._read(place)
        return read_item(reply, place.key, clears, is_hashed=False)

    # -- writing ---------------------------------------------------------------------

    async def store(self, items: Sequence[tuple[str, bytes]], ttl_ms: Ttl) -> list[str]:
        """Set all items; return the keys for which there is no room."""
        short = self._store_request(items, ttl_ms)
        if short is not None:
            place, clears, packed = short
            first, reply = await self._send(place.node, packed, 2)
            if is_current(clears, checked(first)):
                if isinstance(reply, MemcachedError):
                    return await self._refused(place.node, [place], [reply])
                return []
        ttls = ttl_ms if isinstance(ttl_ms, list) else [ttl_ms] * len(items)
        values = {key: (raw, ttl) for (key, raw), ttl in zip(items, ttls, strict=True)}
        refused = []
        sized = self._by_node(values, lambda key: len(values[key][0]))
        for number, places in sized:
            refused += await self._store_on(number, places, values)
        return refused

    def _store_request(
        self, items: Sequence[tuple[str, bytes]], ttl_ms: Ttl
    ) -> tuple[Place, Clears, bytes] | None:
        """Return how to set one item under the clears that are known, if they are."""
        if len(items) != 1 or isinstance(ttl_ms, list):
            return None
        ((key, raw),) = items
        place = self.place(key)
        node = self._node(place.node)
        clears = node.clears
        if clears is None or node.owed_clears:
            return None
        item = self._pack(place, raw, ttl_ms, clears.latest)
        packed = protocol.ASK_CLEARS + protocol.put(b"set", place.name, *item)
        return place, clears, packed

    async def _store_on(
        self,
        number: int,
        places: list[Place],
        values: dict[str, tuple[bytes, int | None]],
    ) -> list[str]:
        while True:
            stamp = await self._stamp(number)
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
            clears, replies = await self._ask(number, packed, len(places))
            if not any(clears.is_dead(place.key, stamp) for place in places):
                break
        return await self._refused(number, places, replies)

    async def _refused(
        self, number: int, places: list[Place], replies: list[Answer]
    ) -> list[str]:
        """Return the keys for which there was no room, and delete their old values."""
        refused = [
            place
            for place, reply in zip(places, replies, strict=True)
            if not self._has_room(reply)
        ]
        for place in refused:
            await self._send(number, protocol.delete(place.name), 1)
        return [place.key for place in refused]

    async def add(self, key: str, raw: bytes, ttl_ms: int | None) -> bool | str:
        """Set the value if there is none; return whether it was set."""
        place = self.place(key)
        for _ in self._tries():
            stamp = await self._stamp(place.node)
            packed = self._pack(place, raw, ttl_ms, stamp)
            clears, replies = await self._ask(
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
            item = await self._judge(place, replies[1], clears)
            if item.state is State.VALUE:
                return TAGGED if item.is_tagged else False
            if item.cas and await self._swap(place, packed, item):
                return True
        raise contention_error(key)

    async def overwrite(self, key: str, raw: bytes, ttl_ms: int | None) -> bool | str:
        """Set the value if there is one; return whether it was set."""
        place = self.place(key)
        for _ in self._tries():
            item = await self._peek(place)
            if item.state is not State.VALUE:
                return False
            if item.is_tagged:
                return TAGGED
            stamp = await self._stamp(place.node)
            if await self._swap(place, self._pack(place, raw, ttl_ms, stamp), item):
                return True
        raise contention_error(key)

    async def touch(self, key: str, ttl_ms: int | None) -> bool | str:
        """Give a value a new TTL; return whether there is one.

        A copy is kept past the new one for as long as it was past the old one.
        """
        place = self.place(key)
        ttl_s = None if ttl_ms is None else protocol.seconds(ttl_ms)
        touch = protocol.touch(place.name, protocol.expiry(ttl_s))
        for _ in self._tries():
            item = await self._peek(place)
            if item.state is not State.VALUE:
                return False
            if item.keep_s and item.raw is not None:
                packed = pack(
                    place.key,
                    item.raw,
                    ttl_ms,
                    await self._stamp(place.node),
                    is_hashed=place.is_hashed,
                    keep_ms=item.keep_s * 1000,
                    cost_ms=item.cost_ms,
                )
                if await self._swap(place, packed, item):
                    return TAGGED if item.is_tagged else True
                continue
            touch_and_look = touch + protocol.look_at(place.name)
            clears, replies = await self._ask(place.node, touch_and_look, 2)
            touched = read_item(replies[1], key, clears, is_hashed=False)
            if touched.state in {State.LOADING, State.NO_SUCH}:
                await self._drop(place, touched)  # it must not live on
            is_touched = is_word(replies[0], b"TOUCHED")
            return TAGGED if is_touched and touched.is_tagged else is_touched
        raise contention_error(key)

    async def delete(self, keys: Sequence[str]) -> int:
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
            clears, replies = await self._ask(number, packed, 3 * len(places))
            for place, looked, gone in zip(
                places, replies[::3], replies[1::3], strict=True
            ):
                item = read_item(looked, place.key, clears, is_hashed=False)
                deleted += is_word(gone, b"DELETED") and item.state is State.VALUE
        return deleted

    async def delete_older(
        self, keys: Sequence[str], ages_s: Callable[[], Sequence[float]]
    ) -> int:
        """Delete the items, unless their server has lost everything since.

        Then what it has is newer.  No other order of writes is known.
        """
        for number in {self.place(key).node for key in keys}:
            await self._ask(number, b"", 0)
        now = time.monotonic()
        old = [
            key
            for key, age_s in zip(keys, ages_s(), strict=True)
            if now - age_s >= self._node(self.place(key).node).renewed_at
        ]
        return await self.delete(old)

    async def incr(self, key: str, delta: int) -> int | str | None:
        """Add to digits, in the server: the TTL stays; see ``L2Store.incr``.

        Memcached knows no negative numbers: those are for compare and set.
        """
        place = self.place(key)
        reply: Answer | None
        for _ in self._tries():
            if delta >= 0:
                item, reply = await self._increase(place, delta)
            else:
                item, reply = await self._decrease(place, -delta)
            is_none = reply is None or _is_not_a_number(reply)
            digits = b"" if reply is None or is_none else checked(reply).block
            if digits and reply is not None and item.state is not State.VALUE:
                before, item = item, await self._peek(place)  # it has just come
                is_counted = b"c%d" % item.cas in checked(reply).words
                if before.cas and item.state is State.VALUE and not is_counted:
                    continue  # it came after the count, which was of a dead item
            if item.state is not State.VALUE:
                return None
            if is_none:
                return NOT_AN_INTEGER
            if digits is None:  # changed, or gone meanwhile
                continue
            if not digits.isdigit() or len(digits) > MOST_DIGITS:
                raise MemcachedError(f"not a number: {digits[:40]!r}")
            value = int(digits)
            if 0 <= delta <= value <= protocol.INT64_MAX or delta < 0:
                return value
            # Other clients take no more than 64 bits; the server counts modulo 2**64.
            undo = protocol.increase(place.name, 2**64 - delta)
            await self._send(place.node, undo, 1, idempotent=False)
            return NOT_AN_INTEGER
        raise contention_error(key)

    async def _increase(self, place: Place, delta: int) -> tuple[Item, Answer]:
        clears, (looked, reply) = await self._ask(
            place.node,
            protocol.look_at(place.name) + protocol.increase(place.name, delta),
            2,
            idempotent=False,
        )
        return read_item(looked, place.key, clears, is_hashed=False), reply

    async def _decrease(self, place: Place, delta: int) -> tuple[Item, Answer | None]:
        item = await self._read(place)
        if item.raw is None or not is_int64(item.raw) or int(item.raw) < delta:
            return item, None
        command = protocol.decrease(place.name, delta, item.cas)
        _, (reply,) = await self._ask(place.node, command, 1, idempotent=False)
        return item, reply

    async def replace(self, key: str, expected: bytes, raw: bytes | None) -> bool:
        """Compare and set, or compare and delete.  The TTL stays, to the second."""
        place = self.place(key)
        item = await self._read(place)
        if item.state is not State.VALUE or item.raw != expected:
            return False
        if raw is None:
            return await self._drop(place, item)
        ttl_ms = None if item.ttl_ms < 0 else item.ttl_ms
        stamp = await self._stamp(place.node)
        packed = self._pack(place, raw, ttl_ms, stamp)
        return await self._swap(place, packed, item)

    # -- everything ------------------------------------------------------------------

    async def clear(self, prefix: str) -> bool:
        """Make every item dead whose key begins with ``prefix``, on every server.

        One of several that is away is cleared before it is used again; then False.
        """
        return await self._on_all(partial(self._clear_on, prefix=prefix), prefix)

    async def _on_all(
        self, change: Callable[[int], Coroutine[Any, Any, None]], prefix: str
    ) -> bool:
        """Change every server; return False if one was away."""
        failures: dict[int, L2Error] = {}
        for number in range(len(self._cluster.nodes)):
            try:
                await change(number)
            except L2UnavailableError as exc:
                failures[number] = exc
        if len(failures) == len(self._cluster.nodes):
            failures[0].is_unsent = all(exc.is_unsent for exc in failures.values())
            raise failures[0]
        for number in failures:
            self._node(number).owe_clear(prefix)
        return not failures

    async def ping(self) -> None:
        """Ask the servers; raises L2UnavailableError if none answers."""
        await ping_any(
            (node.breaker, partial(self._ping_on, number))
            for number, node in enumerate(self._cluster.nodes)
        )

    async def _ping_on(self, number: int) -> None:
        node, request = self._node(number), Request(protocol.PING, 1)
        is_silent = True
        try:
            await self._clients[number].run(
                request, self._require_memcached, past_breaker=True
            )
            is_silent = False
        finally:
            node.is_silent = is_silent

    def _require_memcached(self, replies: list[Answer]) -> None:
        (reply,) = self._note(replies)
        if not isinstance(reply, MemcachedError) and reply.words != [protocol.PONG]:
            raise ConnectionError("no reply of Memcached")

    async def pay_clears(self) -> None:
        """Clear the servers that were away and are back."""
        for number, node in enumerate(self._cluster.nodes):
            if node.owed_clears:
                with suppress(L2Error):
                    await self._ask(number, b"", 0)

    async def flush(self) -> bool:
        """Delete every item of every server; see ``clear``."""
        return await self._on_all(self._flush_on, "")

    async def _flush_on(self, number: int) -> None:
        (reply,) = await self._send(number, protocol.FLUSH, 1)
        checked(reply)
        self._node(number).clears = None


def _is_not_a_number(answer: Answer) -> bool:
    return isinstance(answer, MemcachedError) and "non-numeric" in str(answer)
