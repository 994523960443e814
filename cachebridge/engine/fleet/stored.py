"""What the shared store has under a key, without its value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachebridge.waiting.io import THREADS
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from cachebridge.engine.engine import Engine


def in_store(engine: Engine, full_key: str) -> dict[str, Any]:
    """Ask the store: ``exists``, ``bytes``, ``ttl_ms`` (-1: none), and a sentence.

    Raises L2Error if it cannot be asked.
    """
    raw, ttl_ms = run(engine.l2_for(THREADS).get(full_key))
    if raw is None:
        return {"exists": False, "sentence": "nothing"}
    lasts = "without expiry" if ttl_ms < 0 else f"{ttl_ms / 1000:.1f} s left"
    size = len(raw)
    return {
        "exists": True,
        "bytes": size,
        "ttl_ms": ttl_ms,
        "sentence": f"{size} bytes, {lasts}",
    }
