"""What several test modules here need: settings, patience, and comparisons."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from tests.rig import eventually
from tests.sides import on_loop
from tests.stores import Place

BRIDGE = "cachebridge.django_backend.CacheBridge"
LOCMEM = "django.core.cache.backends.locmem.LocMemCache"


def entry(location: object, **params: Any) -> dict[str, Any]:
    """Return an entry of CACHES for the backend under test."""
    if isinstance(location, Place):
        return location.entry(BRIDGE, **params)
    return {"BACKEND": BRIDGE, "LOCATION": location, **params}


def trusted(cache):
    """Return the cache once its L1 answers reads."""

    def is_trusted():
        cache.get("never-set")
        return cache.stats().trusted

    eventually(is_trusted, "L1 is trusted")
    return cache


def hits_of(cache, read: Callable[[], object]) -> int:
    """Return how many reads L1 answered while ``read`` ran."""
    before = cache.stats().l1_hits
    read()
    return cache.stats().l1_hits - before


class Outcome(NamedTuple):
    """What one call did, as far as a caller can see."""

    value: Any
    error: type[BaseException] | None
    warned: frozenset[tuple[type[Warning], str]]


def outcome_of(call: Callable[[], Any]) -> Outcome:
    """Run ``call`` and report what came of it, warnings included."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value, error = None, None
        try:
            value = call()
        except Exception as exc:
            error = type(exc)
    warned = frozenset((each.category, str(each.message)) for each in caught)
    return Outcome(shape_of(value), error, warned)


def shape_of(value: Any) -> Any:
    """Make types count in a comparison: 1, True and 1.0 are different values."""
    if isinstance(value, Mapping):
        return type(value), [(shape_of(k), shape_of(v)) for k, v in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [shape_of(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return type(value), sorted(map(repr, value))
    return type(value), repr(value)


class TaskSide:
    """A lock of ``alock`` as a thread uses one of ``lock``."""

    def __init__(self, lock):
        self._lock = lock

    def __getattr__(self, name):
        method = getattr(self._lock, name)

        async def call(*args, **kwargs):
            result = method(*args, **kwargs)
            return await result

        return partial(on_loop, call)

    def __enter__(self):
        self.__getattr__("__aenter__")()

    def __exit__(self, *exc):
        self.__getattr__("__aexit__")(*exc)
