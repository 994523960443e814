"""Caches of this process alone, without a shared store: integers, and objects.

They never ask a server, and no other process sees them.  After a fork parent and child
have a copy each.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from weakref import WeakSet, ref

from cachebridge.checking.checks import choice, integer, or_none
from cachebridge.config import seconds
from cachebridge.core.entry import make_entry
from cachebridge.engine.janitor import JANITOR
from cachebridge.errors import ConfigError
from cachebridge.events import event
from cachebridge.l1.copies import ENTRY_OVERHEAD_BYTES, estimate_bytes
from cachebridge.l1.eviction import POLICIES
from cachebridge.stats import Counters
from cachebridge.subscripts import Subscripts

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from contextlib import AbstractContextManager

__all__ = ["IntCache", "ObjCache"]

Reason: TypeAlias = Literal["deleted", "evicted", "expired", "replaced"]
OnEvicted: TypeAlias = "Callable[[Any, Any, Reason], object]"

SETS_PER_SWEEP: Final = 64
SWEEP_S: Final = 5.0
"""Seconds within which an expired object leaves, though no caller reads it."""
_log = logging.getLogger("cachebridge.local")
_alive: WeakSet[IntCache | ObjCache] = WeakSet()


class IntCache(Subscripts):
    """Integers by key: counters that threads share.  Thread safe; unbounded.

    ``add`` is the fast one: a closure, which calls nothing while it holds the lock.
    """

    get: Callable[..., Any]
    """``get(key, default=None)``: return the integer, or ``default``; takes no lock."""
    add: Callable[..., int]
    """``add(key, delta=1)``: add, and return the sum; a missing integer is 0.

    Raises TypeError if ``delta`` is no int.
    """

    def __init__(self) -> None:
        self._values: dict[Hashable, int] = {}
        self.get = self._values.get
        self._lock = threading.RLock()
        """Reentrant: to find a key may run its ``__eq__``, which may use the cache."""
        self.add = _make_add(self._values, self._lock)
        _alive.add(self)

    def set(self, key: Hashable, value: int) -> None:
        """Set an integer.  Raises TypeError for anything else."""
        value = _plain_int("value", value)
        with self._lock:
            self._values[key] = value

    def delete(self, key: Hashable) -> bool:
        """Delete the key; return whether it existed."""
        with self._lock:
            return self._values.pop(key, None) is not None

    def __setitem__(self, key: Hashable, value: int) -> None:
        self.set(key, value)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)


def _make_add(
    values: dict[Hashable, int], lock: AbstractContextManager[bool]
) -> Callable[..., int]:
    one = 1

    def add(key: Hashable, delta: int = 1) -> int:
        if delta is not one and type(delta) is not int:  # the first is cheaper, and 1
            delta = _plain_int("delta", delta)
        with lock:
            try:  # no call in here, at which the thread might have to pause
                total = values[key] = values[key] + delta
            except KeyError:
                total = values[key] = 0 + delta
        return total

    return add


def _plain_int(name: str, value: object) -> int:
    """Return the int without its subclass, whose sums might run any code."""
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    return int.__pos__(value)


class ObjCache(Subscripts):
    """Objects by key, bounded in number, memory and time.  Thread safe.

    ``max_entries`` and ``max_bytes`` bound what it holds, None does not.  The bytes are
    an estimate: of a container the items are counted, of any other object itself alone.
    ``ttl`` is the lifetime of each entry in seconds, None without end.  ``policy`` says
    which entries leave when there is no room.

    Callers get the very object that was set, not a copy.

    ``on_evicted(key, value, reason)`` is called for every value that leaves, after the
    fact, by the thread that made it leave, outside of any lock.  ``reason`` is
    "evicted" (no room), "expired", "deleted" or "replaced".  An exception of it is
    logged.

    Raises ConfigError for an option that cannot be used.
    """

    def __init__(
        self,
        *,
        max_entries: int | None = None,
        max_bytes: int | None = None,
        ttl: float | None = None,
        policy: str = "s3fifo",
        on_evicted: OnEvicted | None = None,
    ) -> None:
        bound = or_none(integer(1))
        max_entries = bound("max_entries", max_entries)
        self._max_bytes = max_bytes = bound("max_bytes", max_bytes)
        self._ttl = or_none(seconds)("ttl", ttl)
        make_order = POLICIES[choice(*POLICIES)("policy", policy)]
        if on_evicted is not None and not callable(on_evicted):
            raise ConfigError(f"on_evicted must be callable, not {on_evicted!r}")
        self._on_evicted = on_evicted
        self._clock = time.monotonic
        self._held: dict[Any, tuple[Any, float]] = {}
        """Values with the end of their time, the oldest first."""
        self._order = make_order(
            max_entries=sys.maxsize if max_entries is None else max_entries,
            max_bytes=sys.maxsize if max_bytes is None else max_bytes,
            counters=Counters(),
        )
        """Knows which keys leave; it holds no values.

        An exception may strike between a step there and one here.  A key without a
        value leaves as others do; ``_drop_strays`` removes what this does not know.
        """
        self._note = self._order.note
        self._sweeping = Sweeping(self)
        self._watched_in = 0
        """The process whose janitor visits the cache; 0 if none does."""
        self._sets = 0
        self._lock = threading.RLock()
        """Reentrant: the keys' ``__eq__`` and ``__del__`` may use the cache."""
        _alive.add(self)

    def get(self, key: Hashable, default: Any = None) -> Any:
        """Return the value, or ``default``.  A hit takes no lock."""
        held = self._held.get(key)
        if held is None:
            return default
        value, expires = held
        if expires != inf and self._clock() >= expires:
            self._expire(key, held)
            return default
        self._note(key)  # type: ignore[arg-type] # any key will do
        return value

    def set(self, key: Hashable, value: Any) -> None:
        """Set the value; others leave if there is no room for all.

        A value that is larger than ``max_bytes`` leaves at once.
        """
        size = 0
        if self._max_bytes is not None:
            size = sys.getsizeof(key) + estimate_bytes(value) + ENTRY_OVERHEAD_BYTES
        expires = inf if self._ttl is None else self._clock() + self._ttl
        left: list[tuple[Any, Any, Reason]] = []
        with self._lock:
            self._leave(key, "replaced", left)
            self._sets += 1
            if expires != inf and not self._sets % SETS_PER_SWEEP:
                self._sweep(left, 2 * SETS_PER_SWEEP)
            if self._max_bytes is not None and size > self._max_bytes:
                left.append((key, value, "evicted"))
            else:
                entry = make_entry(inf, None, None, size)
                evicted = self._order.put(key, entry)  # type: ignore[arg-type]
                self._held[key] = (value, expires)
                for each in evicted:
                    self._leave(each, "evicted", left)
                if len(self._held) > len(self._order):
                    self._drop_strays(left)
        self._tell(left)
        if expires != inf and self._watched_in != (pid := os.getpid()):
            is_watched = JANITOR.watch(self._sweeping, SWEEP_S)
            self._watched_in = pid if is_watched else 0

    def delete(self, key: Hashable) -> bool:
        """Delete the key; return whether it existed."""
        left: list[tuple[Any, Any, Reason]] = []
        with self._lock:
            held = self._held.get(key)
            is_over = held is not None and self._clock() >= held[1]
            self._leave(key, "expired" if is_over else "deleted", left)
        self._tell(left)
        return bool(left) and not is_over

    def _expire(self, key: Hashable, held: tuple[Any, float]) -> None:
        """Remove an entry whose time is over, unless it has been set anew."""
        left: list[tuple[Any, Any, Reason]] = []
        with self._lock:
            if self._held.get(key) is held:
                self._leave(key, "expired", left)
        self._tell(left)

    def _sweep_some(self, limit: int) -> int:
        """Let up to ``limit`` entries go whose time is over; return how many."""
        left: list[tuple[Any, Any, Reason]] = []
        with self._lock:
            self._sweep(left, limit)
        self._tell(left)
        return len(left)

    def _sweep(self, left: list[tuple[Any, Any, Reason]], limit: int) -> None:
        """Let the oldest entries go whose time is over, though no caller reads them."""
        now = self._clock()
        for key, (_, expires) in list(islice(self._held.items(), limit)):
            if now < expires:
                break
            self._leave(key, "expired", left)

    def _drop_strays(self, left: list[tuple[Any, Any, Reason]]) -> None:
        """Let values go that the policy does not know: an earlier call was struck."""
        for key in list(self._held):
            if self._order.look(key) is None:
                self._leave(key, "evicted", left)

    def _leave(
        self, key: Any, reason: Reason, left: list[tuple[Any, Any, Reason]]
    ) -> None:
        """Remove the entry if there is one, and note whom to tell of it."""
        held = self._held.pop(key, None)
        if held is not None:
            self._order.pop(key)
            left.append((key, held[0], reason))

    def _tell(self, left: list[tuple[Any, Any, Reason]]) -> None:
        """Call ``on_evicted``; the caller holds no lock."""
        if self._on_evicted is None:
            return
        for key, value, reason in left:
            try:
                self._on_evicted(key, value, reason)
            except Exception:  # noqa: BLE001 of the application; the caller is another
                _log.exception(
                    "on_evicted has failed for a value that was %s",
                    reason,
                    extra=event("local.on_evicted_failed"),
                )

    def __setitem__(self, key: Hashable, value: Any) -> None:
        self.set(key, value)

    def __contains__(self, key: Hashable) -> bool:
        held = self._held.get(key)
        return held is not None and self._clock() < held[1]

    def __len__(self) -> int:
        """Return how many entries are held, expired ones included."""
        return len(self._held)


class Sweeping:
    """What the janitor visits: it goes with its cache, and does not keep it alive."""

    def __init__(self, cache: ObjCache) -> None:
        self._cache = ref(cache)

    def begin_sweep(self) -> int:
        """Return how many entries there are."""
        cache = self._cache()
        return 0 if cache is None else len(cache)

    def sweep_slice(self, limit: int, _start: int) -> int:
        """Remove the expired among the oldest, which expire first."""
        cache = self._cache()
        return 0 if cache is None else cache._sweep_some(limit)  # noqa: SLF001 of this module


def _after_fork_in_child() -> None:
    """Free the locks that threads of the parent held; saved methods have the same."""
    for cache in tuple(_alive):
        cache._lock._at_fork_reinit()  # type: ignore[attr-defined] # noqa: SLF001 as threading's own


os.register_at_fork(after_in_child=_after_fork_in_child)
