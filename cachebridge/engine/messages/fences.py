"""When fences are raised, and how a read waits for their end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from cachebridge.core.fence import NO_NUMBER
from cachebridge.errors import L2Error
from cachebridge.waiting.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cachebridge.core.coherence import Coherence
    from cachebridge.core.direct import Direct
    from cachebridge.core.write import Write
    from cachebridge.engine.messages.outgoing import OutgoingMessages
    from cachebridge.l1.local_get import LocalReads
    from cachebridge.l2.store import L2Store
    from cachebridge.waiting.io import IO

FENCE_PATIENCE_S: Final = 0.05
"""Seconds after the raising of a fence for which a read waits; then it asks L2."""


class FenceHost(Protocol):
    """What this needs of the engine."""

    rules: Coherence
    local_reads: LocalReads
    outgoing: OutgoingMessages


class Decision(Guard):
    """The call of L2 that decides an ``add``: ``with decision, decision``."""

    __slots__ = ("_is_announced", "_number", "_rules")

    def __init__(
        self, engine: FenceHost, write: Write | Direct, message: bytes | None
    ) -> None:
        """``message`` goes with the call; None if the key is in no L1."""
        super().__init__()
        self._rules = engine.rules
        self._number = engine.outgoing.number_of_add(write)
        self._is_announced = message is not None

    def _take(self) -> None:
        self._rules.fences.awaited.add(self._number)

    def won(self) -> None:
        """Raise the fence, unless the echo was quicker than the reply."""
        if self._number != NO_NUMBER:
            self._rules.raise_fence(self._number, is_announced=self._is_announced)

    def _give_back(self, _error: BaseException | None) -> None:
        self._rules.fences.awaited.discard(self._number)


async def fences_end(
    engine: FenceHost, l2: L2Store, io: IO, keys: Iterable[str]
) -> bool:
    """Wait for the end of every fence that is up, if L1 has one of the keys.

    Returns whether they have ended.
    """
    rules, local = engine.rules, engine.local_reads
    if not rules.is_on(rules.clock()) or not local.holds_any(keys):
        return False
    with rules.lock:
        unannounced = rules.fences.announce() if rules.echo_proves_all else ()
        waits = [(each.since, each.ended()) for each in rules.fences.up.values()]
    try:
        for number in unannounced:
            await l2.publish(engine.outgoing.loop_back(number))
    except L2Error:  # a heartbeat ends the fence
        return False
    rules.fences.hurry.set()
    for since, ended in waits:
        left_s = since + FENCE_PATIENCE_S - rules.clock()
        if left_s <= 0 or not await io.wait(ended, left_s):
            return False
    return True
