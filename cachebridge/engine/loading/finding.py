"""What a load finds in L2: a value, a copy, or the lease to load under.

What these are stands in ``core/lease.py``.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, Final

from cachebridge.codec.envelope import body_of
from cachebridge.core.dropping.tags import TAG_MARK
from cachebridge.core.entry import ABSENT, MISSING
from cachebridge.core.lease import LeaseGet, LeaseState
from cachebridge.core.loading import Outcome, poll_s
from cachebridge.core.ttl import refreshes_early
from cachebridge.errors import L2Error
from cachebridge.observing import HOOK

if TYPE_CHECKING:
    from cachebridge.core.direct import Direct
    from cachebridge.core.entry import Absent, Missing
    from cachebridge.core.fill import Fill
    from cachebridge.core.lease import LeaseTerms
    from cachebridge.core.loading import LoadTerms
    from cachebridge.engine.loading.host import LoadHost, LoadStarter
    from cachebridge.engine.loading.single_flight import SharedLoad
    from cachebridge.engine.operations import Operations
    from cachebridge.waiting.io import IO

_GRACE_S: Final = 0.002
NO_COPY: Final = -1
"""No copy is so young."""
NEVER: Final = -1
"""Tick of an outcome that no follower may share."""


class Finding:
    """The part of ``Load`` that reads L2, and deals with the lease."""

    _operations: Operations
    _engine: LoadHost
    _starter: LoadStarter
    _io: IO
    _failure: L2Error | None
    _shared: SharedLoad
    _lease: LeaseGet | None
    key: str
    ttl_ms: int | None
    terms: LoadTerms
    _has_dead_copy = False
    """Whether the copy in L2 is of an invalidated tag: no caller may get it."""

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
            lease = await self.get_or_lease(self._lease_terms())
            if lease is None:  # what was there was damaged or invalid; it is gone now
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

    def _lease_terms(self) -> LeaseTerms:
        terms = self.terms.for_lease()
        if self._has_dead_copy:
            terms = terms._replace(stale_ms=NO_COPY, stale_if_error_ms=NO_COPY)
        return terms

    def _can_store_nothing(self, lease: LeaseGet) -> bool:
        """Return whether to load although what another has left is in the way."""
        state = lease.state  # no set of states: hashing one is a call of Python
        if state is LeaseState.HIT or state is LeaseState.ABSENT:
            return lease.value is MISSING
        is_busy = lease.state is LeaseState.BUSY and lease.raw is None
        return is_busy and self._shared.is_beside

    async def read_raw(self) -> bytes | None:
        """Return the bytes of a value that can be decoded, from L2."""
        self._shared.as_of = self._tick_of_request()
        raw, value = await self._operations.read(self.key)
        return None if raw is None or value is MISSING else body_of(raw)

    async def own_bytes(self, raw: bytes) -> bytes | None:
        """Return a value's own bytes, None for a tagged one that is not alive."""
        if not raw.startswith(TAG_MARK):
            return raw
        return await self._operations.living_part(None, self.key, raw)

    async def get_or_lease(self, terms: LeaseTerms) -> LeaseGet | None:
        """Read the key or take its lease; None for what no caller may get.

        That is a damaged or invalid value, deleted now, or an invalid copy.

        A HIT or ABSENT without a ``value`` is one that only other processes can read.
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
            raw = lease.raw
            if raw is not None and raw.startswith(TAG_MARK):
                own = await operations.living_part(fill, key, raw)
                lease = lease._replace(raw=own)
            is_dead = raw is not None and lease.raw is None
            if is_dead and lease.state is not LeaseState.BUSY:
                fill.refuse(key)
                value = MISSING
            else:
                value = self._fill_from(fill, lease)
        if value is not MISSING:
            return lease._replace(value=value)
        if raw is None or lease.state is LeaseState.LEASE:
            return lease
        if lease.state is LeaseState.HIT:
            if is_dead:
                await operations.discard(key, raw)
                return None
            return None if await operations.discard_damaged([(key, raw)]) else lease
        self._has_dead_copy = self._has_dead_copy or is_dead
        return None if is_dead and lease.state is LeaseState.STALE else lease

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
            value = self._fill_absence(fill, lease)
        else:
            fill.refuse(self.key)
        if lease.state is LeaseState.LEASE:
            counters.misses += 1
        elif lease.state is LeaseState.STALE:
            counters.stale_hits += 1
        elif lease.state is LeaseState.BUSY:
            counters.stale_hits += lease.raw is not None
            if lease.raw is None:
                counters.lease_waits += 1
                self._engine.rules.trail.waited(self.key)
        return value

    def _fill_absence(self, fill: Fill | Direct, lease: LeaseGet) -> Absent | Missing:
        """Let L1 know of a mark of absence, and return ABSENT, if the mark is ours."""
        operations, values = self._operations, self._operations.values
        if values.is_our_absence(self.key, lease.mark):
            operations.counters.negative_hits += 1
            values.take_absence(fill, self.key, lease.ttl_ms)
            return ABSENT
        operations.counters.misses += 1
        fill.refuse(self.key)
        return MISSING

    async def wait(self, lease_s: float, attempt: int) -> None:
        """Wait until the bus says that the key has changed, or it is time to ask."""
        poll = poll_s(attempt, has_bus=self._operations.has_load_messages())
        patience_s = min(lease_s + _GRACE_S, poll)
        observed = HOOK.observer and HOOK.observer.lease_wait(self.key)
        with observed or nullcontext():
            await self._io.wait(self._shared.key_changed, patience_s)

    async def release(self, lease: LeaseGet, keep_ms: int) -> bytes | None:
        """Give the lease back, and return a copy to serve after an error, if any."""
        copy, key, l2 = None, self.key, self._operations.l2
        keep_ms = 0 if self._has_dead_copy else keep_ms
        with suppress(L2Error):  # then it runs out by itself
            message = self._engine.outgoing.load_ended(key)
            raw = await l2.release(key, lease, keep_ms, message)
            copy = None if raw is None else await self.own_bytes(raw)
            if raw is not None and copy is None:  # others may try at once
                await l2.release(key, lease, 0, message)
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

    def consider_refresh(self, lease: LeaseGet) -> None:
        """Start a refresh in the background if the value is stale, or soon will be."""
        if lease.state is LeaseState.STALE or refreshes_early(
            lease.ttl_ms,
            lease.cost_ms,
            self.terms.early_refresh,
            self._engine.chance,
        ):
            self._starter.refresh(self, lease)
