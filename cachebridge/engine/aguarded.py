"""The operations of one cache, each with its answer for every outage, asynchronous.

The twin of ``guarded.py``; a test compares them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from cachebridge.engine.aio import AsyncOperations
from cachebridge.engine.answers import COUNT, DELETE, READ, WRITE, Answers
from cachebridge.errors import L2Error

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from cachebridge.core.entry import Absent
    from cachebridge.core.loading import LoadTerms
    from cachebridge.engine.answers import Payers

P = ParamSpec("P")
R = TypeVar("R")


def guarded(
    operation: Callable[Concatenate[AsyncOperations, P], Coroutine[Any, Any, R]],
    answer: Callable[Concatenate[Answers, L2Error, P], R],
    kind: str,
) -> Callable[Concatenate[AsyncGuarded, P], Coroutine[Any, Any, R]]:
    """Pair an operation with what it answers in its place while L2 does not."""

    async def call(self: AsyncGuarded, /, *args: P.args, **kwargs: P.kwargs) -> R:
        outage = self._outage
        try:
            if self._engine.breaker.is_open:
                self._refuse(kind)
            operations = self._operations
            if outage.debts and (unpaid := await self._unpaid(args)) is not None:
                operations = operations.without_l2(unpaid)
            result = await operation(operations, *args, **kwargs)
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


class AsyncGuarded(Answers):
    """See ``Guarded``.  For tasks of any event loop."""

    def __init__(
        self, operations: AsyncOperations, *, degrades: bool, payers: Payers
    ) -> None:
        super().__init__(operations.sync, degrades=degrades, payers=payers)
        self._operations = operations

    async def _unpaid(self, args: tuple[Any, ...]) -> L2Error | None:
        return await asyncio.to_thread(self._pay) if self._is_owed(args) else None

    get = guarded(AsyncOperations.get, Answers.no_get, READ)
    get_many = guarded(AsyncOperations.get_many, Answers.no_get_many, READ)
    has_key = guarded(AsyncOperations.has_key, Answers.no_has_key, READ)
    set = guarded(AsyncOperations.set, Answers.no_set, WRITE)
    set_many = guarded(AsyncOperations.set_many, Answers.no_set_many, WRITE)
    add = guarded(AsyncOperations.add, Answers.no_change, WRITE)
    touch = guarded(AsyncOperations.touch, Answers.no_touch, WRITE)
    incr = guarded(AsyncOperations.incr, Answers.no_incr, COUNT)
    delete = guarded(AsyncOperations.delete, Answers.no_delete, DELETE)
    delete_many = guarded(AsyncOperations.delete_many, Answers.no_delete_many, DELETE)
    clear = guarded(AsyncOperations.clear, Answers.no_clear, DELETE)
    flush_db = guarded(AsyncOperations.flush_db, Answers.no_flush, DELETE)

    async def get_or_load(
        self,
        key: str,
        loader: Callable[[], Any],
        ttl_ms: int | None,
        terms: LoadTerms | None = None,
    ) -> Any | Absent:
        """Return the value, loading it if need be; an outage costs only the cache."""
        failure: L2Error | None = None
        if self._outage.debts:
            failure = await self._unpaid((key,))
            if failure is not None and not self._degrades:
                raise failure
        return await self._operations.get_or_load(
            key, loader, ttl_ms, terms, failure=failure
        )
