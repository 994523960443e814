"""Requests to the servers, and what all operations share.

Every request begins with a read of what has been cleared (``clears.py``); a value that
was written under an older stamp meanwhile is written again.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from cachebridge.core.keys import shown_key
from cachebridge.errors import L2Error
from cachebridge.l2.memcached import protocol
from cachebridge.l2.memcached.clears import Clears
from cachebridge.l2.memcached.items import Item, pack, read_item
from cachebridge.l2.memcached.names import BEGAN, CLEARS
from cachebridge.l2.memcached.protocol import MemcachedError, Reply, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence

    from cachebridge.l2.connections.client import Client
    from cachebridge.l2.memcached.cluster import Cluster, Node, Place
    from cachebridge.l2.memcached.items import Packed
    from cachebridge.l2.memcached.protocol import Answer

BATCH: Final = 100
"""Keys per request: replies of any size must not meet a request still being sent."""
BATCH_BYTES: Final = 1024 * 1024
"""And bytes of values, which have to be sent within SOCKET_TIMEOUT."""
TRIES: Final = 100
CLOCK_S: Final = 1.5
"""By how much an age may be too small: the server tells time in whole seconds."""
SPOILT: Final = 3
"""How often a list of clears that cannot be read is replaced in a row."""


class Requests:
    """The requests of one call of the store, made for it alone."""

    __slots__ = ("_clients", "_cluster", "is_sent")

    def __init__(self, cluster: Cluster, clients: Sequence[Client]) -> None:
        """``clients`` are those of the cluster's nodes, for threads or for tasks."""
        self._cluster = cluster
        self._clients = clients
        self.is_sent = False
        """Whether a server has answered one of them."""

    def place(self, key: str) -> Place:
        """Find the item of a key."""
        return self._cluster.place_of(key)

    def _tries(self, most: int = TRIES) -> Iterator[int]:
        """Yield while trying again makes sense: a hundred times, and not for long."""
        ends_at = monotonic() + self._cluster.patience_s
        for number in range(most):
            yield number
            if monotonic() > ends_at:
                return

    def _node(self, number: int) -> Node:
        return self._cluster.nodes[number]

    def _send(
        self,
        number: int,
        packed: bytes,
        count: int,
        *,
        idempotent: bool = True,
        token: bytes = b"",
    ) -> Coroutine[Any, Any, list[Answer]]:
        """Send a request to a server and return its ``count`` replies."""
        request = Request(packed, count, idempotent, token)
        return self._clients[number].run(request, self._note)

    def _note(self, replies: list[Answer]) -> list[Answer]:
        """Return the replies as they are; now at least one request has arrived."""
        self.is_sent = True
        return replies

    async def _ask(
        self,
        number: int,
        packed: bytes,
        count: int,
        *,
        idempotent: bool = True,
        token: bytes = b"",
    ) -> tuple[Clears, list[Answer]]:
        """Return what has been cleared by now, and the ``count`` replies."""
        node = self._cluster.nodes[number]
        if node.owed_clears:
            await self._pay_clears_on(number)
        packed, sent_at = protocol.ASK_CLEARS + packed, monotonic()
        replies = await self._send(
            number, packed, count + 1, idempotent=idempotent, token=token
        )
        clears, first = node.clears, checked(replies.pop(0))
        if clears is None or not is_current(clears, first):
            clears, _ = await self._read_clears(number)
        else:
            node.seen_at = sent_at
        return clears, replies

    async def _read_clears(self, number: int) -> tuple[Clears, int]:
        """Read what has been cleared, and its CAS number; begin if there is nothing."""
        node, new = self._node(number), Clears.begin()
        began = protocol.put(b"add", BEGAN, 0, protocol.MONTH_S, new.era.encode())
        add = began + protocol.put(b"add", CLEARS, new.mark, 0, new.raw)
        spoilt = 0
        for _ in self._tries():
            sent_at = monotonic()
            replies = await self._send(number, add + protocol.read(CLEARS), 3)
            reply = checked(replies[2])
            numbers, block = protocol.numbers_of(reply), reply.block
            clears = None if block is None else Clears.parse(block)
            flags, _, cas = numbers or (0, 0, -1)
            if not cas:
                raise L2Error(f"{node.label} runs with -C: CAS numbers are needed")
            if clears is not None and flags == clears.mark:
                if node.clears is not None and node.clears.era != clears.era:
                    node.renewed_at = await self._began_at(number, clears, sent_at)
                node.clears = clears
                return clears, cas
            if block is not None:  # spoilt, or not ours
                spoilt += 1
                if spoilt > SPOILT:
                    break
                await self._send(number, protocol.delete(CLEARS), 1)
        raise L2Error(f"{node.label} does not keep {CLEARS.decode()!r}")

    async def _began_at(self, number: int, clears: Clears, sent_at: float) -> float:
        """Return a time before the first write that has this list of clears.

        It is up to 3 s early.  ``sent_at`` is when the list was asked for.
        """
        (reply,) = await self._send(number, protocol.read(BEGAN), 1)
        reply, seen_at = checked(reply), self._node(number).seen_at
        numbers = protocol.numbers_of(reply)
        if numbers is None or reply.block != clears.era.encode():
            return seen_at
        age_s = protocol.MONTH_S - numbers[1]
        return max(seen_at, sent_at - age_s - CLOCK_S)

    async def _stamp(self, number: int) -> int:
        """Return the latest known clear: the stamp of items that are written now."""
        clears = self._node(number).clears
        if clears is None:
            clears, _ = await self._ask(number, b"", 0)
        return clears.latest

    async def _read(self, place: Place) -> Item:
        """Return the item of a key."""
        clears, (reply,) = await self._ask(place.node, protocol.read(place.name), 1)
        return read_item(reply, place.key, clears, is_hashed=place.is_hashed)

    def _pack(self, place: Place, raw: bytes, ttl_ms: int | None, stamp: int) -> Packed:
        return pack(place.key, raw, ttl_ms, stamp, is_hashed=place.is_hashed)

    def _by_node(
        self, keys: Iterable[str], size: Callable[[str], int] = lambda _key: 0
    ) -> Iterator[tuple[int, list[Place]]]:
        """Group keys by their servers, in batches."""
        nodes: dict[int, list[Place]] = {}
        for key in keys:
            place = self.place(key)
            nodes.setdefault(place.node, []).append(place)
        for number, places in nodes.items():
            batch: list[Place] = []
            room = BATCH_BYTES
            for place in places:
                room -= size(place.key)
                if len(batch) == BATCH or (batch and room < 0):
                    yield number, batch
                    batch, room = [], BATCH_BYTES - size(place.key)
                batch.append(place)
            yield number, batch

    async def _swap(self, place: Place, packed: Packed, item: Item) -> bool:
        """Set the item if it has not changed; return whether it is set and alive."""
        command = protocol.swap(place.name, *packed, item.cas)
        clears, (reply,) = await self._ask(place.node, command, 1, idempotent=False)
        if not self._has_room(reply):
            error = L2Error(f"there is no room for {shown_key(place.key)}")
            raise error from error_in(reply)
        return is_word(reply, b"STORED") and not clears.is_dead(place.key, packed.stamp)

    async def _drop(self, place: Place, item: Item) -> bool:
        """Delete the item if it has not changed; return whether it was deleted."""
        command = protocol.drop(place.name, item.cas)
        _, (reply,) = await self._ask(place.node, command, 1, idempotent=False)
        return is_word(reply, b"HD")

    def _has_room(self, answer: Answer) -> bool:
        """Return whether the server could store; raise any other error."""
        if isinstance(answer, MemcachedError) and answer.is_about_room:
            self._cluster.on_no_room()
            return False
        checked(answer)
        return True

    async def _pay_clears_on(self, number: int) -> None:
        """Clear what was cleared while the server was away.

        A caller that comes meanwhile does the same instead of waiting.
        """
        node = self._node(number)
        while owed := list(node.owed_clears.items()):  # also what is owed meanwhile
            for prefix, time in owed:
                await self._clear_on(number, prefix)
                if node.is_paid(prefix, time):
                    self._cluster.on_late_clear(prefix)

    async def _clear_on(self, number: int, prefix: str) -> None:
        for _ in self._tries():
            known, cas = await self._read_clears(number)
            if known.is_full:
                await self._send(number, protocol.FLUSH, 1)
                continue
            new = known.cleared(prefix)
            swap = protocol.swap(CLEARS, new.mark, 0, new.raw, cas)
            (reply,) = await self._send(number, swap, 1, idempotent=False)
            if is_word(reply, b"STORED"):
                self._node(number).clears = new
                return
        raise contention_error(CLEARS.decode())


def is_current(clears: Clears, answer: Reply) -> bool:
    """Return whether the reply to ASK_CLEARS says that nothing else was cleared."""
    return answer.words[-1] == clears.answer


def checked(answer: Answer) -> Reply:
    """Return the reply; raise it if it is an error."""
    if isinstance(answer, MemcachedError):
        raise answer
    return answer


def error_in(answer: Answer) -> MemcachedError | None:
    """Return the error that the reply is, if it is one."""
    return answer if isinstance(answer, MemcachedError) else None


def is_word(answer: Answer, word: bytes) -> bool:
    """Return whether the reply is this word; raise it if it is an error."""
    return checked(answer).words[0] == word


def contention_error(key: str) -> L2Error:
    """Return the exception for a key that other clients change all the time."""
    return L2Error(f"{shown_key(key)} was changed by others again and again")
