"""What has happened in a process lately: drops, flushes, waits and log events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cachebridge.core.dropping.trail import FLUSHED
from cachebridge.events import lately
from cachebridge.texts import shown

if TYPE_CHECKING:
    from cachebridge.core.dropping.trail import Drop
    from cachebridge.engine.engine import Engine

MOST_S: Final = 3600.0
MOST_EVENTS: Final = 200
_MOST_NAMES: Final = 24_000
"""Characters of all keys in one answer."""
_MOST_FACTS: Final = 300


def tail(engine: Engine, seconds: float) -> dict[str, Any]:
    """Return what has happened in the last seconds, the newest last.

    ``left_out`` counts what an answer has no room for.  ``reaches_s`` says how far the
    process remembers drops, if it has forgotten some of them.
    """
    now, trail = engine.clock(), engine.rules.trail
    found = [_told(each, now) for each in trail.since(now - seconds)]
    found += [_event(ago_s, told) for ago_s, told in lately(seconds)]
    found.sort(key=lambda each: each["ago_s"])
    kept, room = [], _MOST_NAMES
    for each in found[:MOST_EVENTS]:
        room -= sum(len(ascii(value)) for value in each.values())
        if room < 0:
            break
        kept.append(each)
    oldest = trail.reaches_back_to()
    return {
        "events": kept[::-1],
        "left_out": len(found) - len(kept),
        "reaches_s": None if oldest is None else round(now - oldest, 3),
    }


def _told(drop: Drop, now: float) -> dict[str, Any]:
    told: dict[str, Any] = {"ago_s": round(now - drop.at, 3), "what": drop.cause}
    if drop.cause == FLUSHED:
        return {**told, "cause": drop.key}
    told["key"] = shown(drop.key, len(drop.key))
    if drop.origin:
        told |= {"origin": drop.origin.hex(), "write": drop.write_id}
    return told


def _event(ago_s: float, told: dict[str, Any]) -> dict[str, Any]:
    facts = {
        name: shown(str(value), _MOST_FACTS)
        for name, value in told.items()
        if name != "event"
    }
    return {"ago_s": round(ago_s, 3), "what": told["event"], **facts}
