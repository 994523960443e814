"""What a caller gets when L2 does not answer: each operation with its fallback.

Loads and batched counters have theirs beside them (``engine/loading/load.py``,
``engine/counter.py``).  ``docs/outages.md`` documents every fallback.
With ``ON_ERROR="raise"`` the exception comes out instead.  No fallback waits.
"""

from __future__ import annotations

from copy import copy
from os import getpid
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    ParamSpec,
    TypeVar,
)

from cachebridge.core.entry import ABSENT, KIND, MISSING, Missing
from cachebridge.core.keys import NO_TAGS, KeyPattern, matcher_of
from cachebridge.core.ttl import GONE_MS
from cachebridge.engine.messages.fences import fences_end
from cachebridge.engine.operations import Operations
from cachebridge.engine.outage.set_later import SetsLater
from cachebridge.engine.outage.unavailable import without_l2
from cachebridge.engine.removals import SCAN_DONE
from cachebridge.engine.tagging.running import LoadTags
from cachebridge.errors import CounterUnavailableError, L2Error, L2UnavailableError
from cachebridge.l1.local_get import NO_LOCAL_READS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping

    from cachebridge.core.entry import Absent, Entry
    from cachebridge.core.loading import LoadTerms
    from cachebridge.core.write import QueuedWrite
    from cachebridge.engine.loading.get_or_load import Loading
    from cachebridge.engine.outage.replay import OutageHost, Replay
    from cachebridge.engine.values import Values

READ: Final = "read"
WRITE: Final = "write"
DELETE: Final = "delete"
COUNT: Final = "count"
SEND: Final = "write behind"

P = ParamSpec("P")
R = TypeVar("R")


