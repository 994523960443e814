"""The operations of one cache, each with its answer for every outage, synchronous.

The one place that swallows an outage, together with its twin ``aguarded.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from cachebridge.engine.aguarded import AsyncGuarded
from cachebridge.engine.aio import AsyncOperations
from cachebridge.engine.answers import COUNT, DELETE, READ, WRITE, Answers
from cachebridge.engine.sync import Operations
from cachebridge.errors import L2Error

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.core.entry import Absent
    from cachebridge.core.loading import LoadTerms
    from cachebridge.engine.answers import Payers

P = ParamSpec("P")
R = TypeVar("R")


def guarded(
    operation: Callable[Concatenate[Operations, P], R],
    answer: Callable[Concatenate[Answers, L2Error, P], R],
    kind: str,
) -> Callable[Concatenate[Guarded, P], R]:
    """Pair an operation with what it answers in its place while L2 does not."""

    def call(self: Guarded, /, *args: P.args, **kwargs: P.kwargs) -> R:
        outage = self._outage
        try:
            if self._engine.breaker.is_open:
                self._refuse(kind)
            operations = self._operations
            if outage.debts and (unpaid := self._unpaid(args)) is not None:
                operations = operations.without_l2(unpaid)
            result = operation(operations, *args, **kwargs)
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


class Guarded(Answers):
    """The operations of one cache, with an answer for every outage.  Thread safe."""

    def __init__(
        self, operations: Operations, *, degrades: bool, payers: Payers
    ) -> None:
        super().__init__(operations, degrades=degrades, payers=payers)
        self._operations = operations
        self.aio = AsyncGuarded(
            AsyncOperations(operations), degrades=degrades, payers=payers
        )
        """The same for tasks."""

    def _unpaid(self, args: tuple[Any, ...]) -> L2Error | None:
        return self._pay() if self._is_owed(args) else None

    get = guarded(Operations.get, Answers.no_get, READ)
    get_many = guarded(Operations.get_many, Answers.no_get_many, READ)
    has_key = guarded(Operations.has_key, Answers.no_has_key, READ)
    set = guarded(Operations.set, Answers.no_set, WRITE)
    set_many = guarded(Operations.set_many, Answers.no_set_many, WRITE)
    add = guarded(Operations.add, Answers.no_change, WRITE)
    touch = guarded(Operations.touch, Answers.no_touch, WRITE)
    incr = guarded(Operations.incr, Answers.no_incr, COUNT)
    delete = guarded(Operations.delete, Answers.no_delete, DELETE)
    delete_many = guarded(Operations.delete_many, Answers.no_delete_many, DELETE)
    clear = guarded(Operations.clear, Answers.no_clear, DELETE)
    flush_db = guarded(Operations.flush_db, Answers.no_flush, DELETE)

    def get_or_load(
        self,
        key: str,
        loader: Callable[[], Any],
        ttl_ms: int | None,
        terms: LoadTerms | None = None,
    ) -> Any | Absent:
        """Return the value, loading it if need be; an outage costs only the cache."""
        failure: L2Error | None = None
        if self._outage.debts:
            failure = self._unpaid((key,))
            if failure is not None and not self._degrades:
                raise failure
        return self._operations.get_or_load(key, loader, ttl_ms, terms, failure=failure)
