"""The asynchronous counters are as atomic as the others."""

from __future__ import annotations

import asyncio


def test_no_increment_is_lost(cache):
    """Fifty at once count to fifty, and the lifetime stays what it was."""
    cache.set("n", 0, timeout=None)

    async def count():
        await asyncio.gather(*(cache.aincr("n") for _ in range(50)))
        await asyncio.gather(*(cache.adecr("n") for _ in range(8)))

    asyncio.run(count())
    assert cache.get("n") == 42
