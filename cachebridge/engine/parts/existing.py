"""The operations on keys that exist: their TTL is read, and they are overwritten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachebridge.core.keys import NO_TAGS
from cachebridge.core.ttl import GONE_MS
from cachebridge.engine.tagging.stamps import UNTAGGED
from cachebridge.l2.store import TAGGED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence

    from cachebridge.core.direct import Direct
    from cachebridge.core.write import Write
    from cachebridge.engine.removals import OperationsHost
    from cachebridge.engine.tagging.stamps import Begun, Stamped
    from cachebridge.engine.values import Values
    from cachebridge.l2.store import L2Store


class Existing:
    """A part of ``Operations``, which makes what this one declares."""

    engine: OperationsHost
    l2: L2Store
    values: Values
    encode: Callable[[str, Any], Awaitable[bytes]]
    open_write: Callable[[Sequence[str]], Write | Direct]
    message: Callable[[Write | Direct], bytes | None]
    jittered: Callable[[int | None], int | None]
    delete: Callable[[str], Awaitable[bool]]
    stamp: Callable[[Collection[str] | Begun], Coroutine[Any, Any, Stamped]]
    is_alive: Callable[..., Coroutine[Any, Any, bool]]
    set: Callable[..., Awaitable[bool]]

    async def ttl(self, key: str) -> int:
        """Return what is left of the TTL in milliseconds, as Redis's PTTL does.

        A value of an invalidated tag is none.
        """
        left_ms = await self.l2.ttl(key)
        if left_ms == GONE_MS or await self.l2.exists(key) != TAGGED:
            return left_ms
        return left_ms if await self.is_alive(key, discards=False) else GONE_MS

    async def overwrite(
        self,
        key: str,
        value: Any,
        ttl_ms: int | None,
        *,
        tags: Collection[str] = NO_TAGS,
    ) -> bool:
        """Set the value if the key exists; return whether it was set.

        A TTL that is over deletes it.
        """
        stamped = await self.stamp(tags) if tags else UNTAGGED
        raw = await self.encode(key, value)
        if ttl_ms == 0:
            return await self.delete(key)
        left_ms = self.jittered(ttl_ms)
        with self.open_write((key,)) as write, write:
            full = stamped.on(write) + raw
            done = await self.l2.overwrite(key, full, left_ms, self.message(write))
            if done is True:
                self.values.stage(write, {key: value}, {key: raw}, left_ms)
            else:
                self.engine.outgoing.retract(write)
        if done == TAGGED and await self.is_alive(key):
            return await self.set(key, value, ttl_ms, tags=tags)
        return done is True
