"""One load of one key, from the lease to the stored value, for threads and tasks.

``Load.lead`` reads top down.  What it may find in L2 stands in ``core/lease.py``; one
load runs per key and process (``single_flight``).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from cachebridge.core.entry import ABSENT, MISSING
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
    poll_s,
    refuse_coroutine,
)
from cachebridge.core.ttl import refreshes_early
from cachebridge.core.watch import Watch
from cachebridge.engine.loading.single_flight import lead_nothing
from cachebridge.engine.loading.slots import forget_slot
from cachebridge.errors import L2Error
from cachebridge.waiting.io import call
from cachebridge.waiting.run import Carried

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.core.direct import Direct
    from cachebridge.core.fill import Fill
    from cachebridge.core.lease import LeaseTerms
    from cachebridge.core.loading import LoadTerms
    from cachebridge.core.write import Write
    from cachebridge.engine.loading.host import LoadHost, LoadStarter
    from cachebridge.engine.loading.single_flight import SharedLoad
    from cachebridge.engine.operations import Operations

LOAD: Final = "load"
_GRACE_S: Final = 0.002
NEVER: Final = -1
"""Tick of an outcome that no follower may share."""


class Load:
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
        self._failure = failure
        self._shared: SharedLoad
        """What followers see of it; set by ``lead`` and by ``refresh``."""
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
                    if self._watch.is_undisturbed(unless_begun=True):
                        shared.as_of = shared.tick()
                elif self._lease is not None:
                    await self._starter.abandon(self, self._lease)
                raise

    async def _find_or_load(self) -> Outcome:
        try:
            found = await self.find()
            if isinstance(found, Outcome):
                return found
            if found is None:
                return outcome_of(await self.load())
            return await self._load_and_store(found, self._operations.degrades)
        except L2Error as exc:
            if not self._operations.degrades:
                raise
            self._engine.outage.note(exc, LOAD)
        return outcome_of(await self.load_without_l2())

    async def find(self) -> Outcome | LeaseGet | None:
        """Return what L2 has, else the lease to load under.

        None if there is nothing to store, and so no lease is needed: a value without
        time to live, one in the place of a value that only other processes can read,
        or a load beside the owner of the lease.
        """
        if self._failure is not None:
            raise self._failure
        if self.ttl_ms == 0:
            raw = await self.read_raw()
            return None if raw is None else Outcome(raw, MISSING)
        attempt = 0
        while True:
            lease = await self.get_or_lease(self.terms.for_lease())
            if lease is None:  # what was there was damaged, and is gone now
                continue
            if self._can_store_nothing(lease):
                return None
            self._shared.saw_lease(lease.wait_ms)
            if lease.state is LeaseState.LEASE:
                return lease
            if lease.state is LeaseState.ABSENT:
                return Outcome(None, ABSENT)
            if lease.raw is not None:
                if lease.state is not LeaseState.BUSY:
                    self.consider_refresh(lease)
                return Outcome(lease.raw, lease.value)
            await self.wait(lease.wait_ms / 1000, attempt)
            attempt += 1

    def _can_store_nothing(self, lease: LeaseGet) -> bool:
        """Return whether to load although another's value or lease is in the way."""
        if lease.state is LeaseState.HIT:
            return lease.value is MISSING
        is_busy = lease.state is LeaseState.BUSY and lease.raw is None
        return is_busy and self._shared.is_beside

    async def _load_and_store(self, lease: LeaseGet, degrades: bool) -> Outcome:
        """Run the loader as the owner of the lease, and store what it returns."""
        result = await self.load()
        if result.error is not None:
            if is_interruption(result.error):  # ``lead`` gives the lease back
                raise LoaderError(result.error)
            asked = self._tick_of_request()
            raw = await self.release(lease, self.terms.keep_ms)
            if raw is None:
                return outcome_of(result)  # it raises the error
            self._shared.as_of = asked
            return Outcome(raw, MISSING)
        if not result.is_shared:
            await self.release_unshared(lease)
            return outcome_of(result)
        try:
            reply = await self.store_loaded(result, lease)
        except L2Error as exc:
            if not degrades:
                raise
            self._engine.outage.note(exc, LOAD)
            return outcome_of(result)
        if reply.stored or reply.raw is None:
            return outcome_of(result)
        return Outcome(reply.raw, MISSING)

    async def refresh(self, seen_ttl_ms: int) -> None:
        """Load the value anew in the background, unless another caller has or does.

        ``seen_ttl_ms`` is what was left of it when the refresh was thought due: if more
        is left now, it has been done.
        """
        forget_slot()
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

    # -- reading, and the lease --------------------------------------------------------

    async def read_raw(self) -> bytes | None:
        """Return the bytes of a value that can be decoded, from L2."""
        self._shared.as_of = self._tick_of_request()
        raw, value = await self._operations.read(self.key)
        return None if value is MISSING else raw

    async def get_or_lease(self, terms: LeaseTerms) -> LeaseGet | None:
        """Read the key or take its lease; None for a damaged value, deleted now.

        A HIT without a ``value`` is one that only other processes can read.
        """
        operations, key = self._operations, self.key
        self._shared.key_changed.clear()
        self._shared.as_of = self._tick_of_request()
        token = self._engine.outgoing.new_token()
        # Even unanswered, the request may have got the lease.
        self._lease = LeaseGet(LeaseState.LEASE, generation=token, token=token)
        if terms.is_refresh:
            lease = await operations.l2.get_or_lease(key, token, terms)
            self._lease = lease if lease.state is LeaseState.LEASE else None
            return lease
        operations.count_read()
        if self._shared.joins:
            terms = terms._replace(joins=True)
        with operations.open_fill((key,)) as fill, fill:
            lease = await operations.l2.get_or_lease(key, token, terms)
            self._lease = lease if lease.state is LeaseState.LEASE else None
            value = self._fill_from(fill, lease)
        if value is not MISSING:
            return lease._replace(value=value)
        is_found = lease.state is LeaseState.HIT and lease.raw is not None
        if is_found and await operations.discard_damaged([(key, lease.raw or b"")]):
            return None
        return lease

    def _tick_of_request(self) -> int:
        """Return the tick of a request sent now.

        Only callers that asked earlier may share its answer; none, if a delete of the
        key is pending: then L2's answer is old.
        """
        pending = self._engine.outage.pending_deletes
        if pending.may_be and pending.concern((self.key,)):
            return NEVER
        return self._shared.tick()

    def _fill_from(self, fill: Fill | Direct, lease: LeaseGet) -> Any:
        """Store in L1 what was found, count it, and return it if it is a value."""
        operations, counters = self._operations, self._operations.counters
        value: Any = MISSING
        if lease.state is LeaseState.HIT:
            value = operations.decode_and_fill(fill, self.key, lease.raw, lease.ttl_ms)
        elif lease.state is LeaseState.ABSENT:
            counters.negative_hits += 1
            operations.values.take_absence(fill, self.key, lease.ttl_ms)
        else:
            fill.refuse(self.key)
        if lease.state is LeaseState.LEASE:
            counters.misses += 1
        elif lease.state is LeaseState.STALE:
            counters.stale_hits += 1
        elif lease.state is LeaseState.BUSY:
            counters.stale_hits += lease.raw is not None
            counters.lease_waits += lease.raw is None
        return value

    async def wait(self, lease_s: float, attempt: int) -> None:
        """Wait until the bus says that the key has changed, or it is time to ask."""
        poll = poll_s(attempt, has_bus=self._operations.has_load_messages())
        await self._io.wait(self._shared.key_changed, min(lease_s + _GRACE_S, poll))

    async def release(self, lease: LeaseGet, keep_ms: int) -> bytes | None:
        """Give the lease back, and return a copy to serve after an error, if any."""
        copy = None
        with suppress(L2Error):  # then it runs out by itself
            message = self._engine.outgoing.load_ended(self.key)
            copy = await self._operations.l2.release(self.key, lease, keep_ms, message)
        self._lease = None
        if copy is not None:
            self._operations.counters.stale_hits += 1
        return copy

    async def release_unshared(self, lease: LeaseGet) -> None:
        """Give the lease back, and let every caller load for a while."""
        with suppress(L2Error):
            message = self._engine.outgoing.load_ended(self.key)
            await self._operations.l2.release_unshared(
                self.key, lease, self.terms.lease_ms, message
            )
        self._lease = None

    # -- the loader, and what it loads -------------------------------------------------

    async def load(self) -> Result:
        """Run the loader and encode what it returns; the result has what it raises."""
        clock, slot = self._engine.clock, self._engine.load_slots.slot(self._io)
        has_loaded = False
        try:
            with slot, slot:
                await slot.take(self._engine.single_flight.patience_s(self._shared))
                began = clock()
                self._watch.begin()
                self._operations.counters.loads += 1
                loaded = await call(self._io, self.loader)
                has_loaded = True
            cost_ms = max(1, int((clock() - began) * 1000))
            return await self._result_of(loaded, cost_ms)
        except BaseException as exc:  # noqa: BLE001 its caller raises it
            self._operations.counters.load_errors += 1
            error = exc.error if isinstance(exc, Carried) else exc
            return Result(error=error, is_shared=not has_loaded)

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
            result = await self.load()
            if self._watch.is_undisturbed():
                self._shared.as_of = self._shared.tick()
            if result.raw is not None and result.ttl_ms != 0:
                values.take_loaded(fill, key, result.value, result.raw, result.ttl_ms)
            elif result.value is ABSENT and self.terms.negative_ms:
                values.take_absence(fill, key, self.terms.negative_ms, is_loaded=True)
        return result

    async def store_loaded(self, result: Result, lease: LeaseGet) -> LoadReply:
        """Store what was loaded, if no write has come since the lease was taken."""
        operations, key = self._operations, self.key
        began = self._tick_of_request()
        with operations.open_write((key,)) as write, write:
            if not self._watch.is_undisturbed(own_writes=1):
                write.discard_on_outage()
            message = operations.message(write)
            if result.raw is None:
                ttl_ms = operations.jittered(self.terms.negative_ms) or 0
                operations.values.stage_absence(write, key, ttl_ms)
                reply = await operations.l2.store_absent(key, ttl_ms, lease, message)
            else:
                items, encoded = {key: result.value}, {key: result.raw}
                operations.values.stage(write, items, encoded, result.ttl_ms)
                loaded = loaded_raw(result, self.terms)
                reply = await operations.l2.store_loaded(key, loaded, lease, message)
            self._settle(write, reply)
        if self._engine.outage.refusals:
            self._engine.outage.accepted(LOAD)
        if reply.raw is not None or (reply.stored and lease.generation):
            self._shared.as_of = began
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

    def consider_refresh(self, lease: LeaseGet) -> None:
        """Start a refresh in the background if the value is stale, or soon will be."""
        if lease.state is LeaseState.STALE or refreshes_early(
            lease.ttl_ms,
            lease.cost_ms,
            self.terms.early_refresh,
            self._engine.chance,
        ):
            self._starter.refresh(self, lease)
