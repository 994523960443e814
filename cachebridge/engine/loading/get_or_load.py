"""``get_or_load``: one load for all callers of a key; refreshes in the background."""

from __future__ import annotations

from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

from cachebridge.core.entry import MISSING
from cachebridge.core.keys import NO_TAGS
from cachebridge.core.loading import LoaderError, unwrap_loaded
from cachebridge.engine.loading.load import Load
from cachebridge.engine.loading.task_refresh import loader_for_thread
from cachebridge.waiting.io import TASKS, OwnFunction, call
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.core.entry import Absent
    from cachebridge.core.lease import LeaseGet
    from cachebridge.core.loading import LoadTerms, Outcome
    from cachebridge.engine.loading.host import LoadHost
    from cachebridge.engine.operations import Operations
    from cachebridge.errors import L2Error


class Loading:
    """Loads the values of one cache, for threads or for tasks.  Thread safe."""

    def __init__(
        self,
        operations: Operations,
        engine: LoadHost,
        terms: LoadTerms,
        *,
        in_background: Callable[[Callable[[], Any]], Callable[[], Any]],
        for_threads: Loading | None = None,
    ) -> None:
        """``in_background`` wraps a loader that is to run in a thread of ours.

        ``for_threads`` does for a task what the task itself must not wait for.
        """
        self._operations = operations
        self._engine = engine
        self._terms = terms
        self._in_background = in_background
        self._for_threads = for_threads or self
        self._io = operations.io
        self._load = partial(Load, operations, engine, self)

    async def get_or_load(
        self,
        key: str,
        loader: Callable[[], Any],
        ttl_ms: int | None,
        terms: LoadTerms | None = None,
        *,
        tags: tuple[str, ...] = NO_TAGS,
        failure: L2Error | None = None,
    ) -> Any | Absent:
        """Return the value, loading and storing it if there is none.

        One caller of one process runs the loader for all that ask.  ABSENT if the
        loader says so, or has said so a moment ago.  With a ``failure`` of L2 the
        loader runs without asking it.  Raises what the loader raises.
        """
        value = self._operations.get_from_l1(key)
        if value is not MISSING:
            return value
        terms = terms or self._terms
        how: dict[str, Any] = {"ttl_ms": ttl_ms, "terms": terms, "tags": tags}
        load = self._load(key, loader, **how, failure=failure)
        try:
            outcome, is_leader = await self._engine.single_flight.run(
                key, load.lead, self._io, terms.patience_s
            )
        except LoaderError as exc:
            error = exc.error
        else:
            if outcome.value is not MISSING and (is_leader or outcome.raw is None):
                return outcome.value
            return await self._own_copy(key, outcome, loader)
        raise self._io.raised(error)

    async def _own_copy(
        self, key: str, outcome: Outcome, loader: Callable[[], Any]
    ) -> Any | Absent:
        """Decode the outcome: the caller gets no object that another has."""
        if outcome.raw is None:
            return outcome.value
        value = self._operations.values.decode(key, outcome.raw)
        if value is not MISSING:
            return value
        return unwrap_loaded(await call(self._io, loader))

    # -- in the background -------------------------------------------------------------

    def refresh(self, load: Load, lease: LeaseGet) -> None:
        """Load the value anew: in a task, or in a thread if the loader is plain."""
        seen_ttl_ms = max(lease.ttl_ms, 0)
        key, loader = load.key, load.loader
        how: dict[str, Any] = {
            "ttl_ms": load.ttl_ms,
            "terms": load.terms,
            "tags": load.tags,
        }
        if isinstance(loader, OwnFunction) and loader.in_background is not None:
            loader = loader.in_background
        if self._io is TASKS and iscoroutinefunction(loader):
            anew = self._load(key, loader, **how)
            self._engine.task_refresher.submit(key, partial(anew.refresh, seen_ttl_ms))
            return
        if self._io is TASKS:
            loader = loader_for_thread(loader)
        anew = self._for_threads._load(  # noqa: SLF001 of the same class
            key, self._in_background(loader), **how
        )
        self._engine.refresher.submit(key, lambda: run(anew.refresh(seen_ttl_ms)))

    async def abandon(self, load: Load, lease: LeaseGet) -> None:
        """Give the lease back of a load that is broken off; a task does not wait."""
        if self._io is not TASKS:
            await load.release(lease, 0)
            return
        again = self._for_threads._load(  # noqa: SLF001 of the same class
            load.key, load.loader, ttl_ms=load.ttl_ms, terms=load.terms
        )
        self._engine.refresher.submit(
            f"\0release {lease.token!r}", lambda: run(again.release(lease, 0))
        )
