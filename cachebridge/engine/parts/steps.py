"""Operations of several steps: what L2 cannot do with a value by itself."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from cachebridge.codec.envelope import body_of, header_of
from cachebridge.core.dropping.tags import TAG_MARK
from cachebridge.core.entry import INT64, MISSING
from cachebridge.core.keys import shown_key
from cachebridge.engine.parts.adding import appended, missing, total
from cachebridge.l1.local_get import NO_LOCAL_READS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence

    from cachebridge.core.direct import Direct
    from cachebridge.core.entry import Missing
    from cachebridge.core.fill import Fill
    from cachebridge.core.write import Write
    from cachebridge.engine.removals import OperationsHost
    from cachebridge.engine.values import Values
    from cachebridge.l1.local_get import LocalReads, NoLocalReads
    from cachebridge.l2.store import L2Store


class Steps:
    """The part of ``Operations`` that reads a value, and replaces it if unchanged."""

    engine: OperationsHost
    values: Values
    l2: L2Store
    local_reads: LocalReads | NoLocalReads
    open_fill: Callable[[Sequence[str]], Fill | Direct]
    open_write: Callable[[Sequence[str]], Write | Direct]
    message: Callable[[Write | Direct], bytes | None]
    encode: Callable[[str, Any], Awaitable[bytes]]
    read: Callable[[str], Coroutine[Any, Any, tuple[bytes | None, Any | Missing]]]
    add: Callable[..., Coroutine[Any, Any, bool]]
    living_part: Callable[..., Coroutine[Any, Any, bytes | None]]

    async def incr(self, key: str, delta: Any) -> Any:
        """Add ``delta`` and keep the TTL; MissingKeyError if there is no such key.

        L2 adds 64-bit integers; all else, and what is sealed, is read, added, and
        replaced if unchanged.
        """
        if type(delta) is int and delta in INT64 and not self.values.are_sealed:
            answer = await self.incr_in_l2(key, delta)
            if type(answer) is int:
                return answer
            if answer is None:
                raise missing(key)
        while True:
            raw, value = await self.read(key)
            if raw is None or value is MISSING:
                raise missing(key)
            value = total(key, value, delta)
            if await self.replace(key, raw, value):
                return value

    async def append(self, key: str, data: str | bytes, ttl_ms: int | None) -> int:
        """Append to a text or to bytes and keep the TTL; return the new length.

        What does not exist is made, with this TTL.  Other readers see whole values: one
        is read, joined, and replaced if unchanged.
        """
        while True:
            raw, value = await self.read(key)
            whole = appended(key, value, data)
            if raw is None or value is MISSING:
                if await self.add(key, whole, ttl_ms, fences=False):
                    return len(whole)
                await self._require_readable(key)
            elif await self.replace(key, raw, whole):
                return len(whole)

    async def _require_readable(self, key: str) -> None:
        """Raise TypeError for a value of a writer that this process cannot read."""
        raw, _ = await self.l2.get(key)
        if raw is not None and self.values.decode(key, body_of(raw)) is MISSING:
            raise TypeError(f"the value of {shown_key(key)} cannot be read here")

    async def incr_in_l2(self, key: str, delta: int) -> int | str | None:
        """Add to an integer of L2; None or a word if there is none to add to."""
        with self.open_write((key,)) as write, write:
            answer = await self.l2.incr(key, delta, self.message(write))
            if type(answer) is not int:
                self.engine.outgoing.retract(write)
        return answer

    async def replace(self, key: str, expected: bytes, value: Any) -> bool:
        """Set the value, keeping its TTL, if its bytes still are as expected."""
        raw = header_of(expected) + await self.encode(key, value)
        with self.open_write((key,)) as write, write:
            replaced = await self.l2.replace(key, expected, raw, self.message(write))
            if not replaced:
                self.engine.outgoing.retract(write)
        return replaced

    async def is_alive(self, key: str, *, discards: bool = True) -> bool:
        """Return whether a tagged value is alive; one that is not is deleted.

        L2 says so: by a stamp of L1, to whose change no message has come so far, a
        value that another process has just set would not be alive.
        """
        with self.open_fill((key,)) as fill, fill:
            raw, _ = await self.l2.get(key)
            fill.refuse(key)
            if raw is None or not raw.startswith(TAG_MARK):
                return raw is not None
            if await self.living_part(fill, key, raw) is not None:
                return True
        past_l1 = copy(self)
        past_l1.local_reads = NO_LOCAL_READS
        if await past_l1.living_part(None, key, raw) is not None:
            return True
        if discards:
            await self.discard(key, raw)
        return False

    async def discard(self, key: str, raw: bytes) -> bool:
        """Delete the key if its bytes still are these; return whether they were."""
        with self.open_write((key,)) as write, write:
            deleted = await self.l2.replace(key, raw, None, self.message(write))
            if not deleted:
                self.engine.outgoing.retract(write)
        return deleted

    async def discard_damaged(self, reads: Iterable[tuple[str, bytes]]) -> bool:
        """Delete those of these unreadable bytes that no process can read.

        What has changed since stays, and so do values of other writers: another process
        may read them.  Returns whether all were damaged.
        """
        all_damaged = True
        for key, raw in reads:
            if not self.values.is_damaged(key, body_of(raw)):
                all_damaged = False
                continue
            await self.discard(key, raw)
        return all_damaged
