"""The operations that remove keys: deletes, clears, and those that come late.

Here are also the steps of a scan, by which they and callers find keys.
"""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from cachebridge.codec.messages import batches
from cachebridge.core.direct import DirectWrite
from cachebridge.core.keys import fits_message
from cachebridge.errors import UnsupportedOperationError
from cachebridge.l2.store import SCAN_COUNT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cachebridge.config import EngineOptions
    from cachebridge.core.coherence import Coherence
    from cachebridge.core.direct import Direct
    from cachebridge.core.keys import KeyPattern
    from cachebridge.core.write import Write
    from cachebridge.engine.messages.outgoing import OutgoingMessages
    from cachebridge.l1.local_get import LocalReads
    from cachebridge.l1.store import L1Store
    from cachebridge.l2.store import L2Store
    from cachebridge.stats import Counters
    from cachebridge.waiting.io import IO
    from cachebridge.waiting.signals import Slots

SCAN_DONE: Final = 0


class OperationsHost(Protocol):
    """What operations need of their engine."""

    rules: Coherence
    options: EngineOptions
    counters: Counters
    count_turns: tuple[Slots, ...]
    l1: L1Store
    outgoing: OutgoingMessages
    local_reads: LocalReads
    chance: Callable[[], float]
    departures: int
    """How often the server was left for another."""

    @property
    def keeps_l1_off(self) -> bool:
        """Whether L2 itself keeps the fleet's switch, and it is off."""

    def l2_for(self, io: IO, *, may_lag: bool = True) -> L2Store:
        """Return the store for threads or for tasks; a read ``may_lag`` or must not."""


class Removals:
    """The removing half of ``Operations``, which makes what this one declares."""

    engine: OperationsHost
    l2: L2Store
    open_write: Callable[[Sequence[str]], Write | Direct]
    message: Callable[[Write | Direct], bytes | None]
    is_stamp: Callable[[str], bool]

    async def delete(self, key: str) -> bool:
        """Delete the key; return whether L2 had it."""
        with self.open_write((key,)) as write, write:
            return await self.l2.delete((key,), self.message(write)) > 0

    async def delete_many(self, keys: Iterable[str]) -> int:
        """Delete all keys; return how many L2 had."""
        wanted = list(dict.fromkeys(keys))
        deleted = 0
        for batch in batches(wanted) if wanted else []:
            with self.open_write(batch) as write, write:
                deleted += await self.l2.delete(batch, self.message(write))
        return deleted

    async def delete_stamps(self, keys: Iterable[str]) -> bool:
        """Delete the stamps of tags; return True."""
        await self.delete_many(keys)
        return True

    async def delete_older(
        self, keys: Iterable[str], began: Callable[[str], float]
    ) -> int:
        """Delete the keys whose change failed, unless another process wrote them since.

        ``began`` returns when the failed change of a key began, by the rules' clock.
        """
        rules = self.engine.rules
        wanted = list(dict.fromkeys(keys))
        deleted = 0
        for batch in batches(wanted) if wanted else []:
            with self.open_write(batch) as write, write:

                def ages_s(batch: Sequence[str] = batch) -> list[float]:
                    now = rules.clock()
                    return [now - began(key) for key in batch]

                deleted += await self.l2.delete_older(
                    batch, ages_s, rules.origin, self.message(write)
                )
        return deleted

    async def clear(self, pattern: KeyPattern, began: float | None = None) -> bool:
        """Delete every key of the pattern from L2 and from every L1.

        False if one of several servers is away: it is cleared when it is back.  Where
        keys have to be found one by one, each batch goes with its message, so that a
        crash in the middle leaves no peer stale; the last message reaches what peers
        hold although L2 has evicted it.  If the clear was called for at ``began`` and
        failed then, what others have written since stays; only ``scan`` can tell.
        """
        rules, prefix = self.engine.rules, pattern.prefix
        rules.on_prefix(prefix)
        message = partial(self.engine.outgoing.prefix_message, prefix)
        cleared = await self.l2.clear(prefix, message)
        if cleared is not None:
            rules.on_prefix(prefix)
            return cleared
        await self._find_and_delete(pattern, began)
        return True

    async def delete_pattern(self, pattern: KeyPattern, count: int = SCAN_COUNT) -> int:
        """Find the keys of the pattern and delete them; return how many L2 had.

        See ``clear``.  L1s drop all that begins as the pattern does.  Tags are no keys
        of callers: they stay as they are.
        """
        self.engine.rules.on_prefix(pattern.prefix)
        return await self._find_and_delete(pattern, count=count, spares=self.is_stamp)

    async def _find_and_delete(
        self,
        pattern: KeyPattern,
        began: float | None = None,
        count: int = SCAN_COUNT,
        spares: Callable[[str], bool] | None = None,
    ) -> int:
        deleted = await self.delete_matching(pattern.glob, began, count, spares)
        for each in self.engine.rules.everywhere():
            each.on_prefix(pattern.prefix)
        message = self.engine.outgoing.prefix_message(pattern.prefix)
        await self.l2.publish(message)
        return deleted

    async def delete_matching(
        self,
        glob: str,
        began: float | None = None,
        count: int = SCAN_COUNT,
        spares: Callable[[str], bool] | None = None,
    ) -> int:
        """Delete every key that matches, and every load record of such a key.

        Those that ``spares`` is true of stay.

        A cursor means nothing to another server: if this one is left, all begins anew.
        """
        engine, cursor, deleted = self.engine, SCAN_DONE, 0
        departures = engine.departures
        while True:
            if departures != engine.departures:
                departures, cursor = engine.departures, SCAN_DONE
            cursor, keys = await self.l2.scan(glob, cursor, count)
            if spares is not None:
                keys = [key for key in keys if not spares(key)]
            named = [key for key in keys if fits_message(key)]
            if named:
                deleted += await self.delete_found(named, began)
            if len(named) < len(keys):
                silent = copy(self)
                silent.open_write = partial(DirectWrite, engine.rules)
                rest = set(keys).difference(named)
                deleted += await silent.delete_found(rest, began)
            if cursor == SCAN_DONE and departures == engine.departures:
                return deleted

    async def delete_found(self, keys: Iterable[str], began: float | None) -> int:
        """Delete the keys; since ``began`` no other process may have written one."""
        if began is None:
            return await self.delete_many(keys)
        return await self.delete_older(keys, lambda _key: began)

    async def scan(
        self, pattern: KeyPattern, cursor: int, count: int
    ) -> tuple[int, list[str]]:
        """Return the next cursor (0 at the end) and some keys that have a value.

        No stamps of tags: callers did not set them.
        """
        cursor, keys = await self.l2.scan(pattern.glob, cursor, count, records=False)
        return cursor, [key for key in keys if not self.is_stamp(key)]

    async def flush_older(self, began: float) -> None:
        """Delete every key of the database but what was written since ``began``."""
        try:
            await self.delete_matching("*", began)
        except UnsupportedOperationError:  # the server knows no order either
            await self.flush_db()
        else:
            for each in self.engine.rules.everywhere():
                each.flush("clear")
            await self.l2.publish(self.engine.outgoing.clear_message())

    async def flush_db(self) -> bool:
        """Delete every key of the database, other programs' too; False as ``clear``."""
        rules, outgoing = self.engine.rules, self.engine.outgoing
        rules.flush("clear")
        flushed = await self.l2.flush_db(outgoing.clear_message())
        for each in rules.everywhere():
            each.flush("clear")
        if self.engine.keeps_l1_off:  # the flush took it away
            await self.l2.switch(*outgoing.switched(on=False))
        return flushed
