"""Talking to the servers as plans: generators that yield requests.

They are sent the replies, or thrown the L2Error, by whoever drives them (``store.py``,
``astore.py``).  Every request begins with a read of what has been cleared
(``clears.py``); what was written meanwhile under an older stamp is written again.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cachebridge.errors import L2Error
from cachebridge.l2.commands import Request
from cachebridge.l2.memcached import protocol
from cachebridge.l2.memcached.clears import Clears
from cachebridge.l2.memcached.items import Item, pack, read_item
from cachebridge.l2.memcached.names import CLEARS, name_of
from cachebridge.l2.memcached.protocol import MemcachedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeAlias

    from cachebridge.l2.memcached.cluster import Cluster, Node
    from cachebridge.l2.memcached.items import Packed
    from cachebridge.l2.memcached.protocol import Answer

BATCH: Final = 100
"""Keys per request: replies of any size must not meet a request still being sent."""
BATCH_BYTES: Final = 1024 * 1024
"""And bytes of values, which have to be sent within SOCKET_TIMEOUT."""
TRIES: Final = 100


class Ask(NamedTuple):
    """Send a request to a server, and be sent its replies, or thrown its L2Error."""

    node: int
    request: Request


Plan: TypeAlias = Generator[Ask, Any, Any]


class Place(NamedTuple):
    """Where a key's item is, and under which name."""

    key: str
    name: bytes
    is_hashed: bool
    node: int


class Talk:
    """What all plans share.  Thread safe."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def place(self, key: str) -> Place:
        """Find the item of a key."""
        name, is_hashed = name_of(key)
        return Place(key, name, is_hashed, self._cluster.number_of(name))

    def _node(self, number: int) -> Node:
        return self._cluster.nodes[number]

    def _talk(
        self, number: int, packed: bytes, count: int, *, idempotent: bool = True
    ) -> Plan:
        """Return what has been cleared by now, and the ``count`` replies."""
        if self._node(number).owed_clears:
            yield from self._pay_clears_on(number)
        request = Request(protocol.ASK_CLEARS + packed, count + 1, idempotent)
        first, *replies = yield Ask(number, request)
        clears = self._node(number).clears
        if not is_current(clears, first):
            clears = yield from self._learn_clears(number)
        return clears, replies

    def _learn_clears(self, number: int) -> Plan:
        """Return what has been cleared by now."""
        clears, _ = yield from self._read_clears(number)
        return clears

    def _read_clears(self, number: int) -> Plan:
        """Read what has been cleared, and its CAS number; begin if there is nothing."""
        node, new = self._node(number), Clears.begin()
        add = protocol.put(b"add", CLEARS, new.mark, 0, new.raw)
        for _ in range(TRIES):
            replies = yield Ask(number, Request(add + protocol.read(CLEARS), 2))
            words, block = checked(replies[1])
            clears = None if block is None else Clears.parse(block)
            if words[-1] == b"c0":
                raise L2Error(f"{node.label} runs with -C: CAS numbers are needed")
            if clears is not None and words[-3] == clears.answer:
                node.clears = clears
                return clears, int(words[-1][1:])
            if block is not None:  # spoilt, or not ours
                yield Ask(number, Request(protocol.delete(CLEARS), 1))
        raise L2Error(f"{node.label} does not keep {CLEARS.decode()!r}")

    def _stamp(self, number: int) -> Plan:
        """Return what items are to be stamped with, as far as is known."""
        clears = self._node(number).clears
        if clears is None:
            clears, _ = yield from self._talk(number, b"", 0)
        return clears.latest

    def _read(self, place: Place) -> Plan:
        """Return the item of a key."""
        clears, (reply,) = yield from self._talk(
            place.node, protocol.read(place.name), 1
        )
        return read_item(reply, place.key, clears, is_hashed=place.is_hashed)

    def _pack(self, place: Place, raw: bytes, ttl_ms: int | None, stamp: int) -> Packed:
        return pack(place.key, raw, ttl_ms, stamp, is_hashed=place.is_hashed)

    def _by_node(
        self, keys: Iterable[str], size: Callable[[str], int] = lambda _key: 0
    ) -> Iterator[tuple[int, list[Place]]]:
        """Sort keys by their servers, in batches."""
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

    def _swap(self, place: Place, packed: Packed, item: Item) -> Plan:
        """Set the item if it has not changed; tell whether it was set, and is alive."""
        command = protocol.swap(place.name, *packed, item.cas)
        clears, (reply,) = yield from self._talk(
            place.node, command, 1, idempotent=False
        )
        if not self._has_room(reply):
            raise L2Error(f"there is no room for {place.key:.80}") from reply
        return is_word(reply, b"STORED") and not clears.is_dead(place.key, packed.stamp)

    def _drop(self, place: Place, item: Item) -> Plan:
        """Delete the item if it has not changed; tell whether it was deleted."""
        command = protocol.drop(place.name, item.cas)
        _, (reply,) = yield from self._talk(place.node, command, 1, idempotent=False)
        return is_word(reply, b"HD")

    def _has_room(self, answer: Answer) -> bool:
        """Tell whether the server could store; any other error is raised."""
        if isinstance(answer, MemcachedError) and answer.is_about_room:
            self._cluster.on_no_room()
            return False
        checked(answer)
        return True

    def _pay_clears_on(self, number: int) -> Plan:
        """Clear what was cleared while the server was away.

        Whoever comes meanwhile does so, too, instead of waiting.
        """
        owed = self._node(number).owed_clears
        for prefix in list(owed):
            yield from self._clear_on(number, prefix)
            if owed.pop(prefix, self) is not self:
                self._cluster.on_late_clear(prefix)

    def _clear_on(self, number: int, prefix: str) -> Plan:
        for _ in range(TRIES):
            known, cas = yield from self._read_clears(number)
            if known.is_full:
                yield Ask(number, Request(protocol.FLUSH, 1))
                continue
            new = known.cleared(prefix)
            swap = protocol.swap(CLEARS, new.mark, 0, new.raw, cas)
            (reply,) = yield Ask(number, Request(swap, 1, idempotent=False))
            if is_word(reply, b"STORED"):
                self._node(number).clears = new
                return
        raise restless(CLEARS.decode())


def is_current(clears: Clears | None, answer: Answer) -> bool:
    """Tell whether the reply to ASK_CLEARS says that nothing else has been cleared."""
    words: list[bytes] = checked(answer).words
    return clears is not None and words[-1] == clears.answer


def checked(answer: Answer) -> Any:
    """Return the reply; raise it if it is an error."""
    if isinstance(answer, MemcachedError):
        raise answer
    return answer


def is_word(answer: Answer, word: bytes) -> bool:
    """Tell whether the reply is this word; raise it if it is an error."""
    return bool(checked(answer).words[0] == word)


def restless(key: str) -> L2Error:
    """Return the exception for a key that others change all the time."""
    return L2Error(f"{key:.80} has changed {TRIES} times while it was being changed")
