"""Deletes that could not be carried out while L2 was away: owed, and paid first of all.

A value whose change failed is still in L2.  Before this process reads or writes
anything there again, it deletes every such key, so that nobody, itself included, finds
the old value.  Values are never replayed: another process may have written newer ones.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from cachebridge.codec.messages import batches
from cachebridge.errors import L2Error

if TYPE_CHECKING:
    from cachebridge.core.keys import KeyPattern

_log = logging.getLogger("cachebridge.engine")

K = TypeVar("K")

MAX_KEYS: Final = 10_000

Split = Callable[[Iterable[str]], list[list[str]]]
"""Sorts keys by the servers that have them: one that is away holds up no other."""


Spill = Callable[[Sequence[str], "KeyPattern"], bool]
"""Has the servers of some keys cleared instead, where there are several."""


def alone(keys: Iterable[str]) -> list[list[str]]:
    """Return all keys in one list: there is one server."""
    return [list(keys)]


class Debts:
    """The owed deletes of one engine, by key.  Thread safe.

    More than ``limit`` keys become one clear of their cache; a cache whose keys cannot
    be found by a pattern loses those over the limit, which is counted and logged.
    """

    def __init__(
        self,
        limit: int = MAX_KEYS,
        *,
        split: Split = alone,
        spill: Spill = lambda _keys, _pattern: False,
    ) -> None:
        self._limit = limit
        self._split = split
        self._spill = spill
        self._lock = threading.Lock()
        self._paying = threading.RLock()
        self._stamp = itertools.count(1).__next__
        self._keys: dict[str, int] = {}
        self._patterns: dict[KeyPattern, int] = {}
        self._everything = 0
        self._failures = 0
        self._failure: L2Error | None = None
        self.payer: Callable[[], None] | None = None
        """Pays all debts, of whichever cache; does not raise."""
        self.refusal: L2Error | None = None
        """With what a server that answers has refused to be paid."""
        self.next_try = float("-inf")
        """When it is worth trying again."""
        self.lost = 0
        """Keys that could not be kept: their old values live on until they expire."""

    def __bool__(self) -> bool:
        return bool(self._keys or self._patterns or self._everything)

    def __len__(self) -> int:
        return len(self._keys) + len(self._patterns) + bool(self._everything)

    def owe(self, keys: Iterable[str], pattern: KeyPattern | None) -> None:
        """Delete these keys later; ``pattern`` matches all keys of their cache."""
        over: list[str] = []
        with self._lock:
            for key in keys:
                if len(self._keys) < self._limit or key in self._keys:
                    self._keys[key] = self._stamp()
                else:
                    over.append(key)
        if not over:
            return
        if pattern is not None:
            if not self._spill(over, pattern):
                self.owe_clear(pattern)
        else:
            self._lose(
                over,
                f"over {self._limit} deletes wait for the shared store, and this cache "
                "has no pattern to clear by",
            )

    def _lose(self, names: Sequence[str], why: str) -> None:
        if not self.lost:
            _log.error("%.80s may keep its old value: %s", names[0], why)
        self.lost += len(names)

    def owe_clear(self, pattern: KeyPattern) -> None:
        """Clear a cache later."""
        with self._lock:
            self._patterns[pattern] = self._stamp()

    def owe_flush(self) -> None:
        """Delete the whole database later."""
        with self._lock:
            self._everything = self._stamp()

    def concern(self, keys: Iterable[str]) -> bool:
        """Tell whether one of the keys may still have an old value in L2."""
        if self._everything:
            return True
        if prefixes := tuple([pattern.prefix for pattern in self._patterns.copy()]):
            keys = list(keys)
            if any(key.startswith(prefixes) for key in keys):
                return True
        return not self._keys.keys().isdisjoint(keys)

    def pay(
        self,
        delete: Callable[[Sequence[str]], object],
        clear: Callable[[KeyPattern], object],
        flush: Callable[[], object],
    ) -> None:
        """Carry out what is owed; whoever comes meanwhile waits for the outcome.

        What the calls raise comes out, and the rest stays owed.  What is owed anew
        during its payment stays, too.
        """
        asked = self._failures
        with self._paying:
            if not self:  # somebody else has paid
                return
            if self._failure is not None and self._failures != asked:
                # Somebody else has tried since: all who wait would, one by one.
                raise self._failure.again()
            try:
                self._pay(delete, clear, flush)
            except L2Error as exc:
                self._failures, self._failure = self._failures + 1, exc
                raise
            self._failure = None

    def _pay(
        self,
        delete: Callable[[Sequence[str]], object],
        clear: Callable[[KeyPattern], object],
        flush: Callable[[], object],
    ) -> None:
        if everything := self._everything:
            self._try(flush, "the database")
            with self._lock:
                if self._everything == everything:
                    self._everything = 0
        for pattern, stamp in list(self._patterns.items()):
            self._try(partial(clear, pattern), pattern.glob)
            self._settle(self._patterns, pattern, stamp)
        owed = self._keys.copy()
        failure: L2Error | None = None
        for keys in self._split(owed) if owed else []:
            try:
                self._pay_keys(keys, owed, delete)
            except L2Error as exc:
                failure = exc
        if failure is not None:
            raise failure

    def _pay_keys(
        self,
        keys: Sequence[str],
        owed: dict[str, int],
        delete: Callable[[Sequence[str]], object],
    ) -> None:
        for batch in batches(keys):
            try:
                delete(batch)
            except L2Error as exc:
                if not exc.is_permanent:
                    raise
                for key in batch:  # one of them may be all that is forbidden
                    self._try(partial(delete, (key,)), key)
            for key in batch:
                self._settle(self._keys, key, owed[key])

    def _try(self, payment: Callable[[], object], name: str) -> None:
        """Pay; what the account has no right to can never be paid, and is lost."""
        try:
            payment()
        except L2Error as exc:
            if not exc.is_permanent:
                raise
            self._lose((name,), str(exc))

    def _settle(self, owed: dict[K, int], key: K, stamp: int) -> None:
        with self._lock:
            if owed.get(key) == stamp:
                del owed[key]
