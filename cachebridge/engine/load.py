"""What one call's load shares in both colours: all that does not wait."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from cachebridge.core.entry import ABSENT, MISSING
from cachebridge.core.lease import Look, LookState
from cachebridge.core.loading import (
    Loaded,
    Result,
    checked_ttl,
    is_interruption,
    poll_s,
)
from cachebridge.core.ttl import refreshes_early
from cachebridge.core.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cachebridge.core.direct import Direct
    from cachebridge.core.fill import Fill
    from cachebridge.core.lease import LoadReply
    from cachebridge.core.loading import LoadTerms
    from cachebridge.core.write import Write
    from cachebridge.engine.flights import LoadFlight
    from cachebridge.engine.operations import Means
    from cachebridge.errors import L2Error

LOAD: Final = "load"
_GRACE_S: Final = 0.002
NEVER: Final = -1
"""As good as of no time: nobody can follow."""


class Load(ABC):
    """A key, its loader, and what becomes of its lease."""

    def __init__(
        self,
        means: Means,
        key: str,
        loader: Callable[[], Any],
        *,
        ttl_ms: int | None,
        terms: LoadTerms,
        flight: LoadFlight,
    ) -> None:
        self._means = means
        self._engine = means.engine
        self._key = key
        self._loader = loader
        self._ttl_ms = ttl_ms
        self._terms = terms
        self._flight = flight
        self._lease: Look | None = None
        """What may have to be given back."""
        self._watch = Watch(means.engine.rules, key)
        """What has happened here to the key since the loader began."""

    def _begin_request(self) -> None:
        """Note that what L2 answers now is as good as of now."""
        self._flight.as_of = self._as_of_now()

    def _as_of_now(self) -> int:
        """Return for whom a request that begins now is good enough: who asked before.

        For nobody, if L2 is owed a delete of the key: its answer is old.
        """
        debts = self._engine.outage.debts
        if debts and debts.concern((self._key,)):
            return NEVER
        return self._flight.tick()

    def _alone(self) -> dict[str, Any]:
        """Return the terms of this load for another that nobody can follow."""
        return {
            "ttl_ms": self._ttl_ms,
            "terms": self._terms,
            "flight": self._engine.flights.alone(),
        }

    # -- the lease -------------------------------------------------------------------

    def _begin_look(self) -> bytes:
        """Return the token of a look, which may get the lease even if unanswered."""
        self._flight.news.clear()
        self._begin_request()
        token = self._engine.new_token()
        self._lease = Look(LookState.LEASE, generation=token, token=token)
        return token

    def _looked(self, look: Look) -> Look:
        self._lease = look if look.state is LookState.LEASE else None
        return look

    def _take_look(self, fill: Fill | Direct, key: str, look: Look) -> Any:
        """Let L1 have what was found, and return it if it is a value."""
        means = self._means
        value: Any = MISSING
        if look.state is LookState.HIT:
            value = means.take(fill, key, look.raw, look.ttl_ms)
        elif look.state is LookState.ABSENT:
            means.counters.negative_hits += 1
            means.values.take_absence(fill, key, look.ttl_ms)
        else:
            fill.refuse(key)
        self._count(look)
        return value

    @contextmanager
    def to_the_end(self) -> Iterator[None]:
        """Give the lease back if the load is broken off, by whatever it may be."""
        try:
            yield
        except BaseException as exc:
            if self._lease is not None and is_interruption(exc):
                self._abandon(self._lease)
            raise
        finally:
            self._watch.end()

    @abstractmethod
    def _abandon(self, lease: Look) -> None:
        """Give the lease back of a load that is broken off."""

    def _longest_wait_s(self, lease_s: float, attempt: int) -> float:
        """Return how long to wait for another's load before looking again."""
        longest_s = poll_s(attempt, has_bus=self._means.hears_of_loads())
        return min(lease_s + _GRACE_S, longest_s)

    # -- the value ---------------------------------------------------------------------

    def _guard(self, write: Write | Direct) -> None:
        """Keep for an outage only what nothing has happened to since the load began."""
        if not self._watch.is_undisturbed(own_writes=1):
            write.forgo_outage()

    def _settle(self, write: Write | Direct, reply: LoadReply) -> None:
        """Note whether L2 has taken what was loaded."""
        self._lease = None
        if not self._watch.is_undisturbed(own_writes=1):
            write.withdraw()  # a write that L2 knows nothing of has overtaken it
        if not reply.stored:
            write.withdraw()
            self._engine.retract_message(write)
            self._means.counters.loads_refused += 1

    def _count(self, look: Look) -> None:
        counters = self._means.counters
        if look.state is LookState.LEASE:
            counters.misses += 1
        elif look.state is LookState.STALE:
            counters.stale_hits += 1
        elif look.state is LookState.BUSY:
            counters.stale_hits += look.raw is not None
            counters.lease_waits += look.raw is None

    def _store_away(self, fill: Fill | Direct, key: str, result: Result) -> None:
        """Let L1 have what was loaded without L2, until that is back."""
        if self._watch.is_undisturbed():
            self._flight.as_of = self._flight.tick()
        values = self._means.values
        if result.raw is not None and result.ttl_ms != 0:
            values.take_loaded(fill, key, result.value, result.raw, result.ttl_ms)
        elif result.value is ABSENT and self._terms.negative_ms:
            values.take_loaded_absence(fill, key, self._terms.negative_ms)

    def _failed(self, error: BaseException) -> Result:
        self._means.counters.load_errors += 1
        return Result(error=error)

    def _result_of(self, loaded: Any, cost_ms: int) -> Result:
        ttl_ms = self._ttl_ms
        if type(loaded) is Loaded:
            ttl_ms = ttl_ms if loaded.ttl_ms is ... else checked_ttl(loaded.ttl_ms)
            if not loaded.store or (ttl_ms == 0 and self._ttl_ms != 0):
                return Result(loaded.value, is_shared=False)
            loaded = loaded.value
        if loaded is ABSENT:
            return Result(ABSENT, cost_ms=cost_ms)
        raw = self._means.values.encode(loaded)
        return Result(loaded, raw, self._means.jittered(ttl_ms), cost_ms)

    def note_outage(self, exc: L2Error) -> None:
        """Count and log that L2 has failed."""
        self._engine.outage.note(exc, LOAD)

    def _is_refresh_due(self, look: Look, terms: LoadTerms) -> bool:
        """Tell whether the value is stale, or will be soon."""
        return look.state is LookState.STALE or refreshes_early(
            look.ttl_ms, look.cost_ms, terms.early_refresh, self._engine.chance
        )
