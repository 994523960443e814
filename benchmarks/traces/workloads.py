"""What is asked for: recorded traces, and workloads that are made by seed."""

from __future__ import annotations

import lzma
import random
import sys
from array import array
from itertools import accumulate, count, islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WORKLOADS", "keys_of"]

_DATA = Path(__file__).parent / "data"
_LENGTH = 400_000
_POPULATION = 50_000
_SKEW = 0.99


def _trace(name: str) -> list[int]:
    numbers = array("I", lzma.decompress((_DATA / f"{name}.trace.xz").read_bytes()))
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tolist()


def _zipf(chance: random.Random, length: int) -> list[int]:
    weights = list(accumulate((rank + 1) ** -_SKEW for rank in range(_POPULATION)))
    return chance.choices(range(_POPULATION), cum_weights=weights, k=length)


def _scans(chance: random.Random) -> list[int]:
    """Zipf, and every 20,000 accesses a scan of 5,000 keys that are asked for once."""
    keys, new = _zipf(chance, _LENGTH), count(_POPULATION)
    return [
        key
        for start in range(0, _LENGTH, 20_000)
        for key in [*keys[start : start + 20_000], *islice(new, 5000)]
    ]


def _shift(chance: random.Random) -> list[int]:
    """Zipf whose ranks belong to other keys after every tenth of the time."""
    keys, part = _zipf(chance, _LENGTH), _LENGTH // 10
    return [(key + place // part * 777) % _POPULATION for place, key in enumerate(keys)]


def _loop(chance: random.Random) -> list[int]:
    """Zipf; every third access goes round a loop of 10,000 keys of its own."""
    keys = _zipf(chance, _LENGTH)
    keys[::3] = [_POPULATION + turn % 10_000 for turn in range(len(keys[::3]))]
    return keys


def _wonders(chance: random.Random) -> list[int]:
    """Zipf; every second access is for a key that is asked for once."""
    keys = _zipf(chance, _LENGTH)
    keys[::2] = range(_POPULATION, _POPULATION + len(keys[::2]))
    return keys


WORKLOADS: dict[str, Callable[[random.Random], list[int]]] = {
    "web07": lambda _: _trace("web07"),
    "web12": lambda _: _trace("web12"),
    "orm-night": lambda _: _trace("orm-night"),
    "zipf": lambda chance: _zipf(chance, _LENGTH),
    "zipf + scans": _scans,
    "shifting zipf": _shift,
    "zipf + loop": _loop,
    "one-hit wonders": _wonders,
}


def keys_of(name: str) -> list[str]:
    """Return the keys of a workload, in the order of access."""
    names: dict[int, str] = {}
    numbers = WORKLOADS[name](random.Random(7))
    return [names.setdefault(each, f"key:{each}") for each in numbers]