class Fallbacks:
    """The answers for one kind of keys during an outage.  Thread safe.

    Shared by both sides.  The first argument of each is the error, the others are the
    operation's own.
    """

    def __init__(
        self, engine: OutageHost, values: Values, *, reads_l1: bool = True
    ) -> None:
        """``reads_l1``: L1 may hold values of these keys."""
        self._engine = engine
        self._local_reads = engine.local_reads if reads_l1 else NO_LOCAL_READS
        self._copies = values.copies
        self.pattern: KeyPattern | None = None
        """Matches all keys of this cache; None where no pattern can."""

    def get(self, _exc: L2Error, key: str) -> Any | Missing:
        """Return the value of an entry past its trust, if it may serve."""
        entry = self._local_reads.entry_past_trust(key)
        if entry is None or entry[KIND] is ABSENT:
            return MISSING
        return self._copies.value_of(entry)

    def get_many(self, exc: L2Error, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values of such entries."""
        found = {key: self.get(exc, key) for key in keys}
        return {key: value for key, value in found.items() if value is not MISSING}

    def warm(self, _exc: L2Error, _keys: Iterable[str]) -> bool:
        """Return False: nothing was read."""
        return False

    def find(self, _exc: L2Error, _glob: str, _most: int) -> list[str]:
        """Return nothing."""
        return []

    def scan(self, _exc: L2Error, *_args: object) -> tuple[int, list[str]]:
        """Return that there are no more keys."""
        return SCAN_DONE, []

    def has_key(self, _exc: L2Error, key: str) -> bool:
        """Return whether such an entry has a value."""
        entry: Entry | None = self._local_reads.entry_past_trust(key)
        return entry is not None and entry[KIND] is not ABSENT

    def set(self, exc: L2Error, key: str, *_rest: Any, **_how: Any) -> bool:
        """Return False, and delete the old value later."""
        self._delete_later(exc, (key,))
        return False

    def send(self, exc: L2Error, write: QueuedWrite) -> bool:
        """Return True; count the values as lost, and delete the old ones later."""
        self._engine.counters.writes_lost += len(write)
        self._delete_later(exc, write)
        return True

    def set_many(
        self, exc: L2Error, items: Mapping[str, Any], *_rest: Any, **_how: Any
    ) -> list[str]:
        """Return all keys, and delete their old values later."""
        self._delete_later(exc, items)
        return list(items)

    def add(self, _exc: L2Error, *_args: Any, **_kwargs: Any) -> bool:
        """Return False: an ``add`` that is used as a lock fails closed."""
        return False

    def ttl(self, _exc: L2Error, _key: str) -> int:
        """Return that there is no such key."""
        return GONE_MS

    def touch(self, exc: L2Error, key: str, ttl_ms: int | None) -> bool:
        """Return False; a TTL that is over is a delete."""
        if ttl_ms == 0:
            self._delete_later(exc, (key,))
        return False

    def incr(self, exc: L2Error, key: str, _delta: Any) -> Any:
        """Raise CounterUnavailableError: a counter cannot be guessed."""
        raise CounterUnavailableError(
            f"{key!r} cannot be counted while the shared store is away: {exc}"
        ) from exc

    def count(self, _exc: L2Error, *_args: Any) -> bool:
        """Return False: a take or give within bounds fails closed."""
        return False

    def counted(self, _exc: L2Error, _key: str) -> int | None:
        """Return None: the value of a counter cannot be guessed."""
        return None

    def append(self, _exc: L2Error, *_args: Any) -> int:
        """Return 0: nothing was appended, as far as can be known."""
        return 0

    def delete(self, exc: L2Error, key: str) -> bool:
        """Return False, and delete later."""
        self._delete_later(exc, (key,))
        return False

    def delete_many(self, exc: L2Error, keys: Collection[str]) -> int:
        """Return 0, and delete later."""
        self._delete_later(exc, keys)
        return 0

    def delete_stamps(self, exc: L2Error, keys: Collection[str]) -> bool:
        """Return False, and delete later."""
        self._delete_later(exc, keys)
        return False

    def clear(self, exc: L2Error, pattern: KeyPattern) -> bool:
        """Return False, and clear later."""
        if not exc.is_permanent:
            self._engine.outage.pending_deletes.add_clear(pattern, exc.began_at)
        self._engine.rules.on_prefix(pattern.prefix)
        return False

    def delete_pattern(self, exc: L2Error, pattern: KeyPattern, *_args: int) -> int:
        """Return 0, and delete later."""
        return int(self.clear(exc, pattern))

    def flush_db(self, exc: L2Error) -> bool:
        """Return False, and flush later."""
        if not exc.is_permanent:
            self._engine.outage.pending_deletes.add_flush(exc.began_at)
        self._engine.rules.flush("clear")
        return False

    def _delete_later(self, exc: L2Error, keys: Iterable[str]) -> None:
        """Delete the keys when L2 is back, unless the account lacks the right."""
        if not exc.is_permanent:
            self._engine.outage.delete_later(keys, self.pattern, exc.began_at)


def with_fallback(
    operation: Callable[Concatenate[Operations, P], Coroutine[Any, Any, R]],
    fallback: Callable[Concatenate[Fallbacks, L2Error, P], R],
    kind: str,
) -> Callable[Concatenate[ResilientOperations, P], Coroutine[Any, Any, R]]:
    """Wrap an operation with its fallback for the time when L2 is unavailable."""
    owes = kind in {WRITE, DELETE, SEND}

    async def call(
        self: ResilientOperations, /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        outage = self._outage
        if self._engine.pid != getpid():
            self._engine.notice_fork()
        began_at = self._clock() if owes else 0.0
        try:
            if self._breaker.is_open:
                self._skip_l2(kind)
            operations = self._operations
            if outage.pending_deletes.may_be or self._queue.latest:
                tags = kwargs.get("tags") or ()
                failure = await self._what_comes_first(kind, args, tags)
                if failure is not None:
                    operations = without_l2(operations, failure)
            if kind is READ and self._fences.up:
                operations = await self._past_fences(operations, _keys_of(args))
            result = await operation(operations, *args, **kwargs)
        except L2Error as exc:
            if not self._degrades and kind is not SEND:  # its callers have gone on
                raise
            outage.note(exc, kind)
            exc.began_at = began_at
            return fallback(self._fallbacks, exc, *args, **kwargs)
        if outage.refusals:
            outage.accepted(kind)
        return result

    call.__name__ = operation.__name__
    call.__doc__ = operation.__doc__
    return call


class ResilientOperations(SetsLater):
    """The operations of one cache with their fallbacks, for threads or for tasks.

    Thread safe.  With ``degrades`` no method raises L2Error.
    """

    def __init__(
        self,
        engine: OutageHost,
        operations: Operations,
        fallbacks: Fallbacks,
        loading: Loading,
        replay: Replay,
        *,
        for_threads: ResilientOperations | None = None,
    ) -> None:
        """``for_threads``: the same for threads, unless these are."""
        self._operations = operations
        self._fallbacks = fallbacks
        self._loading = loading
        self._replay = replay
        self._engine = engine
        self._rules = engine.rules
        self._fences = engine.rules.fences
        self._outage = engine.outage
        self._breaker = engine.breaker
        self._clock = engine.clock
        self._queue = engine.write_behind
        self._for_threads = for_threads or self
        self.degrades = self._degrades = operations.degrades

    get = with_fallback(Operations.get, Fallbacks.get, READ)
    get_many = with_fallback(Operations.get_many, Fallbacks.get_many, READ)
    warm = with_fallback(Operations.warm, Fallbacks.warm, READ)
    find = with_fallback(Operations.find, Fallbacks.find, READ)
    scan = with_fallback(Operations.scan, Fallbacks.scan, READ)
    has_key = with_fallback(Operations.has_key, Fallbacks.has_key, READ)
    set = with_fallback(Operations.set, Fallbacks.set, WRITE)
    send = with_fallback(Operations.send, Fallbacks.send, SEND)
    set_many = with_fallback(Operations.set_many, Fallbacks.set_many, WRITE)
    add = with_fallback(Operations.add, Fallbacks.add, WRITE)
    ttl = with_fallback(Operations.ttl, Fallbacks.ttl, READ)
    overwrite = with_fallback(Operations.overwrite, Fallbacks.set, WRITE)
    touch = with_fallback(Operations.touch, Fallbacks.touch, WRITE)
    incr = with_fallback(Operations.incr, Fallbacks.incr, COUNT)
    count = with_fallback(Operations.count, Fallbacks.count, COUNT)
    counted = with_fallback(Operations.counted, Fallbacks.counted, READ)
    set_count = with_fallback(Operations.set_count, Fallbacks.count, COUNT)
    append = with_fallback(Operations.append, Fallbacks.append, WRITE)
    delete = with_fallback(Operations.delete, Fallbacks.delete, DELETE)
    delete_many = with_fallback(Operations.delete_many, Fallbacks.delete_many, DELETE)
    delete_stamps = with_fallback(
        Operations.delete_stamps, Fallbacks.delete_stamps, DELETE
    )
    clear = with_fallback(Operations.clear, Fallbacks.clear, DELETE)
    delete_pattern = with_fallback(
        Operations.delete_pattern, Fallbacks.delete_pattern, DELETE
    )
    flush_db = with_fallback(Operations.flush_db, Fallbacks.flush_db, DELETE)

    def get_or_load(
        self,
        key: str,
        loader: Callable[[], Any],
        ttl_ms: int | None,
        terms: LoadTerms | None = None,
        tags: tuple[str, ...] = NO_TAGS,
    ) -> Coroutine[Any, Any, Any | Absent]:
        """Return the value, loading it if need be; an outage costs only the cache.

        Not a coroutine of its own: loads may be nested, and each level takes stack.
        """
        if self._engine.pid != getpid():
            self._engine.notice_fork()
        pending = self._outage.pending_deletes
        if pending.may_be or self._queue.latest or self._fences.up:
            return self._wait_and_load(key, loader, ttl_ms, terms, tags)
        return self._loading.get_or_load(key, loader, ttl_ms, terms, tags=tags)

    async def _wait_and_load(
        self,
        key: str,
        loader: Callable[[], Any],
        ttl_ms: int | None,
        terms: LoadTerms | None,
        tags: tuple[str, ...],
    ) -> Any | Absent:
        failure = await self._what_comes_first(READ, (key,), tags)
        if failure is not None and not self._degrades:
            raise failure
        operations = self._operations
        if self._fences.up:
            operations = await self._past_fences(operations, (key,))
        value = operations.get_from_l1(key)
        if value is not MISSING:
            return value
        return await self._loading.get_or_load(
            key, loader, ttl_ms, terms, tags=tags, failure=failure
        )

    def new_tags(self) -> LoadTags:
        """Return the tags of a value that is about to be computed, and then ``set``."""
        return LoadTags(self._operations.sides, self._operations.io)

    def _pattern(self) -> KeyPattern | None:
        return self._fallbacks.pattern

    async def _what_comes_first(
        self, kind: str, args: tuple[Any, ...], tags: Any = ()
    ) -> L2Error | None:
        """Have values sent, and deletes replayed, that come before this call.

        Returns the error if that fails: then L2 must not be asked.  All values come
        before a delete, which may release a lock that they were set under.
        """
        failure, keys = None, _keys_of(args)
        if tags:
            keys = (*keys, *self._operations.keys_of_tags(tags))
        if self._queue.latest and kind is not SEND:
            queued = list(self._queue.latest) if kind is DELETE else keys
            failure = await self._queue.before(self._operations.io, queued)
            if failure is not None and kind in {WRITE, DELETE}:
                changed = keys
                if not args or isinstance(args[0], KeyPattern):
                    matches = matcher_of(args[0].glob if args else "*")
                    changed = [key for key in queued if matches(key)]
                lost = self._queue.withdraw(changed)
                self._outage.lose(lost, self._fallbacks.pattern, self._clock())
        if failure is None and self._outage.pending_deletes.may_be:
            failure = await self._replay.before(keys)
        return failure

    async def _past_fences(
        self, operations: Operations, keys: Iterable[str]
    ) -> Operations:
        """Return operations that may look into L1, if its fences end soon."""
        if not await fences_end(self._engine, operations.l2, operations.io, keys):
            return operations
        passed = copy(operations)
        passed.is_past_fences = True
        return passed

    def _skip_l2(self, kind: str) -> None:
        """Raise, cheaply, for a read that makes no sense while the breaker is open."""
        self._rules.outage.prolong()
        if kind is READ and self._degrades and self._breaker.refuses():
            raise L2UnavailableError("not asked, it is away")


def _keys_of(args: tuple[Any, ...]) -> Collection[str]:
    """Return the keys that an operation's first argument names."""
    if not args:
        return ()
    named = args[0]
    if isinstance(named, KeyPattern):
        return (named.prefix,)
    return (named,) if isinstance(named, str) else named
