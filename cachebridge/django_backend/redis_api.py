"""What django-redis has and Django has not: TTLs, conditions, numbers, locks, clients.

Their names, parameters and answers are django-redis's, and each has its awaited twin.
Every change of a TTL reaches the L1 of all processes as a write does.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.core.cache.backends.base import DEFAULT_TIMEOUT

from cachebridge.core.ttl import FOREVER_MS, GONE_MS, LONGEST_S
from cachebridge.django_backend.keys import KeyedCache
from cachebridge.engine.parts.adding import total
from cachebridge.errors import MissingKeyError
from cachebridge.waiting.io import TASKS, THREADS
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from cachebridge.engine.extras.locks import TaskLock, ThreadLock
    from cachebridge.engine.outage.fallbacks import ResilientOperations

Timeout = float | timedelta | None
When = float | datetime

TRIES: Final = 3
"""Rounds in which ``incr`` finds no number, and then finds one."""


class RedisMethods(KeyedCache):
    """What the backend has of django-redis's API.

    TTLs are those of the shared store: in Memcached whole seconds.
    """

    # -- how long a key lives ----------------------------------------------------------

    def ttl(self, key: Any, version: int | None = None) -> int | None:
        """Return the seconds that the key has to live: None without end.

        0 if it does not exist, or while the shared store is away.
        """
        operations, full_key = self._locate(key, version)
        return _seconds(run(operations.for_threads.ttl(full_key)))

    async def attl(self, key: Any, version: int | None = None) -> int | None:
        """See ``ttl``."""
        operations, full_key = self._locate(key, version)
        return _seconds(await operations.for_tasks.ttl(full_key))

    def pttl(self, key: Any, version: int | None = None) -> int | None:
        """Return the same in milliseconds."""
        operations, full_key = self._locate(key, version)
        return _milliseconds(run(operations.for_threads.ttl(full_key)))

    async def apttl(self, key: Any, version: int | None = None) -> int | None:
        """See ``pttl``."""
        operations, full_key = self._locate(key, version)
        return _milliseconds(await operations.for_tasks.ttl(full_key))

    def persist(self, key: Any, version: int | None = None) -> bool:
        """Let the key live without end; return whether it exists."""
        operations, full_key = self._locate(key, version)
        return run(operations.for_threads.touch(full_key, None))

    async def apersist(self, key: Any, version: int | None = None) -> bool:
        """See ``persist``."""
        operations, full_key = self._locate(key, version)
        return await operations.for_tasks.touch(full_key, None)

    def expire(self, key: Any, timeout: Timeout, version: int | None = None) -> bool:
        """Let the key end after so many seconds; return whether it exists.

        0 or less deletes it; None is ``persist``.  A timedelta will do.
        """
        operations, full_key = self._locate(key, version)
        return run(operations.for_threads.touch(full_key, self._in_ms(timeout)))

    async def aexpire(
        self, key: Any, timeout: Timeout, version: int | None = None
    ) -> bool:
        """See ``expire``."""
        operations, full_key = self._locate(key, version)
        return await operations.for_tasks.touch(full_key, self._in_ms(timeout))

    def pexpire(self, key: Any, timeout: Timeout, version: int | None = None) -> bool:
        """Let the key end after so many milliseconds; see ``expire``."""
        return self.expire(key, _from_ms(timeout), version)

    async def apexpire(
        self, key: Any, timeout: Timeout, version: int | None = None
    ) -> bool:
        """See ``pexpire``."""
        return await self.aexpire(key, _from_ms(timeout), version)

    def expire_at(self, key: Any, when: When, version: int | None = None) -> bool:
        """Let the key end at a datetime, or so many seconds after 1970 (UTC).

        Returns whether it exists; a time that is past deletes it.  A datetime without
        time zone is local time.  The time is read from this process's clock.
        """
        return self.expire(key, _left_s(when, 1), version)

    async def aexpire_at(
        self, key: Any, when: When, version: int | None = None
    ) -> bool:
        """See ``expire_at``."""
        return await self.aexpire(key, _left_s(when, 1), version)

    def pexpire_at(self, key: Any, when: When, version: int | None = None) -> bool:
        """Let the key end at a datetime, or so many milliseconds after 1970 (UTC)."""
        return self.expire(key, _left_s(when, 1000), version)

    async def apexpire_at(
        self, key: Any, when: When, version: int | None = None
    ) -> bool:
        """See ``pexpire_at``."""
        return await self.aexpire(key, _left_s(when, 1000), version)

    def _in_ms(self, timeout: Any) -> int | None:
        if isinstance(timeout, timedelta):
            timeout = timeout.total_seconds()
        return self._ttl_ms(timeout)

    # -- numbers -----------------------------------------------------------------------

    def incr(
        self,
        key: Any,
        delta: Any = 1,
        version: int | None = None,
        *,
        ignore_key_check: bool = False,
    ) -> Any:
        """Add to a number, atomically, and return the sum.

        Raises MissingKeyError if the key does not exist, and CounterUnavailableError
        while the shared store is away; both are ValueErrors.  With ``ignore_key_check``
        a number that is missing becomes ``delta``, without expiry.
        """
        operations, full_key = self._locate(key, version)
        if ignore_key_check:
            return run(_incr_or_make(operations.for_threads, full_key, delta))
        return run(operations.for_threads.incr(full_key, delta))

    async def aincr(
        self,
        key: Any,
        delta: Any = 1,
        version: int | None = None,
        *,
        ignore_key_check: bool = False,
    ) -> Any:
        """See ``incr``."""
        operations, full_key = self._locate(key, version)
        if ignore_key_check:
            return await _incr_or_make(operations.for_tasks, full_key, delta)
        return await operations.for_tasks.incr(full_key, delta)

    # -- locks and clients -------------------------------------------------------------

    def lock(
        self,
        key: Any,
        version: int | None = None,
        timeout: float | None = None,
        sleep: float = 0.1,
        *,
        blocking: bool = True,
        blocking_timeout: float | None = None,
        thread_local: bool = True,
    ) -> ThreadLock:
        """Return redis-py's lock of this name: ``with cache.lock("k", timeout=30):``.

        ``timeout`` is when the server ends it by itself, None never; ``sleep`` is how
        often a caller tries, and ``blocking_timeout`` how long, all in seconds.  Reads
        of its owner find nothing older than what the server had when it was taken.

        Taking and releasing it raise L2Error while the shared store is away, whatever
        ON_ERROR says, and ``redis.exceptions.LockError`` if it is not owned.  Raises
        UnsupportedOperationError over Memcached.
        """
        from cachebridge.engine.extras.locks import LockKeeper, ThreadLock  # noqa: PLC0415

        keeper: Any = LockKeeper(self._binding.engine, THREADS)  # for a client
        return ThreadLock(
            keeper,
            self._locate(key, version)[1],
            timeout=checked_timeout(timeout),
            sleep=checked_sleep(sleep),
            blocking=blocking,
            blocking_timeout=checked_patience(blocking_timeout),
            thread_local=thread_local,
        )

    def alock(
        self,
        key: Any,
        version: int | None = None,
        timeout: float | None = None,
        sleep: float = 0.1,
        *,
        blocking: bool = True,
        blocking_timeout: float | None = None,
        thread_local: bool = True,
    ) -> TaskLock:
        """Return the same for tasks: ``async with cache.alock("k", timeout=30):``."""
        from cachebridge.engine.extras.locks import LockKeeper, TaskLock  # noqa: PLC0415

        keeper: Any = LockKeeper(self._binding.engine, TASKS)  # for a client
        return TaskLock(
            keeper,
            self._locate(key, version)[1],
            timeout=checked_timeout(timeout),
            sleep=checked_sleep(sleep),
            blocking=blocking,
            blocking_timeout=checked_patience(blocking_timeout),
            thread_local=thread_local,
        )

    def get_client(self, write: bool = True) -> Any:  # noqa: ARG002 theirs
        """Return redis-py's client of the server, for commands that a cache lacks.

        ``redis.Redis``, or ``redis.RedisCluster``: the same object each time.  What it
        changes reaches no L1.  ``write`` is django-redis's, and makes no difference.
        Raises UnsupportedOperationError where there is no Redis.
        """
        from cachebridge.engine.extras.clients import client_for_threads  # noqa: PLC0415

        return client_for_threads(self._binding.engine)

    def aget_client(self) -> Any:
        """Return a new client of ``redis.asyncio``, for ``async with``."""
        from cachebridge.engine.extras.clients import client_for_tasks  # noqa: PLC0415

        return client_for_tasks(self._binding.engine)

    @property
    def client(self) -> Any:
        """The cache itself: ``cache.client.get_client()`` works as in django-redis."""
        return self


class Condition(NamedTuple):
    """When ``set`` sets."""

    nx: bool
    xx: bool
    wait: bool


def set_if(  # noqa: PLR0917 the parts of one item
    operations: ResilientOperations,
    full_key: str,
    value: Any,
    ttl_ms: int | None,
    tags: tuple[str, ...],
    when: Condition,
) -> Coroutine[Any, Any, bool]:
    """Set the value if the key does not exist (``nx``), or if it does (``xx``)."""
    if when.nx and when.xx:
        raise ValueError("nx and xx exclude each other: give one of them")
    if when.wait is not True:
        raise ValueError("a set with nx or xx asks the shared store: leave out wait")
    if when.nx:
        return operations.add(full_key, value, ttl_ms, tags=tags)
    return operations.overwrite(full_key, value, ttl_ms, tags=tags)


async def _incr_or_make(
    operations: ResilientOperations, full_key: str, delta: Any
) -> Any:
    """Add to a number; one that is missing becomes ``delta``."""
    total(full_key, 0, delta)  # else any value would be stored
    for _ in range(TRIES):
        try:
            return await operations.incr(full_key, delta)
        except MissingKeyError:
            if await operations.add(full_key, delta, None, fences=False):
                return delta
    return await operations.incr(full_key, delta)


def checked_timeout(timeout: Any) -> float | None:
    """Return the timeout of a lock; raises TypeError or ValueError."""
    if timeout is None:
        return None
    _require_number(timeout, "the timeout of a lock must be None")
    if not timeout > 0:
        raise ValueError(f"the timeout of a lock must be above 0, not {timeout!r}")
    return None if timeout >= LONGEST_S else float(timeout)


def checked_sleep(sleep: Any) -> float:
    """Return the pause between two tries; raises TypeError or ValueError."""
    if isinstance(sleep, bool) or not isinstance(sleep, (int, float)):
        raise TypeError(f"the sleep of a lock must be a number, not {sleep!r}")
    if not 0 <= sleep < LONGEST_S:
        raise ValueError(f"the sleep of a lock must be 0 or more, not {sleep!r}")
    return float(sleep)


def checked_patience(blocking_timeout: Any) -> float | None:
    """Return how long a caller waits for a lock; raises TypeError."""
    if blocking_timeout is not None:
        what = "the blocking_timeout of a lock must be None"
        _require_number(blocking_timeout, what)
    patience_s: float | None = blocking_timeout
    return patience_s


def _milliseconds(left_ms: int) -> int | None:
    if left_ms == FOREVER_MS:
        return None
    return 0 if left_ms == GONE_MS else left_ms


def _seconds(left_ms: int) -> int | None:
    left = _milliseconds(left_ms)
    return None if left is None else (left + 500) // 1000


def _from_ms(timeout: Any) -> Any:
    """Return milliseconds as ``expire`` takes them."""
    if timeout is None or timeout is DEFAULT_TIMEOUT or isinstance(timeout, timedelta):
        return timeout
    _require_number(timeout, "a timeout must be a number of milliseconds, a timedelta")
    return timeout / 1000


def _left_s(when: Any, parts: int) -> float:
    """Return the seconds until then; ``parts`` of a second are counted."""
    if isinstance(when, datetime):
        return when.timestamp() - time.time()
    _require_number(when, "when must be a datetime")
    return float(when) / parts - time.time()


def _require_number(given: object, what: str) -> None:
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise TypeError(f"{what} or a number, not {given!r}")
