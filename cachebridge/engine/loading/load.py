"""One load of one key, from the lease to the stored value, for threads and tasks.

``Load.lead`` reads top down.  What it may find in L2 stands in ``core/lease.py``; one
load runs per key and process (``single_flight``).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from cachebridge.core.entry import ABSENT, MISSING
from cachebridge.core.keys import NO_TAGS
from cachebridge.core.lease import LeaseGet, LeaseState, LoadReply
from cachebridge.core.loading import (
    Loaded,
    LoaderError,
    Outcome,
    Result,
    checked_ttl,
    is_interruption,
    loaded_raw,
    outcome_of,
    refuse_coroutine,
)
from cachebridge.core.watch import Watch
from cachebridge.engine.loading.finding import Finding
from cachebridge.engine.loading.single_flight import lead_nothing
from cachebridge.engine.loading.slots import forget_slot
from cachebridge.engine.tagging.running import LoadTags, forget_running
from cachebridge.engine.tagging.stamps import UNTAGGED, Stamped
from cachebridge.errors import L2Error
from cachebridge.observing import HOOK
from cachebridge.waiting.io import call
from cachebridge.waiting.run import Carried

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.core.direct import Direct
    from cachebridge.core.loading import LoadTerms
    from cachebridge.core.write import Write
    from cachebridge.engine.loading.host import LoadHost, LoadStarter
    from cachebridge.engine.loading.single_flight import SharedLoad
    from cachebridge.engine.operations import Operations

LOAD: Final = "load"
_GRACE_S: Final = 0.002
NEVER: Final = -1
"""Tick of an outcome that no follower may share."""


class Load(Finding):
    """One load: a key, its loader, its terms, and what becomes of its lease."""

    def __init__(
        self,
        operations: Operations,
        engine: LoadHost,
        starter: LoadStarter,
        key: str,
        loader: Callable[[], Any],
        *,
        ttl_ms: int | None,
        terms: LoadTerms,
        tags: tuple[str, ...] = NO_TAGS,
        failure: L2Error | None = None,
    ) -> None:
        """With a ``failure`` of L2 the loader runs without asking it."""
        self._operations = operations
        self._engine = engine
        self._starter = starter
        self._io = operations.io
        self.key = key
        self.loader = loader
        self.ttl_ms = ttl_ms
        self.terms = terms
        self.tags = tags
        self._failure = failure
        self._shared: SharedLoad
        """What followers see of it; set by ``lead`` and by ``refresh``."""
        self._load_tags: LoadTags
        """Set before the loader runs."""
        self._lease: LeaseGet | None = None
        """The lease that may have to be given back."""
        self._watch = Watch(engine.rules, key)
        """What has happened here to the key since the loader began."""

    # -- the order of the steps --------------------------------------------------------

    async def lead(self, shared: SharedLoad) -> Outcome:
        """Read or load the key, which L1 does not hold, for all callers of ``shared``.

        If L2 fails and the cache degrades, the loader runs without L2; else the L2Error
        comes out.  LoaderError carries what the loader raises.
        """
        self._shared = shared
        if not self._io.may_wait() and self._engine.is_refreshing(self.key):
            shared.joins = True  # the owner of the lease may need this very loop
        with self._watch, self._watch:
            try:
                return await self._find_or_load()
            except BaseException as exc:
                if not is_interruption(exc):
                    self._share_failure()
                elif self._lease is not None:
                    await self._starter.abandon(self, self._lease)
                raise

    def _share_failure(self) -> None:
        """Share it with all that have asked by now, unless the key has changed."""
        if self._watch.is_undisturbed(unless_begun=True):
            self._shared.as_of = self._shared.tick()

    async def _find_or_load(self) -> Outcome:
        try:
            found = await self.find()
            if isinstance(found, Outcome):
                return found
            if found is None:
                await self.begin_tags(None)
                return outcome_of(await self.load())
            return await self._load_and_store(found, self._operations.degrades)
        except L2Error as exc:
            if not self._operations.degrades:
                raise
            self._engine.outage.note(exc, LOAD)
        return outcome_of(await self.load_without_l2())

    async def _load_and_store(self, lease: LeaseGet, degrades: bool) -> Outcome:
        """Run the loader as the owner of the lease, and store what it returns."""
        await self.begin_tags(lease)
        result = await self.load()
        if result.error is not None:
            if is_interruption(result.error):  # ``lead`` gives the lease back
                raise LoaderError(result.error)
            self._share_failure()  # the echo of the release is a change of the key
            asked = self._tick_of_request()
            raw = await self.release(lease, self.terms.keep_ms)
            if raw is None:
                return outcome_of(result)  # it raises the error
            self._shared.as_of = asked
            return Outcome(raw, MISSING)
        if not result.is_shared:
            await self.release_unshared(lease)
            return outcome_of(result)
        return await self._store_if_alive(result, lease, degrades)

    async def _store_if_alive(
        self, result: Result, lease: LeaseGet, degrades: bool
    ) -> Outcome:
        """Store what was loaded, unless one of its tags has been invalidated."""
        began = self._tick_of_request()
        stamped = await self.end_tags()
        if stamped.is_invalid:  # only for callers that have asked before
            await self.release(lease, 0)
            self._operations.counters.loads_refused += 1
            return outcome_of(result)
        try:
            reply = await self.store_loaded(result, lease, stamped)
            theirs = None if reply.raw is None else await self.own_bytes(reply.raw)
            if theirs is not None or (reply.stored and lease.generation):
                self._shared.as_of = began
        except L2Error as exc:
            if not degrades:
                raise
            self._engine.outage.note(exc, LOAD)
            return outcome_of(result)
        if reply.stored or theirs is None:
            return outcome_of(result)
        return Outcome(theirs, MISSING)

    async def begin_tags(self, lease: LeaseGet | None) -> None:
        """Read the stamps of the load's tags, before the loader reads anything.

        Without a lease nothing will be stored in L2, and no stamp is read.
        """
        asks_l2 = lease is not None
        sides = self._operations.sides
        self._load_tags = LoadTags(sides, self._io, asks_l2=asks_l2)
        if self.tags:
            try:
                await self._load_tags.add(self.tags, self._io)
            except L2Error:
                if lease is not None:
                    await self.release(lease, 0)
                raise

    async def end_tags(self) -> Stamped:
        """Return the header of the value, or that a tag has been invalidated."""
        return await self._load_tags.end(self._io)

    async def refresh(self, seen_ttl_ms: int) -> None:
        """Load the value anew in the background, unless another caller has or does.

        ``seen_ttl_ms`` is what was left of it when the refresh was thought due: if more
        is left now, it has been done.
        """
        forget_slot()
        forget_running()
        lead_nothing()
        self._shared = self._engine.single_flight.alone(self.key, self.terms.patience_s)
        self._operations.counters.refreshes += 1
        try:
            with self._watch, self._watch, suppress(L2Error):
                await self.run_refresh(seen_ttl_ms)
        except BaseException as exc:
            if self._lease is not None and is_interruption(exc):
                await self._starter.abandon(self, self._lease)
            if not isinstance(exc, LoaderError):
                raise
            error = exc.error
        else:
            return
        raise self._io.raised(error)

    async def run_refresh(self, seen_ttl_ms: int) -> None:
        """Take the steps of ``refresh``."""
        lease = await self.get_or_lease(self.terms.for_lease(is_refresh=True))
        if lease is None or lease.state is not LeaseState.LEASE:
            return
        if lease.raw is not None and not 0 <= lease.ttl_ms <= max(seen_ttl_ms, 0):
            await self.release(lease, 0)
            return
        await self._load_and_store(lease, degrades=False)

    # -- the loader, and what it loads -------------------------------------------------

    async def load(self) -> Result:
        """Run the loader and encode what it returns; the result has what it raises."""
        tags = self._load_tags
        clock, slot = self._engine.clock, self._engine.load_slots.slot(self._io)
        has_loaded = False
        try:
            with slot, slot, tags, tags:
                await slot.take(self._engine.single_flight.patience_s(self._shared))
                began = clock()
                self._watch.begin()
                self._operations.counters.loads += 1
                loaded = await self._call_loader()
                has_loaded = True
            cost_ms = max(1, int((clock() - began) * 1000))
            return await self._result_of(loaded, cost_ms)
        except BaseException as exc:  # noqa: BLE001 its caller raises it
            self._operations.counters.load_errors += 1
            error = exc.error if isinstance(exc, Carried) else exc
            return Result(error=error, is_shared=not has_loaded)

    async def _call_loader(self) -> Any:
        if (observer := HOOK.observer) is None:
            return await call(self._io, self.loader)
        with observer.load(self.key):
            return await call(self._io, self.loader)

    async def _result_of(self, loaded: Any, cost_ms: int) -> Result:
        ttl_ms = self.ttl_ms
        if type(loaded) is Loaded:
            ttl_ms = ttl_ms if loaded.ttl_ms is ... else checked_ttl(loaded.ttl_ms)
            if not loaded.store or (ttl_ms == 0 and self.ttl_ms != 0):
                return Result(loaded.value, is_shared=False)
            loaded = loaded.value
        if loaded is ABSENT:
            return Result(ABSENT, cost_ms=cost_ms)
        refuse_coroutine(loaded)
        raw = await self._operations.encode(self.key, loaded)
        return Result(loaded, raw, self._operations.jittered(ttl_ms), cost_ms)

    async def load_without_l2(self) -> Result:
        """Load, and keep the value in this process alone until L2 is back."""
        values, key = self._operations.values, self.key
        with self._operations.open_fill((key,)) as fill, fill:
            await self.begin_tags(None)
            result = await self.load()
            stamped = await self.end_tags()
            if self._watch.is_undisturbed() and stamped.holds(self._engine.rules):
                self._shared.as_of = self._shared.tick()
            if stamped.tagging is not None:
                fill.tag(key, stamped.tagging)
            if result.raw is not None and result.ttl_ms != 0:
                values.take_loaded(fill, key, result.value, result.raw, result.ttl_ms)
            elif result.value is ABSENT and self.terms.negative_ms:
                values.take_absence(fill, key, self.terms.negative_ms, is_loaded=True)
        return result

    async def store_loaded(
        self, result: Result, lease: LeaseGet, stamped: Stamped
    ) -> LoadReply:
        """Store what was loaded, if no write has come since the lease was taken."""
        operations, key = self._operations, self.key
        with operations.open_write((key,)) as write, write:
            if not self._watch.is_undisturbed(own_writes=1):
                write.discard_on_outage()
            message = operations.message(write)
            if result.raw is None:  # a mark of absence has no tags
                is_kept = stamped is UNTAGGED
                ttl_ms = operations.jittered(self.terms.negative_ms * is_kept) or 0
                operations.values.stage_absence(write, key, ttl_ms)
                mark = operations.values.mark_of_absence(key)
                reply = await operations.l2.store_absent(
                    key, ttl_ms, lease, message, mark
                )
            else:
                items, encoded = {key: result.value}, {key: result.raw}
                operations.values.stage(write, items, encoded, result.ttl_ms)
                loaded = loaded_raw(result, self.terms, stamped.on(write))
                reply = await operations.l2.store_loaded(key, loaded, lease, message)
            self._settle(write, reply)
        if self._engine.outage.refusals:
            self._engine.outage.accepted(LOAD)
        return reply

    def _settle(self, write: Write | Direct, reply: LoadReply) -> None:
        """Unstage the value if L2 has refused it, or does not know of a later write."""
        self._lease = None
        if not self._watch.is_undisturbed(own_writes=1):
            write.unstage()
        if not reply.stored:
            write.unstage()
            self._engine.outgoing.retract(write)
            self._operations.counters.loads_refused += 1
