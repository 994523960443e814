"""What answers: each takes keys and a number of entries, and returns its hits."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec

from cachebridge.core.entry import make_entry
from cachebridge.l1.eviction import POLICIES
from cachebridge.stats import Counters

__all__ = ["CONTENDERS", "OURS"]

_CULL_FREQUENCY = 3
"""Django's default: a full LocMemCache drops every third entry."""

Contender = Callable[[Sequence[str], int], int]


def _ours(policy: str, keys: Sequence[str], size: int) -> int:
    """Ask as a cache does: a hit leaves a note, a miss is filled."""
    l1 = POLICIES[policy](max_entries=size, max_bytes=1 << 50, counters=Counters())
    look, note, put = l1.look, l1.note, l1.put
    entry = make_entry(float("inf"), "kind", "value", 64)
    hits = 0
    for key in keys:
        if look(key) is not None:
            note(key)
            hits += 1
        else:
            put(key, entry)
    return hits


def _belady(keys: Sequence[str], size: int) -> int:
    """Evict what is needed again last: the bound that no policy can pass."""
    never = len(keys)
    next_use = [never] * len(keys)
    seen: dict[str, int] = {}
    for place in range(len(keys) - 1, -1, -1):
        next_use[place] = seen.get(keys[place], never)
        seen[keys[place]] = place
    held: dict[str, int] = {}
    by_next_use: list[tuple[int, str]] = []
    hits = 0
    for key, later in zip(keys, next_use, strict=True):
        if key in held:
            hits += 1
        elif later == never:
            continue  # not worth a place
        elif len(held) >= size:
            while True:
                farthest, candidate = heapq.heappop(by_next_use)
                if held.get(candidate) == -farthest:
                    del held[candidate]
                    break
        held[key] = later
        heapq.heappush(by_next_use, (-later, key))
    return hits


def _locmem(keys: Sequence[str], size: int) -> int:
    """Cull as Django's LocMemCache does, without its pickles and locks."""
    held: OrderedDict[str, None] = OrderedDict()
    hits = 0
    for key in keys:
        if key in held:
            hits += 1
        else:
            if len(held) >= size:
                for _ in range(len(held) // _CULL_FREQUENCY):
                    held.popitem()
            held[key] = None
        held.move_to_end(key, last=False)
    return hits


def _cachetools(keys: Sequence[str], size: int) -> int:
    from cachetools import LRUCache

    held: LRUCache[str, str] = LRUCache(size)
    hits = 0
    for key in keys:
        if held.get(key) is not None:
            hits += 1
        else:
            held[key] = "value"
    return hits


def _theine(keys: Sequence[str], size: int) -> int:
    from theine import Cache

    held = Cache(size)
    hits = 0
    for key in keys:
        _, is_hit = held.get(key)
        if is_hit:
            hits += 1
        else:
            held.set(key, "value")
    held.close()
    return hits


OURS = tuple(POLICIES)
CONTENDERS: dict[str, Contender] = {
    **{policy: partial(_ours, policy) for policy in OURS},
    **({"cachetools LRU": _cachetools} if find_spec("cachetools") else {}),
    **({"theine": _theine} if find_spec("theine") else {}),
    "LocMem": _locmem,
    "Belady": _belady,
}
