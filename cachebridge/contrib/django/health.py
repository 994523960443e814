"""What the aliases of a process have to say about themselves, as plain JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from cachebridge.contrib.django.aliases import (
    UnusableAliasError,
    binding_of,
    bridge,
    conceal,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cachebridge.django_backend import CacheBridge

_MOST_THREADS: Final = 16

State = dict[str, Any]


def ask_servers(names: Iterable[str]) -> dict[str, State]:
    """Return every field of ``health()`` and its ``ok``, by alias; L1 is not asked.

    All aliases at once: several servers that are silent take no longer than one.
    """
    return _states(names, _ask_server)


def look_at_process(names: Iterable[str]) -> dict[str, State]:
    """Return what this process knows by itself, by alias; nothing leaves it."""
    return _states(names, _look)


def _ask_server(cache: CacheBridge) -> State:
    health = cache.health()
    return {**asdict(health), "ok": health.ok}


def _look(cache: CacheBridge) -> State:
    breaker = binding_of(cache).engine.breaker
    return {
        "l1_trusted": cache.stats().trusted,
        "breaker_open": breaker.is_open,
        "ok": True,
    }


def _states(
    names: Iterable[str], look: Callable[[CacheBridge], State]
) -> dict[str, State]:
    states: dict[str, State] = {}
    usable: dict[str, CacheBridge] = {}
    for name in names:
        states[name] = {}  # in the order of the names
        try:
            usable[name] = bridge(name)
        except UnusableAliasError as exc:
            states[name] = {"error": str(exc), "ok": False}
    for name, state in zip(usable, _at_once(look, usable.values()), strict=True):
        states[name] = {field: _plain(state[field], name) for field in state}
    return states


def _at_once(
    look: Callable[[CacheBridge], State], bridges: Iterable[CacheBridge]
) -> list[State]:
    every = list(bridges)
    if len(every) <= 1:
        return [look(each) for each in every]
    with ThreadPoolExecutor(min(len(every), _MOST_THREADS)) as pool:
        return list(pool.map(look, every))


def _plain(value: Any, name: str) -> Any:
    """Turn any field's value into what JSON knows, secrets removed from texts."""
    match value:
        case Enum():
            return _plain(value.value, name)
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): _plain(inner, name) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(inner, name) for inner in value]
        case _:
            return conceal(str(value), name)
