"""T4: a hit in the bare engine, beside the least that correct pure Python can do."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from importlib.util import find_spec
from threading import Lock

import cachebridge
from benchmarks import contenders
from benchmarks.contenders import OURS
from benchmarks.harness import interleave, timed_batch
from benchmarks.report import Limit, Row

__all__ = ["measure"]

_KEYS = [f"article:{number:04d}" for number in range(100)]
_PAIRS = dict.fromkeys(_KEYS, "a short string")
_HOUR_S = 3600.0
_SIZE = 10_000
_ROUNDS = 61

FLOOR = "floor"
ORDERED_DICT = "OrderedDict + Lock"
CACHEBOX = "cachebox TTLCache"
CACHETOOLS = "cachetools TTLCache + Lock"

Getter = Callable[[str], object]


class Floor:
    """A throw-away prototype: look up, compare the deadlines, return by reference."""

    def __init__(self) -> None:
        deadline = time.monotonic() + _HOUR_S
        self._entries = {key: (value, deadline) for key, value in _PAIRS.items()}
        self._trusted_until = deadline

    def get(self, key: str, default: object = None) -> object:
        entry = self._entries.get(key)
        if entry is None:
            return default
        value, deadline = entry
        now = time.monotonic()
        if now >= deadline or now >= self._trusted_until:
            return default
        return value


class LockedLRU:
    """An LRU as it is usually written: an OrderedDict under a lock."""

    def __init__(self) -> None:
        self._entries = OrderedDict(_PAIRS)
        self._lock = Lock()

    def get(self, key: str, default: object = None) -> object:
        with self._lock:
            try:
                value = self._entries[key]
            except KeyError:
                return default
            self._entries.move_to_end(key)
            return value


def _cachetools_getter() -> Getter:
    from cachetools import TTLCache

    entries: TTLCache[str, object] = TTLCache(_SIZE, _HOUR_S)
    entries.update(_PAIRS)
    lock = Lock()

    def get(key: str) -> object:
        with lock:
            return entries.get(key)

    return get


def _cachebox_getter() -> Getter:
    from cachebox import TTLCache

    entries: TTLCache[str, object] = TTLCache(_SIZE, _HOUR_S)
    entries.update(_PAIRS)
    return entries.get


def measure(redis_url: str) -> list[Row]:
    """Time hits of a few small stores, one call each."""
    cache = cachebridge.Cache(contenders.database(redis_url, 4))
    contenders.await_trust(cache)
    cache.set_many(_PAIRS)
    cache.get_many(_KEYS)
    getters: dict[str, Getter] = {
        FLOOR: Floor().get,
        OURS: cache.get,
        ORDERED_DICT: LockedLRU().get,
    }
    if find_spec("cachebox"):
        getters[CACHEBOX] = _cachebox_getter()
    if find_spec("cachetools"):
        getters[CACHETOOLS] = _cachetools_getter()

    figures = interleave(
        {
            label: timed_batch(
                "for key in keys: get(key)",
                {"keys": _KEYS, "get": getter},
                calls=len(_KEYS),
            )
            for label, getter in getters.items()
        },
        _ROUNDS,
    )
    for label in (CACHEBOX, CACHETOOLS):
        figures.setdefault(label, [])
    limit = Limit(OURS, FLOOR, 1.5, "at most", "<= 1.5x the floor")
    verdict = limit.judge(figures)
    return [Row("T4", "bare engine get, hit in L1", "s", figures, [verdict])]
