"""One call's load: what the steps of a load plan do, synchronously.

The order of the steps, and when to take which, stands in ``core/loading.py``.  The twin
of this file is ``aloads.py``; a test compares them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cachebridge.core.entry import MISSING
from cachebridge.core.lease import LoadReply, Look, LookState
from cachebridge.core.loading import LoaderError, Result, loaded_raw, refresh_plan
from cachebridge.engine.drive import drive
from cachebridge.engine.flights import begin_leading_nothing
from cachebridge.engine.load import LOAD, Load
from cachebridge.engine.slots import begin_elsewhere
from cachebridge.errors import L2Error
from cachebridge.waiting import is_on_loop

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.core.lease import LookTerms
    from cachebridge.core.loading import LoadTerms
    from cachebridge.engine.flights import LoadFlight
    from cachebridge.engine.sync import Operations


class LoadRun(Load):
    """What the plan needs of the world around it."""

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
        super().__init__(
            operations, key, loader, ttl_ms=ttl_ms, terms=terms, flight=flight
        )
        self._operations = operations
        if is_on_loop() and self._engine.is_refreshing(key):
            flight.joins = True  # what has the lease may need this very loop

    # -- L2 ------------------------------------------------------------------------

    def read_raw(self, key: str) -> bytes | None:
        """Return the bytes of a value that can be decoded, from L2."""
        self._begin_request()
        return self._operations.read_raw(key)

    def look(self, key: str, terms: LookTerms) -> Look | None:
        """Read the key or take its lease; None for a value that was unreadable."""
        operations = self._operations
        token = self._begin_look()
        if terms.is_refresh:
            return self._looked(operations.l2.look(key, token, terms))
        operations.notice_read()
        if self._flight.joins:
            terms = terms._replace(joins=True)
        with operations.open_fill((key,)) as fill:
            look = self._looked(operations.l2.look(key, token, terms))
            value = self._take_look(fill, key, look)
        if look.state is LookState.HIT and value is MISSING:
            operations.discard_unreadable([(key, look.raw)])
            return None
        return look if value is MISSING else look._replace(value=value)

    def wait(self, lease_s: float, attempt: int) -> None:
        """Wait until the bus brings news of the key, or it is time to look again."""
        self._flight.news.wait(self._longest_wait_s(lease_s, attempt))

    def store_loaded(
        self, key: str, result: Result, terms: LoadTerms, look: Look
    ) -> LoadReply:
        """Store what was loaded, if no write has come since the look."""
        operations = self._operations
        began = self._as_of_now()
        with operations.open_write((key,)) as write:
            self._guard(write)
            message = operations.message(write)
            if result.raw is None:
                ttl_ms = operations.jittered(terms.negative_ms) or 0
                operations.values.offer_absence(write, key, ttl_ms)
                reply = operations.l2.store_absent(key, ttl_ms, look, message)
            else:
                items, encoded = {key: result.value}, {key: result.raw}
                operations.values.offer(write, items, encoded, result.ttl_ms)
                loaded = loaded_raw(result, terms)
                reply = operations.l2.store_loaded(key, loaded, look, message)
            self._settle(write, reply)
        if self._engine.outage.refusals:
            self._engine.outage.accepted(LOAD)
        if reply.raw is not None or (reply.stored and look.generation):
            self._flight.as_of = began
        return reply

    def release(self, key: str, look: Look, keep_ms: int) -> bytes | None:
        """Give the lease back, and return a copy to serve after an error, if any."""
        copy = None
        with suppress(L2Error):  # then it runs out by itself
            news = self._engine.news_of(key)
            copy = self._operations.l2.release(key, look, keep_ms, news)
        self._lease = None
        if copy is not None:
            self._operations.counters.stale_hits += 1
        return copy

    def release_unshared(self, key: str, look: Look, lease_ms: int) -> None:
        """Give the lease back, and let everybody load for a while."""
        with suppress(L2Error):
            news = self._engine.news_of(key)
            self._operations.l2.release_unshared(key, look, lease_ms, news)
        self._lease = None

    def _abandon(self, lease: Look) -> None:
        """Give the lease of a load back that is broken off."""
        self.release(self._key, lease, 0)

    # -- the loader ------------------------------------------------------------------

    def load(self) -> Result:
        """Run the loader and encode what it returns; whatever it raises is in there."""
        clock = self._engine.clock
        try:
            with self._engine.load_slots.slot():
                began = clock()
                self._watch.begin()
                self._operations.counters.loads += 1
                loaded = self._loader()
            cost_ms = max(1, int((clock() - began) * 1000))
            return self._result_of(loaded, cost_ms)
        except BaseException as exc:  # noqa: BLE001 the plan hands it to the caller
            return self._failed(exc)

    def load_away(self, key: str) -> Result:
        """Load without L2; what was loaded serves this process until L2 is back."""
        with self._operations.open_fill((key,)) as fill:
            result = self.load()
            self._store_away(fill, key, result)
        return result

    # -- refreshing --------------------------------------------------------------------

    def consider_refresh(self, key: str, look: Look, terms: LoadTerms) -> None:
        """Start a refresh behind the caller if the value is stale, or will be soon."""
        if self._is_refresh_due(look, terms):
            loader = self._operations.behind(self._loader)
            run = LoadRun(self._operations, key, loader, **self._alone())
            self._engine.refresher.submit(key, lambda: run.refresh(max(look.ttl_ms, 0)))

    def refresh(self, seen_ttl_ms: int) -> None:
        """Load the value anew, in the background."""
        begin_elsewhere()
        begin_leading_nothing()
        self._operations.counters.refreshes += 1
        try:
            with suppress(L2Error), self.to_the_end():
                plan = refresh_plan(self._key, self._terms, seen_ttl_ms)
                drive(plan, self)
        except LoaderError as exc:
            error = exc.error
        else:
            return
        raise error
