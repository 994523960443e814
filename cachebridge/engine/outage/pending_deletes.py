"""Deletes that L2 could not carry out while it was away: kept, and replayed first.

A value whose change failed is still in L2.  Before this process reads or writes such a
key there again, it deletes the key, so that no caller finds the old value, in this
process or in another.  Values are never replayed: a peer may have written newer ones.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from cachebridge.codec.messages import batches
from cachebridge.core.keys import shown_key
from cachebridge.errors import L2Error, L2UnavailableError
from cachebridge.events import event
from cachebridge.waiting.closed_loops import HeldTasks
from cachebridge.waiting.signals import Slots, current_loop

if TYPE_CHECKING:
    from cachebridge.core.keys import KeyPattern
    from cachebridge.waiting.io import IO

_log = logging.getLogger("cachebridge.engine")

K = TypeVar("K")

MAX_PENDING: Final = 10_000
"""Keys that are kept one by one; more become a clear of their cache."""
DOUBT_S: Final = 1.0
"""Seconds after which a caller asks whether the one that replays can still end."""

Debt = tuple[int, float]
"""A number of its own, and when the change that has failed began."""

Split = Callable[[Iterable[str]], list[list[str]]]
"""Groups keys by server, so that an unreachable server does not delay the others."""


Escalate = Callable[[Sequence[str], "KeyPattern"], bool]
"""Has the servers of some keys cleared instead; False where there is one server."""


class Deletes(Protocol):
    """Carries pending deletes out; each raises L2Error if L2 refuses."""

    async def delete(self, keys: Sequence[str]) -> object:
        """Delete the keys."""

    async def clear(self, pattern: KeyPattern) -> object:
        """Delete what matches."""

    async def flush_db(self) -> object:
        """Delete everything."""


def one_server(keys: Iterable[str]) -> list[list[str]]:
    """Return all keys in one list."""
    return [list(keys)]


class PendingDeletes:
    """The pending deletes of one engine, by key.  Thread safe.

    More than ``limit`` keys become one clear of their cache.  A cache whose keys no
    pattern finds loses those over the limit, which is counted and logged.
    """

    def __init__(
        self,
        limit: int = MAX_PENDING,
        *,
        split: Split = one_server,
        escalate: Escalate = lambda _keys, _pattern: False,
        patience_s: float = DOUBT_S,
    ) -> None:
        self._limit = limit
        self._patience_s = patience_s
        self._split = split
        self._escalate = escalate
        self._lock = threading.Lock()
        self._turn = Slots(1)
        """Taken by the caller that replays."""
        self._replayer: object = None
        """That caller: the number of its thread, or the event loop of its task."""
        self._held = HeldTasks()
        self._stamp = itertools.count(1).__next__
        self._keys: dict[str, Debt] = {}
        self._patterns: dict[KeyPattern, Debt] = {}
        self._everything: Debt | None = None
        self._failures = 0
        self._failure: L2Error | None = None
        self.refusal: L2Error | None = None
        """The error with which a server that answers has refused a replay."""
        self.next_try = float("-inf")
        """The clock's reading from which another try makes sense."""
        self.may_be = False
        """Whether anything may be pending: cheap to ask, and True from before it is."""
        self.lost = 0
        """Keys that could not be kept: their old values live on until they expire."""

    def __bool__(self) -> bool:
        return bool(self._keys or self._patterns or self._everything)

    def __len__(self) -> int:
        return len(self._keys) + len(self._patterns) + bool(self._everything)

    def add(
        self,
        keys: Iterable[str],
        pattern: KeyPattern | None,
        began: float = float("inf"),
    ) -> None:
        """Delete these keys later; ``pattern`` matches all keys of their cache.

        ``began`` is when the change began that has failed, by the engine's clock.
        """
        over: list[str] = []
        with self._lock:
            self.may_be = True
            for key in keys:
                if len(self._keys) < self._limit or key in self._keys:
                    self._keys[key] = self._stamp(), began
                else:
                    over.append(key)
        if not over:
            return
        if pattern is not None:
            if not self._escalate(over, pattern):
                self.add_clear(pattern, began)
        else:
            self._lose(
                over,
                f"over {self._limit} deletes wait for the shared store, and this cache "
                "has no pattern to clear by",
            )

    def _lose(self, names: Sequence[str], why: str) -> None:
        if not self.lost:
            key = shown_key(names[0])
            told = event("delete.lost", key=key)
            _log.error("%s may keep its old value: %s", key, why, extra=told)
        self.lost += len(names)

    def add_clear(self, pattern: KeyPattern, began: float = float("inf")) -> None:
        """Clear a cache later."""
        with self._lock:
            self.may_be = True
            self._patterns[pattern] = self._stamp(), began

    def add_flush(self, began: float = float("inf")) -> None:
        """Delete the whole database later."""
        with self._lock:
            self.may_be = True
            self._everything = self._stamp(), began

    def began(self, key: str) -> float:
        """Return when the failed change of a key began; a later write is to stay."""
        return self._keys.get(key, (0, float("inf")))[1]

    def clear_began(self, pattern: KeyPattern) -> float:
        """Return the same for a clear."""
        return self._patterns.get(pattern, (0, float("inf")))[1]

    def flush_began(self) -> float:
        """Return the same for the delete of the whole database."""
        return float("inf") if self._everything is None else self._everything[1]

    def concern(self, keys: Iterable[str]) -> bool:
        """Return whether one of the keys may still have an old value in L2."""
        if self._everything:
            return True
        if prefixes := tuple([pattern.prefix for pattern in self._patterns.copy()]):
            keys = list(keys)
            if any(key.startswith(prefixes) for key in keys):
                return True
        return not self._keys.keys().isdisjoint(keys)

    async def replay(self, deletes: Deletes, io: IO) -> None:
        """Carry out what is pending; callers that come meanwhile wait for the outcome.

        Raises what ``deletes`` raises, and the rest stays pending.  So does a key that
        is added again during its replay.  Where waiting might never end, a caller
        raises L2UnavailableError.
        """
        asked = self._failures
        caller = current_loop() or threading.get_ident()
        if caller == self._replayer and isinstance(caller, int):
            # A signal handler that has interrupted the replay: it goes on afterwards.
            await self._replay(deletes, asked)
            return
        ticket = object()
        try:
            self._held.hold(ticket)
            await self._take_turn(ticket, io)
            self._replayer = caller
            await self._replay(deletes, asked)
        finally:
            if self._turn.has(ticket):
                self._replayer = None
            self._turn.release(ticket)
            self._held.release(ticket, None)

    async def _take_turn(self, ticket: object, io: IO) -> None:
        """Wait until no other caller replays, but for ``patience_s`` at most."""
        self._held.end_lost()  # one of them may have the turn
        left_s = self._patience_s if io.may_wait() else 0.0
        while not await io.acquire(self._turn, ticket, min(DOUBT_S, left_s)):
            left_s -= DOUBT_S
            if left_s <= 0 or not self._is_replaying():
                raise L2UnavailableError("deletes that come first are being replayed")
            self._held.end_lost()

    def _is_replaying(self) -> bool:
        """Return whether the caller that has the turn is at work, or can be ended.

        It is not if it is a task of a loop that does not run (perhaps this very thread
        would have to run it), or if it was killed before it began.
        """
        caller: Any = self._replayer
        if caller is None or isinstance(caller, int):
            return caller is not None
        return bool(caller.is_running() or caller.is_closed())

    async def _replay(self, deletes: Deletes, asked: int) -> None:
        if not self:  # another caller has replayed them
            return
        if self._failure is not None and self._failures != asked:
            # Another caller has tried since: all that wait would, one by one.
            raise self._failure.again()
        try:
            await self._replay_all(deletes)
        except L2Error as exc:
            self._failures, self._failure = self._failures + 1, exc
            raise
        self._failure = None

    async def _replay_all(self, deletes: Deletes) -> None:
        if everything := self._everything:
            await self._try(deletes.flush_db, "the database")
            with self._lock:
                if self._everything == everything:
                    self._everything = None
                    self.may_be = bool(self)
        for pattern, stamp in list(self._patterns.items()):
            await self._try(partial(deletes.clear, pattern), pattern.glob)
            self._remove(self._patterns, pattern, stamp)
        pending = self._keys.copy()
        failure: L2Error | None = None
        for keys in self._split(pending) if pending else []:
            try:
                await self._replay_keys(keys, pending, deletes)
            except L2Error as exc:
                failure = exc
        if failure is not None:
            raise failure

    async def _replay_keys(
        self, keys: Sequence[str], pending: dict[str, Debt], deletes: Deletes
    ) -> None:
        for batch in batches(keys):
            try:
                await deletes.delete(batch)
            except L2Error as exc:
                if not exc.is_permanent:
                    raise
                for key in batch:  # one of them may be all that is forbidden
                    await self._try(partial(deletes.delete, (key,)), key)
            for key in batch:
                self._remove(self._keys, key, pending[key])

    async def _try(self, delete: Callable[[], Awaitable[object]], name: str) -> None:
        """Delete; what the account has no right to stays for ever, and is lost."""
        try:
            await delete()
        except L2Error as exc:
            if not exc.is_permanent:
                raise
            self._lose((name,), str(exc))

    def _remove(self, pending: dict[K, Debt], key: K, stamp: Debt) -> None:
        with self._lock:
            if pending.get(key) == stamp:
                del pending[key]
                self.may_be = bool(self)
