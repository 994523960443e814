"""The operations on keys that exist: their TTL is read, and they are overwritten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from cachebridge.core.direct import Direct
    from cachebridge.core.write import Write
    from cachebridge.engine.removals import OperationsHost
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

    async def ttl(self, key: str) -> int:
        """Return what is left of the TTL in milliseconds, as Redis's PTTL does."""
        return await self.l2.ttl(key)

    async def overwrite(self, key: str, value: Any, ttl_ms: int | None) -> bool:
        """Set the value if the key exists; return whether it was set.

        A TTL that is over deletes it.
        """
        raw = await self.encode(key, value)
        if ttl_ms == 0:
            return await self.delete(key)
        ttl_ms = self.jittered(ttl_ms)
        with self.open_write((key,)) as write, write:
            done = await self.l2.overwrite(key, raw, ttl_ms, self.message(write))
            if done:
                self.values.stage(write, {key: value}, {key: raw}, ttl_ms)
            else:
                self.engine.outgoing.retract(write)
        return done
