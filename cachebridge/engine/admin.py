"""What every adapter offers besides reading and writing, and the end of ``Cache``.

Imports nothing of the engine before it is needed: importing cachebridge is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Self

from cachebridge.waiting.io import TASKS, THREADS
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from cachebridge.engine.binding import Binding
    from cachebridge.engine.counter import BatchedCounter, Counter
    from cachebridge.stats import Health, Stats


class AdminMethods:
    """Base of the adapters: the engine's state, and its switches."""

    _binding: Binding

    _full_key_of: Callable[[str], str]
    """Returns the full key of a key that is not the caller's."""

    def counter(
        self,
        name: str,
        floor: int | None = 0,
        ceiling: int | None = None,
        ttl: float | None = None,
    ) -> Counter:
        """Return the counter of this name, which all processes share.

        It stays from ``floor`` to ``ceiling``; None does not bound.  Processes must
        agree on both.  ``ttl`` is its lifetime in seconds from its first change or
        ``reset`` on, None without end.  Asks no server.  Raises ConfigError for an
        argument that cannot be used.
        """
        from cachebridge.engine.counter import counter_key, make_counter  # noqa: PLC0415

        binding, full_key = self._binding, self._full_key_of(counter_key(name))
        return make_counter(
            self, binding, name, full_key, floor=floor, ceiling=ceiling, ttl=ttl
        )

    def batched_counter(
        self, name: str, ttl: float | None = None, batch_ms: float = 1000
    ) -> BatchedCounter:
        """Return the counter of this name for adding in batches: page views, clicks.

        Without bounds.  The process sends its sums every ``batch_ms`` milliseconds, or
        earlier if another counter has less.  ``ttl`` as for ``counter``.
        """
        from cachebridge.engine.counter import (  # noqa: PLC0415
            counter_key,
            make_batched_counter,
        )

        binding, full_key = self._binding, self._full_key_of(counter_key(name))
        return make_batched_counter(
            self, binding, name, full_key, ttl=ttl, batch_ms=batch_ms
        )

    def warm(
        self, keys: Iterable[Any] | None = None, *, pattern: str | None = None
    ) -> int:
        """Read keys from the shared store into L1; return how many entries it gained.

        ``keys`` are the caller's keys, or ``pattern`` is a glob for them, such as
        ``product:*`` (Redis only).  Passed over, and not counted, are keys that L1
        holds, that it may not hold (``L1_EXCLUDE``, size), and that do not exist.  A
        round trip reads 500.  In a new process it waits for L1 to be trusted,
        ``BUS_TRUST`` at most.  Safe beside reads and writes, as every read is.

        Raises ConfigError, before it reads any value, for more keys than
        ``L1_MAX_ENTRIES``, which a pattern of ``*`` easily matches; TypeError without
        keys and pattern, and with both; UnsupportedOperationError for a pattern where
        keys cannot be found by one.  Returns 0 while the shared store is away.
        """
        from cachebridge.engine.warm import warm  # noqa: PLC0415

        return run(warm(self._binding, THREADS, self._full_key_of, keys, pattern))

    async def awarm(
        self, keys: Iterable[Any] | None = None, *, pattern: str | None = None
    ) -> int:
        """See ``warm``."""
        from cachebridge.engine.warm import warm  # noqa: PLC0415

        return await warm(self._binding, TASKS, self._full_key_of, keys, pattern)

    def invalidate_tags(self, *tags: str) -> bool:
        """Make every value of these tags invalid, in every process: ``docs/tags.md``.

        One round trip and one message, however many values there are.  A value that
        was computed before is not served afterwards; another process may serve it for
        some milliseconds, until the message arrives.  Returns False while the shared
        store is away: then this process has none of them, and the others will be told
        when it is back.  Raises TypeError and ValueError for what is no tag.
        """
        return run(self._binding.invalidate_tags(THREADS, tags))

    async def ainvalidate_tags(self, *tags: str) -> bool:
        """See ``invalidate_tags``."""
        return await self._binding.invalidate_tags(TASKS, tags)

    def bypass_l1(self) -> AbstractContextManager[object]:
        """Let reads of this thread or task go to L2 while the context is open."""
        return self._binding.engine.local_reads.bypass()

    def l1_off(self) -> None:
        """Switch L1 off in every process on this server, now and after restarts."""
        self._binding.engine.switch_l1(on=False)

    def l1_on(self) -> None:
        """Undo ``l1_off``."""
        self._binding.engine.switch_l1(on=True)

    def server_of(self, key: str) -> str:
        """Return the URL, without login, of the server that has the key.

        Of several, that which the process would ask now; it is not asked.
        """
        return self._binding.engine.stores.label_of(self._full_key_of(key))

    def stats(self) -> Stats:
        """Return a snapshot of the engine's counters in this process."""
        from cachebridge.engine.report import stats_of  # noqa: PLC0415 see above

        return stats_of(self._binding.engine)

    def health(self) -> Health:
        """Ask the shared store now and report the state of both levels."""
        from cachebridge.engine.report import health_of  # noqa: PLC0415 see above

        return health_of(self._binding.engine)


class _Closed:
    """Takes the place of the parts of a cache that was closed."""

    @staticmethod
    def refuse(*_args: object) -> NoReturn:
        """Raise RuntimeError."""
        raise RuntimeError("the cache was closed: make another Cache")

    def __getattr__(self, _name: str) -> NoReturn:
        self.refuse()


class Closing:
    """Base of ``Cache``."""

    _binding: Binding
    _local_get: Callable[[str], Any]
    _locate: Callable[..., Any]

    def close(self) -> None:
        """End the use of this object, and of its counters.

        Every later call but ``close`` raises RuntimeError.

        With the last cache on a server its listener ends, L1 is dropped, and idle
        connections are closed; other caches go on.  Not needed at the end of a
        process.  What is owed since an outage is lost, as it is then.
        """
        from cachebridge.engine.registry import end  # noqa: PLC0415 see __init__

        binding = self._binding
        if isinstance(binding, _Closed):
            return
        self._binding = closed = _Closed()  # type: ignore[assignment] # raises always
        binding.close(closed)
        self._local_get = closed.refuse
        self._locate = closed.refuse
        if binding.engine.listening.unregister_adapter(self):
            end(binding.engine)

    async def aclose(self) -> None:
        """See ``close``; waits only where messages are owed (``BUS_LOCATION``)."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.close()
