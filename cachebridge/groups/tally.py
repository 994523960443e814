"""Which function has the name of a group, and what is counted under it."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from cachebridge.errors import ConfigError, UncacheableError
from cachebridge.identity.naming import variant_and_objects_of
from cachebridge.identity.values import text_of
from cachebridge.stats import GroupStats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Origin(NamedTuple):
    """What tells the function of a group from others, also if it is imported anew."""

    name: str
    rest: tuple[str, ...]
    """What tells it from others of that name: closure, code of a lambda, object."""


def origin_of(function: Any) -> Origin:
    """Return what tells a function from others."""
    qualified = getattr(function, "__qualname__", None)
    name = f"{function.__module__}.{qualified}" if qualified else repr(function)
    if isinstance(function, FunctionType):
        variant, objects = variant_and_objects_of(function)
        return Origin(name, (variant, *objects))
    with suppress(UncacheableError):
        return Origin(name, (text_of(function),))
    return Origin(name, (repr(function),))


class Tally:
    """The counters of all groups that one cache has made under one name.

    They are plain attributes, as those of the engine (``cachebridge.stats``).
    """

    def __init__(self, name: str, origin: Origin) -> None:
        self.name = name
        self.origin = origin
        self.reset()

    def reset(self) -> None:
        """Set all counters to zero, as in a forked child."""
        self.hits = self.loads = self.failures = 0

    @contextmanager
    def loading(self, count: int = 1) -> Iterator[None]:
        """Count so many loads, as failures if they raise."""
        self.loads += count
        try:
            yield
        except BaseException:
            self.failures += count
            raise

    def stats(self) -> GroupStats:
        """Return a snapshot of the counters."""
        return GroupStats(self.name, self.hits, self.loads, self.failures)


_by_owner: Final[WeakKeyDictionary[object, WeakValueDictionary[str, Tally]]] = (
    WeakKeyDictionary()
)
"""By the cache, and by the name.  A tally lives as long as a group with its name."""
_alive: Final[WeakSet[Tally]] = WeakSet()


def tally_of(owner: object, name: str, function: Callable[..., Any]) -> Tally:
    """Return the tally of a group of the owner.

    Raises ConfigError if a group of another function has the name.
    """
    origin = origin_of(function)
    by_name = _by_owner.setdefault(owner, WeakValueDictionary())
    tally = by_name.setdefault(name, Tally(name, origin))
    if tally.origin != origin:
        is_namesake = tally.origin.name == origin.name
        raise ConfigError(
            f"group {name!r}: this cache has a group of that name, whose values are "
            f"loaded by {tally.origin.name}, not by {origin.name}"
            f"{' of another closure or object' * is_namesake}"
        )
    _alive.add(tally)
    return tally


def stats_of_groups(owner: object) -> tuple[GroupStats, ...]:
    """Return the counters of the owner's groups in use, by name."""
    found = [ref() for ref in _by_owner.get(owner, WeakValueDictionary()).valuerefs()]
    stats = [tally.stats() for tally in found if tally is not None]
    return tuple(sorted(stats, key=lambda each: each.name))


def _after_fork_in_child() -> None:
    for tally in tuple(_alive):
        tally.reset()


os.register_at_fork(after_in_child=_after_fork_in_child)
