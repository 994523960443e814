"""One call's load: what the steps of a load plan do, synchronously.

The order of the steps, and when to take which, stands in ``core/loading.py``.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cachebridge.core.entry import ABSENT, MISSING
from cachebridge.core.lease import LoadReply, Look, LookState
from cachebridge.core.loading import Loaded, Result, poll_s, refresh_plan
from cachebridge.core.ttl import refreshes_early
from cachebridge.engine.drive import drive
from cachebridge.engine.slots import begin_elsewhere
from cachebridge.errors import L2Error

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.core.lease import LookTerms
    from cachebridge.core.loading import LoadTerms
    from cachebridge.engine.flights import LoadFlight
    from cachebridge.engine.sync import Operations

LOAD = "load"
_GRACE_S = 0.002


class LoadRun:
    """A key, its loader, and what the plan needs of the world around them."""

    def __init__(
        self,
        operations: Operations,
        key: str,
        loader: Callable[[], Any],
        *,
        ttl_ms: int | None,
        terms: LoadTerms,
        flight: LoadFlight,
    ) -> None:
        self._operations = operations
        self._engine = operations.engine
        self._key = key
        self._loader = loader
        self._ttl_ms = ttl_ms
        self._terms = terms
        self._flight = flight

    # -- L2 ------------------------------------------------------------------------

    def read_raw(self, key: str) -> bytes | None:
        """Return the bytes of a value that can be decoded, from L2."""
        self._flight.as_of = self._flight.tick()
        return self._operations.read_raw(key)

    def look(self, key: str, terms: LookTerms) -> Look | None:
        """Read the key or take its lease; None for a value that was unreadable."""
        operations, flight = self._operations, self._flight
        flight.begin_look()
        token = self._engine.new_token()
        if terms.is_refresh:
            return operations.l2.look(key, token, terms)
        operations.notice_read()
        if flight.joins:
            terms = terms._replace(joins=True)
        value: Any = MISSING
        with operations.open_fill((key,)) as fill:
            look = operations.l2.look(key, token, terms)
            if look.state is LookState.HIT:
                value = operations.take(fill, key, look.raw, look.ttl_ms)
            elif look.state is LookState.ABSENT:
                operations.counters.negative_hits += 1
                operations.values.take_absence(fill, key, look.ttl_ms)
            else:
                fill.refuse(key)
        self._count(look)
        if look.state is LookState.HIT and value is MISSING:
            operations.discard_unreadable([(key, look.raw)])
            return None
        return look if value is MISSING else look._replace(value=value)

    def _count(self, look: Look) -> None:
        counters = self._operations.counters
        if look.state is LookState.LEASE:
            counters.misses += 1
        elif look.state is LookState.STALE:
            counters.stale_hits += 1
        elif look.state is LookState.BUSY:
            counters.stale_hits += look.raw is not None
            counters.lease_waits += look.raw is None

    def wait(self, lease_s: float, attempt: int) -> None:
        """Wait until the bus brings news of the key, or it is time to look again."""
        longest_s = poll_s(attempt, has_bus=self._operations.hears_of_loads())
        self._flight.wait_for_news(min(lease_s + _GRACE_S, longest_s))

    def store_loaded(
        self, key: str, result: Result, terms: LoadTerms, look: Look
    ) -> LoadReply:
        """Store what was loaded, if no write has come since the look."""
        operations = self._operations
        began = self._flight.tick()
        with operations.open_write((key,)) as write:
            message = operations.message(write)
            if result.raw is None:
                ttl_ms = operations.jittered(terms.negative_ms) or 0
                operations.values.offer_absence(write, key, ttl_ms)
                reply = operations.l2.store_absent(key, ttl_ms, look, message)
            else:
                items, encoded = {key: result.value}, {key: result.raw}
                operations.values.offer(write, items, encoded, result.ttl_ms)
                reply = operations.l2.store_loaded(
                    key,
                    result.raw,
                    result.ttl_ms,
                    look,
                    keep_ms=terms.keep_ms,
                    cost_ms=result.cost_ms if terms.early_refresh else 0,
                    message=message,
                )
            if not reply.stored:
                write.withdraw()
                self._engine.retract_message(write)
                operations.counters.loads_refused += 1
        if self._engine.outage.refusals:
            self._engine.outage.accepted(LOAD)
        if reply.stored or reply.raw is not None:
            self._flight.as_of = began
        return reply

    def release(self, key: str, look: Look, keep_ms: int) -> bytes | None:
        """Give the lease back, and return a copy to serve after an error, if any."""
        copy = None
        with suppress(L2Error):  # then it runs out by itself
            news = self._engine.news_of(key)
            copy = self._operations.l2.release(key, look, keep_ms, news)
        if copy is not None:
            self._operations.counters.stale_hits += 1
        return copy

    def release_unshared(self, key: str, look: Look, lease_ms: int) -> None:
        """Give the lease back, and let everybody load for a while."""
        with suppress(L2Error):
            news = self._engine.news_of(key)
            self._operations.l2.release_unshared(key, look, lease_ms, news)

    # -- the loader ------------------------------------------------------------------

    def load(self) -> Result:
        """Run the loader and encode what it returns; whatever it raises is in there."""
        clock = self._engine.clock
        try:
            with self._engine.load_slots.slot():
                began = clock()
                self._operations.counters.loads += 1
                loaded = self._loader()
            cost_ms = max(1, int((clock() - began) * 1000))
            return self._result_of(loaded, cost_ms)
        except BaseException as exc:  # noqa: BLE001 the plan hands it to the caller
            self._operations.counters.load_errors += 1
            return Result(error=exc)

    def _result_of(self, loaded: Any, cost_ms: int) -> Result:
        ttl_ms = self._ttl_ms
        if type(loaded) is Loaded:
            ttl_ms = ttl_ms if loaded.ttl_ms is ... else loaded.ttl_ms
            if not loaded.store or (ttl_ms == 0 and self._ttl_ms != 0):
                return Result(loaded.value, is_shared=False)
            loaded = loaded.value
        if loaded is ABSENT:
            return Result(ABSENT, cost_ms=cost_ms)
        raw = self._operations.values.encode(loaded)
        return Result(loaded, raw, self._operations.jittered(ttl_ms), cost_ms)

    def load_away(self, key: str) -> Result:
        """Load without L2; what was loaded serves this process until L2 is back."""
        operations = self._operations
        with operations.open_fill((key,)) as fill:
            generation = fill.generation_of(key)
            result = self.load()
            if fill.generation_of(key) == generation:
                self._flight.as_of = self._flight.tick()
            if result.raw is not None and result.ttl_ms != 0:
                operations.values.take_loaded(
                    fill, key, result.value, result.raw, result.ttl_ms
                )
            elif result.value is ABSENT and self._terms.negative_ms:
                operations.values.take_loaded_absence(
                    fill, key, self._terms.negative_ms
                )
        return result

    def note_outage(self, exc: L2Error) -> None:
        """Count and log that L2 has failed."""
        self._engine.outage.note(exc, LOAD)

    # -- refreshing --------------------------------------------------------------------

    def consider_refresh(self, key: str, look: Look, terms: LoadTerms) -> None:
        """Start a refresh behind the caller if the value is stale, or will be soon."""
        if look.state is LookState.STALE or refreshes_early(
            look.ttl_ms, look.cost_ms, terms.early_refresh, self._engine.chance
        ):
            run = LoadRun(
                self._operations,
                key,
                self._operations.behind(self._loader),
                ttl_ms=self._ttl_ms,
                terms=terms,
                flight=self._engine.flights.alone(),
            )
            self._engine.refresher.submit(key, lambda: run.refresh(max(look.ttl_ms, 0)))

    def refresh(self, seen_ttl_ms: int) -> None:
        """Load the value anew, in the background."""
        begin_elsewhere()
        self._operations.counters.refreshes += 1
        with suppress(L2Error):
            drive(refresh_plan(self._key, self._terms, seen_ttl_ms), self)
