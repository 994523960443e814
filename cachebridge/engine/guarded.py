"""What a caller gets when L2 does not answer: the one place that swallows an outage.

Every operation is paired with its documented answer (``docs/outages.md``).  With
``ON_ERROR="raise"`` the exception comes out instead.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

from cachebridge.core.entry import ABSENT, KIND, MISSING, Missing
from cachebridge.engine.sync import Operations
from cachebridge.errors import CounterUnavailableError, L2Error, L2UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cachebridge.core.entry import Absent, Entry
    from cachebridge.core.keys import KeyPattern
    from cachebridge.core.loading import LoadTerms
    from cachebridge.engine.debts import Debts

P = ParamSpec("P")
R = TypeVar("R")

READ: Final = "read"
WRITE: Final = "write"
DELETE: Final = "delete"
COUNT: Final = "count"
DEBT_RETRY_S: Final = 1.0
"""Seconds between two tries to pay a server that refuses to be paid."""


def guarded(
    operation: Callable[Concatenate[Operations, P], R],
    answer: Callable[Concatenate[Guarded, L2Error, P], R],
    kind: str,
) -> Callable[Concatenate[Guarded, P], R]:
    """Pair an operation with what it answers in its place while L2 does not."""

    def call(self: Guarded, /, *args: P.args, **kwargs: P.kwargs) -> R:
        outage = self._outage
        if kind is READ and self._degrades and self._engine.breaker.refuses():
            exc = L2UnavailableError("not asked, it is away")
            outage.note(exc, kind)
            return answer(self, exc, *args, **kwargs)
        try:
            if outage.debts:
                self._pay_debts(args, kind)
            result = operation(self._operations, *args, **kwargs)
        except L2Error as exc:
            if not self._degrades:
                raise
            outage.note(exc, kind)
            return answer(self, exc, *args, **kwargs)
        if outage.refusals:
            outage.accepted(kind)
        return result

    call.__name__ = operation.__name__
    call.__doc__ = operation.__doc__
    return call


class Guarded:
    """The operations of one cache, with an answer for every outage.  Thread safe."""

    def __init__(self, operations: Operations, *, degrades: bool) -> None:
        self._operations = operations
        self._engine = operations.engine
        self._outage = operations.engine.outage
        self._degrades = degrades
        self._next_payment = 0.0
        self.pattern: KeyPattern | None = None
        """Matches all keys of this cache; None where no pattern can."""

    # -- the answers ---------------------------------------------------------------

    def _past_trust(self, key: str) -> Entry | None:
        return self._engine.entry_past_trust(key)

    def _no_get(self, _exc: L2Error, key: str) -> Any | Missing:
        entry = self._past_trust(key)
        if entry is None or entry[KIND] is ABSENT:
            return MISSING
        return self._operations.values.copies.value_of(entry)

    def _no_get_many(self, exc: L2Error, keys: Iterable[str]) -> dict[str, Any]:
        found = {key: self._no_get(exc, key) for key in keys}
        return {key: value for key, value in found.items() if value is not MISSING}

    def _no_has_key(self, _exc: L2Error, key: str) -> bool:
        entry = self._past_trust(key)
        return entry is not None and entry[KIND] is not ABSENT

    def _no_set(self, _exc: L2Error, key: str, *_rest: Any) -> bool:
        self._owe((key,))
        return False

    def _no_set_many(
        self, _exc: L2Error, items: Mapping[str, Any], *_rest: Any
    ) -> list[str]:
        self._owe(items)
        return list(items)

    def _no_change(self, _exc: L2Error, *_args: Any) -> bool:
        return False

    def _no_touch(self, _exc: L2Error, key: str, ttl_ms: int | None) -> bool:
        if ttl_ms == 0:
            self._owe((key,))
        return False

    def _no_incr(self, exc: L2Error, key: str, _delta: Any) -> Any:
        raise CounterUnavailableError(
            f"{key!r} cannot be counted while the shared store is away: {exc}"
        ) from exc

    def _no_delete(self, _exc: L2Error, key: str) -> bool:
        self._owe((key,))
        return False

    def _no_delete_many(self, _exc: L2Error, keys: Iterable[str]) -> int:
        self._owe(keys)
        return 0

    def _no_clear(self, _exc: L2Error, pattern: KeyPattern) -> bool:
        self._engine.rules.on_prefix(pattern.prefix)
        self._debts().owe_clear(pattern)
        return False

    def _no_flush(self, _exc: L2Error) -> bool:
        self._engine.rules.flush("clear")
        self._debts().owe_flush()
        return False

    # -- what is owed ----------------------------------------------------------------

    def _owe(self, keys: Iterable[str]) -> None:
        self._debts().owe(keys, self.pattern)

    def _debts(self) -> Debts:
        debts = self._outage.debts
        debts.payer = self._pay_behind
        return debts

    def _pay_behind(self) -> None:
        with suppress(L2Error):  # then it stays owed
            self.pay_debts()

    def _pay_debts(self, args: tuple[Any, ...], kind: str) -> None:
        """Pay what is owed before anything else.

        What is not to be had raises where old values would be read: of the keys that
        are owed.  Whoever writes goes on, and will learn for itself what L2 thinks.
        """
        debts = self._outage.debts
        now = self._engine.clock()
        concerned = kind in (READ, COUNT) and debts.concern(_keys_of(args))
        if now < self._next_payment and not concerned:
            return
        try:
            self.pay_debts()
        except L2Error:
            self._next_payment = now + DEBT_RETRY_S
            if concerned:
                raise

    def pay_debts(self) -> None:
        """Carry out all deletes that could not be carried out before."""
        operations, engine = self._operations, self._engine
        if engine.breaker.is_open:
            # A delete that fails would take what was set meanwhile out of L1.
            engine.breaker.admit()
            engine.l2.ping()
        self._outage.debts.pay(
            operations.delete_many, operations.clear, engine.flush_db
        )

    # -- the operations ----------------------------------------------------------------

    get = guarded(Operations.get, _no_get, READ)
    get_many = guarded(Operations.get_many, _no_get_many, READ)
    has_key = guarded(Operations.has_key, _no_has_key, READ)
    set = guarded(Operations.set, _no_set, WRITE)
    set_many = guarded(Operations.set_many, _no_set_many, WRITE)
    add = guarded(Operations.add, _no_change, WRITE)
    touch = guarded(Operations.touch, _no_touch, WRITE)
    incr = guarded(Operations.incr, _no_incr, COUNT)
    delete = guarded(Operations.delete, _no_delete, DELETE)
    delete_many = guarded(Operations.delete_many, _no_delete_many, DELETE)
    clear = guarded(Operations.clear, _no_clear, DELETE)
    flush_db = guarded(Operations.flush_db, _no_flush, DELETE)

    def get_or_load(
        self,
        key: str,
        loader: Callable[[], Any],
        ttl_ms: int | None,
        terms: LoadTerms | None = None,
    ) -> Any | Absent:
        """Return the value, loading it if need be; an outage costs only the cache."""
        failure: L2Error | None = None
        try:
            if self._outage.debts:
                self._pay_debts((key,), READ)
        except L2Error as exc:
            if not self._degrades:
                raise
            failure = exc
        return self._operations.get_or_load(key, loader, ttl_ms, terms, failure=failure)


def _keys_of(args: tuple[Any, ...]) -> Iterable[str]:
    """Return the keys that an operation's first argument names."""
    if not args:
        return ()
    return (args[0],) if isinstance(args[0], str) else args[0]
