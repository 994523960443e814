"""Loading values as plans: leases, stale copies, negative answers, refreshes, outages.

See ``core/plans.py`` for what a plan is.  One plan runs per key and process; whoever
else asks meanwhile waits for its outcome (``engine/flights.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from cachebridge.core.entry import ABSENT, MISSING
from cachebridge.core.lease import LoadedRaw, Look, LookState, LookTerms
from cachebridge.core.plans import Plan, Step
from cachebridge.errors import L2Error

POLL_MIN_S: Final = 0.01
POLL_MAX_S: Final = 0.1
POLL_WITH_BUS_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class LoadTerms:
    """How a cache, or one call of it, loads values; milliseconds."""

    lease_ms: int = 5000
    stale_ms: int = 0
    stale_if_error_ms: int = 0
    negative_ms: int = 0
    early_refresh: float = 0.0

    @property
    def keep_ms(self) -> int:
        """How long a copy is kept past the value's TTL."""
        return max(self.stale_ms, self.stale_if_error_ms)

    def look(self, *, is_refresh: bool = False) -> LookTerms:
        """Return what a look has to know."""
        return LookTerms(
            self.lease_ms, self.stale_ms, self.stale_if_error_ms, is_refresh
        )


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a loader may return in the place of a bare value, to say more about it.

    ``ttl_ms`` overrides the TTL of the call, ``...`` keeps it.  With ``store=False``
    nothing is stored: the value is for the caller who ran the loader, and everybody
    who waited for it runs their own.
    """

    value: Any
    ttl_ms: Any = ...
    store: bool = True


def checked_ttl(ttl_ms: Any) -> int | None:
    """Return what ``Loaded`` was given as a TTL; raises TypeError or ValueError."""
    if ttl_ms is None:
        return None
    if type(ttl_ms) is not int:
        raise TypeError(f"Loaded.ttl_ms must be an int or None, not {ttl_ms!r}")
    if ttl_ms < 0:
        raise ValueError(f"Loaded.ttl_ms must not be negative: {ttl_ms}")
    return ttl_ms


def bare(value: Any) -> Any:
    """Return the value that a loader returned, without what it said about it."""
    return value.value if type(value) is Loaded else value


class Result(NamedTuple):
    """The end of one run of a loader."""

    value: Any = None
    raw: bytes | None = None
    """The encoded value; None if it is ABSENT, must not be stored, or failed."""
    ttl_ms: int | None = None
    cost_ms: int = 0
    is_shared: bool = True
    error: BaseException | None = None


def loaded_raw(result: Result, terms: LoadTerms) -> LoadedRaw:
    """Return what a store is to keep of a value that was loaded on these terms."""
    if result.raw is None:
        raise AssertionError("absence is stored by store_absent")
    cost_ms = result.cost_ms if terms.early_refresh else 0
    return LoadedRaw(result.raw, result.ttl_ms, terms.keep_ms, cost_ms)


class Outcome(NamedTuple):
    """The end of a plan.

    ``raw`` serves every caller; without it ``value`` is ABSENT, or only for the one
    who loaded it (``is_shared`` False).  Otherwise ``value`` is the leader's own copy,
    MISSING if it has to be decoded.
    """

    raw: bytes | None
    value: Any
    is_shared: bool = True


def load_plan(
    key: str,
    ttl_ms: int | None,
    terms: LoadTerms,
    *,
    degrades: bool,
    failure: L2Error | None = None,
) -> Plan:
    """Return the Outcome of reading or loading a key that L1 does not hold.

    With ``degrades``, L2Errors end in a load without L2; else they come out.  A
    ``failure`` that happened before is one already.
    """
    try:
        if failure is not None:
            raise failure
        if ttl_ms == 0:
            return (yield from _load_unstored(key))
        return (yield from _read_or_load(key, terms, degrades=degrades))
    except L2Error as exc:
        if not degrades:
            raise
        yield Step("note_outage", (exc,))
    return _of(_checked((yield Step("load_away", (key,)))))


def _load_unstored(key: str) -> Plan:
    """Serve what is there; what has no time to live is not stored, nor leased."""
    raw = yield Step("read_raw", (key,))
    if raw is not None:
        return Outcome(raw, MISSING)
    return _of(_checked((yield Step("load"))))


def _read_or_load(key: str, terms: LoadTerms, *, degrades: bool) -> Plan:
    attempt = 0
    while True:
        look: Look | None = yield Step("look", (key, terms.look()))
        if look is None:  # what was there could not be decoded, and is gone now
            continue
        if look.state is LookState.LEASE:
            return (yield from _load(key, terms, look, degrades=degrades))
        if look.state is LookState.ABSENT:
            return Outcome(None, ABSENT)
        if look.raw is not None:
            if look.state is not LookState.BUSY:
                yield Step("consider_refresh", (key, look, terms))
            return Outcome(look.raw, look.value)
        yield Step("wait", (look.wait_ms / 1000, attempt))
        attempt += 1


def refresh_plan(key: str, terms: LoadTerms, seen_ttl_ms: int) -> Plan:
    """Load a value anew behind its readers, unless somebody has or does.

    ``seen_ttl_ms`` is what was left of it when the refresh was thought due: if more is
    left now, it has been done.
    """
    look: Look | None = yield Step("look", (key, terms.look(is_refresh=True)))
    if look is None or look.state is not LookState.LEASE:
        return
    if look.raw is not None and not 0 <= look.ttl_ms <= max(seen_ttl_ms, 0):
        yield Step("release", (key, look, 0))
        return
    yield from _load(key, terms, look, degrades=False)


def _load(key: str, terms: LoadTerms, look: Look, *, degrades: bool) -> Plan:
    """Run the loader as the owner of the lease, and store what it returns."""
    result: Result = yield Step("load")
    if result.error is not None:
        if is_interruption(result.error):  # whoever runs the plan gives the lease back
            raise LoaderError(result.error)
        raw = yield Step("release", (key, look, terms.keep_ms))
        if raw is None:
            raise LoaderError(result.error)
        return Outcome(raw, MISSING)
    if not result.is_shared:
        yield Step("release_unshared", (key, look, terms.lease_ms))
        return _of(result)
    try:
        reply = yield Step("store_loaded", (key, result, terms, look))
    except L2Error as exc:
        if not degrades:
            raise
        yield Step("note_outage", (exc,))
        return _of(result)
    if reply.stored or reply.raw is None:
        return _of(result)
    return Outcome(reply.raw, MISSING)


class LoaderError(Exception):
    """Carries an exception of the loader out of a plan, whatever its type.

    A plan is a generator: it cannot raise every type, StopIteration for one.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


def is_interruption(error: BaseException) -> bool:
    """Tell what breaks a load off, such as a cancellation, from what makes it fail."""
    if isinstance(error, LoaderError):
        error = error.error
    return not isinstance(error, Exception)


def _checked(result: Result) -> Result:
    if result.error is not None:
        raise LoaderError(result.error)
    return result


def _of(result: Result) -> Outcome:
    if result.value is ABSENT:
        return Outcome(None, ABSENT)
    if not result.is_shared or result.raw is None:
        return Outcome(None, result.value, is_shared=False)
    return Outcome(result.raw, MISSING)


def poll_s(attempt: int, *, has_bus: bool) -> float:
    """How long to wait for news of another's load before looking again.

    With a bus the news comes by itself: looking is for the case that it is lost.
    """
    if has_bus:
        return POLL_WITH_BUS_S
    return min(POLL_MAX_S, POLL_MIN_S * float(1 << min(attempt, 10)))
