"""Counters as callers have them: faces of ``engine/counting.py`` and ``batches.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cachebridge.core.keys import COUNTER_PREFIX, fits_message, shown_key
from cachebridge.core.ttl import to_milliseconds
from cachebridge.errors import ConfigError, L2Error
from cachebridge.l2.store import COUNTABLE, Bounds
from cachebridge.waiting.io import TASKS, THREADS
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from cachebridge.engine.binding import Binding
    from cachebridge.waiting.io import IO

MOST: Final = COUNTABLE[-1]
MOST_BATCH_MS: Final = 3_600_000


class Counter:
    """An integer in the shared store that does not pass its bounds.

    ``take`` and ``give`` are one atomic step each, whatever other threads, tasks and
    processes do.  A counter that does not exist is 0.  What the floor or the ceiling
    refuses is remembered by the process, and answered without the shared store until
    another process gives, takes or resets.

    While the shared store is away ``take``, ``give`` and ``reset`` return False and
    ``value`` None, or all raise L2Error with ``ON_ERROR="raise"``.  If an answer is
    lost, the change may have been made: nothing is sold twice, but a unit may be lost.

    Thread safe.  The methods that begin with ``a`` are the same for tasks.  All raise
    TypeError if the key holds something else, and if ``n`` is no int; ValueError for an
    ``n`` below 1; RuntimeError once the cache was closed.
    """

    __slots__ = ("_binding", "_bounds", "_cache", "_key", "_ttl_ms", "name")

    def __init__(
        self,
        cache: object,
        name: str,
        binding: Binding,
        key: str,
        *,
        bounds: Bounds,
        ttl_ms: int | None,
    ) -> None:
        """Made by ``cache.counter``; ``key`` is the full key."""
        self._cache = cache  # kept: the engine retires without one
        self.name = name
        self._binding = binding
        self._key = key
        self._bounds = bounds
        self._ttl_ms = ttl_ms

    def take(self, n: int = 1) -> bool:
        """Subtract ``n``; return False if that passes the floor, changing nothing."""
        delta = -require_positive(n)
        operations = self._binding.counting.for_threads
        return run(operations.count(self._key, delta, self._bounds, self._ttl_ms))

    async def atake(self, n: int = 1) -> bool:
        """See ``take``."""
        delta = -require_positive(n)
        operations = self._binding.counting.for_tasks
        return await operations.count(self._key, delta, self._bounds, self._ttl_ms)

    def give(self, n: int = 1) -> bool:
        """Add ``n``; return False if that passes the ceiling, changing nothing."""
        delta = require_positive(n)
        operations = self._binding.counting.for_threads
        return run(operations.count(self._key, delta, self._bounds, self._ttl_ms))

    async def agive(self, n: int = 1) -> bool:
        """See ``give``."""
        delta = require_positive(n)
        operations = self._binding.counting.for_tasks
        return await operations.count(self._key, delta, self._bounds, self._ttl_ms)

    def value(self) -> int | None:
        """Return the value, from the shared store; None while that is away."""
        return run(self._binding.counting.for_threads.counted(self._key))

    async def avalue(self) -> int | None:
        """See ``value``."""
        return await self._binding.counting.for_tasks.counted(self._key)

    def reset(self, n: int) -> bool:
        """Set the value to ``n``, and begin its TTL anew; return whether it was set.

        Raises ValueError if ``n`` is not within the bounds.
        """
        self._require_within(n)
        operations = self._binding.counting.for_threads
        return run(operations.set_count(self._key, n, self._ttl_ms))

    async def areset(self, n: int) -> bool:
        """See ``reset``."""
        self._require_within(n)
        operations = self._binding.counting.for_tasks
        return await operations.set_count(self._key, n, self._ttl_ms)

    def _require_within(self, n: int) -> None:
        _require_int(n)
        floor, ceiling = self._bounds
        is_low = floor is not None and n < floor
        if is_low or (ceiling is not None and n > ceiling) or n not in COUNTABLE:
            raise ValueError(
                f"n is {n}: it must be from floor ({floor}) to ceiling ({ceiling}), "
                "and between -2**53 and 2**53"
            )


class BatchedCounter:
    """An integer in the shared store, to which processes add in batches.

    ``add`` sums in this process, per thread, and waits for nothing.  The sums are sent
    every ``batch_ms`` milliseconds, by ``flush``, and at the end of the process.  A
    process that is killed loses what it has not sent.  While the shared store is away
    the sums wait; what may have arrived when it went away is not sent again.

    Thread safe.  The methods that begin with ``a`` are the same for tasks; ``add``
    serves both.  All raise RuntimeError once the cache was closed.
    """

    __slots__ = ("_binding", "_cache", "_key", "_ttl_ms", "name")

    def __init__(
        self,
        cache: object,
        name: str,
        binding: Binding,
        key: str,
        *,
        ttl_ms: int | None,
    ) -> None:
        """Made by ``cache.batched_counter``; ``key`` is the full key."""
        self._cache = cache  # kept, as above
        self.name = name
        self._binding = binding
        self._key = key
        self._ttl_ms = ttl_ms

    def add(self, n: int = 1) -> None:
        """Add ``n``, at least 1, to what will be sent."""
        if type(n) is not int or not 1 <= n <= MOST:
            require_positive(n)
        self._binding.batches.add(self._key, n, self._ttl_ms)

    def value(self) -> int | None:
        """Return what the shared store has by now; None while that is away."""
        return run(self._binding.counting.for_threads.counted(self._key))

    async def avalue(self) -> int | None:
        """See ``value``."""
        return await self._binding.counting.for_tasks.counted(self._key)

    def flush(self) -> bool:
        """Send this counter's sums of all threads now; return whether that was done.

        What the background is sending at this moment may arrive later.
        """
        return run(self._flush(THREADS))

    async def aflush(self) -> bool:
        """See ``flush``."""
        return await self._flush(TASKS)

    async def _flush(self, io: IO) -> bool:
        try:
            return await self._binding.batches.flush(io, self._key)
        except L2Error:
            if self._binding.options.on_error != "degrade":
                raise
            return False


def require_positive(n: int) -> int:
    """Return ``n``; TypeError unless it is an int, ValueError if it is below 1."""
    _require_int(n)
    if n < 1 or n not in COUNTABLE:
        raise ValueError(f"n must be an int from 1 to 2**53 - 1, not {n}")
    return n


def _require_int(n: object) -> None:
    if type(n) is not int:
        raise TypeError(f"n must be an int, not {type(n).__name__}")


def counter_key(name: object) -> str:
    """Return the key of a counter; ConfigError if its name cannot be one."""
    if not isinstance(name, str) or not name:
        raise ConfigError(f"name must be a str that is not empty, not {name!r}")
    return COUNTER_PREFIX + name  # plain, whatever kind of str the name is


def counter_ttl_ms(ttl: float | None) -> int | None:
    """Return a TTL in milliseconds; ConfigError unless it is above 0 or None."""
    try:
        ttl_ms = to_milliseconds(ttl)
    except (TypeError, ValueError) as exc:
        raise ConfigError(f"ttl: {exc}") from None
    if ttl_ms == 0:
        raise ConfigError(f"ttl must be seconds above 0, or None, not {ttl!r}")
    return ttl_ms


def make_counter(
    cache: object,
    binding: Binding,
    name: str,
    full_key: str,
    *,
    floor: int | None,
    ceiling: int | None,
    ttl: float | None,
) -> Counter:
    """Make a counter; ConfigError for bounds or a TTL that cannot be used."""
    for argument, bound in (("floor", floor), ("ceiling", ceiling)):
        if bound is not None and (type(bound) is not int or bound not in COUNTABLE):
            raise ConfigError(
                f"{argument} must be an int between -2**53 and 2**53, or None, not "
                f"{bound!r}"
            )
    if floor is not None and ceiling is not None and floor > ceiling:
        raise ConfigError(f"floor ({floor}) must not be above ceiling ({ceiling})")
    bounds = Bounds(floor, ceiling)
    ttl_ms = counter_ttl_ms(ttl)
    key = _short(full_key)
    return Counter(cache, name, binding, key, bounds=bounds, ttl_ms=ttl_ms)


def make_batched_counter(
    cache: object,
    binding: Binding,
    name: str,
    full_key: str,
    *,
    ttl: float | None,
    batch_ms: float,
) -> BatchedCounter:
    """Make a batched counter; ConfigError for an argument that cannot be used."""
    if type(batch_ms) not in {int, float} or not 1 <= batch_ms <= MOST_BATCH_MS:
        valid = f"milliseconds from 1 to {MOST_BATCH_MS:,}"
        raise ConfigError(f"batch_ms must be {valid}, not {batch_ms!r}")
    key, ttl_ms = _short(full_key), counter_ttl_ms(ttl)
    binding.batches.send_every(batch_ms / 1000)
    return BatchedCounter(cache, name, binding, key, ttl_ms=ttl_ms)


def _short(full_key: str) -> str:
    if not fits_message(full_key):
        raise ConfigError(f"name is too long for a counter: {shown_key(full_key)}")
    return full_key
