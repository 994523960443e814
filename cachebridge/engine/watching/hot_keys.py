"""Which keys are hot now: found when a peer asks, from the notes that hits leave.

For a quarter of a second a thread looks every few milliseconds which keys were hit
since its last look.  A key that is hit often is found in most looks.  Nothing is added
to a hit, and nothing runs while no peer asks.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.core.coherence import Coherence
    from cachebridge.l1.store import L1Store
    from cachebridge.stats import Counters

LASTS_S: Final = 0.25
FIRST_PAUSE_S: Final = 0.005
LEAST_PAUSE_S: Final = 0.001
MOST_PAUSE_S: Final = 0.03
MOST_HOT: Final = 50
"""Keys that one process names."""
MANY: Final = 8
"""If a look finds more keys the next comes earlier, so that the hottest are told apart;
if it finds none, later."""


class HotKeysHost(Protocol):
    """What this needs of the engine."""

    clock: Callable[[], float]
    counters: Counters
    l1: L1Store
    rules: Coherence


def hot_keys(
    host: HotKeysHost, most: int, sleep: Callable[[float], object] = time.sleep
) -> dict[str, Any]:
    """Look for a quarter of a second; return the hottest keys, and how hot they are.

    ``hits_per_s`` of a key is an estimate from the share of looks that have found it;
    that of all keys is counted.  Without ``sampled`` the policy notes no hits.
    """
    rules, counters, clock = host.rules, host.counters, host.clock
    with rules.lock:
        is_sampled = host.l1.hit_lately() is not None
    found: Counter[str] = Counter()
    began, hits, looks, pause_s = clock(), counters.total().l1_hits, 0, FIRST_PAUSE_S
    until = began + LASTS_S
    while is_sampled and clock() < until:
        sleep(pause_s)
        with rules.lock:
            keys = host.l1.hit_lately() or []
        looks += 1
        found.update(keys)
        if len(keys) > MANY:
            pause_s = max(LEAST_PAUSE_S, pause_s / 2)
        elif not keys:
            pause_s = min(MOST_PAUSE_S, pause_s * 2)
    lasted_s = max(clock() - began, 1e-6)
    per_s = (counters.total().l1_hits - hits) / lasted_s
    return {
        "sampled": is_sampled,
        "hits_per_s": round(per_s, 1),
        "keys": [
            {
                "key": key,
                "hits_per_s": round(own_per_s, 1),
                "share": round(own_per_s / per_s, 3) if per_s else 0.0,
            }
            for key, own_per_s in _estimates(found, looks, lasted_s, per_s)[:most]
        ],
    }


def _estimates(
    found: Counter[str], looks: int, lasted_s: float, per_s: float
) -> list[tuple[str, float]]:
    """Estimate from how many looks have found a key how often it is hit.

    Of a key that every look has found it is only known that it is hit more often than
    there were looks: such keys share the hits that the others leave.
    """
    rates = {
        key: -math.log(max(looks - count, 0.5) / looks) * looks / lasted_s
        for key, count in found.items()
    }
    always = [key for key, count in found.items() if count == looks]
    left = per_s - sum(rates.values())
    for key in always:
        rates[key] += max(0.0, left) / len(always)
    return [(key, min(rates[key], per_s)) for key, _ in found.most_common()]
