"""What a load is made of: its terms, what a loader may say, its result and outcome.

``engine/loading/load.py`` carries a load out.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cachebridge.core.entry import ABSENT, MISSING
from cachebridge.core.lease import LeaseTerms, LoadedRaw

if TYPE_CHECKING:
    from cachebridge.config import CacheOptions

POLL_MIN_S: Final = 0.01
POLL_MAX_S: Final = 0.1
POLL_WITH_BUS_S: Final = 1.0
DEFAULT_LEASE_MS: Final = 5000


@dataclass(frozen=True, slots=True)
class LoadTerms:
    """How a cache, or one call of it, loads values; milliseconds."""

    lease_ms: int = DEFAULT_LEASE_MS
    stale_ms: int = 0
    stale_if_error_ms: int = 0
    negative_ms: int = 0
    early_refresh: float = 0.0

    @property
    def patience_s(self) -> float:
        """How many seconds a caller waits for other callers of its process."""
        return (self.lease_ms or DEFAULT_LEASE_MS) / 1000

    @property
    def keep_ms(self) -> int:
        """How long a copy is kept past the value's TTL."""
        return max(self.stale_ms, self.stale_if_error_ms)

    def for_lease(self, *, is_refresh: bool = False) -> LeaseTerms:
        """Return what the store has to know to grant a lease."""
        return LeaseTerms(
            self.lease_ms, self.stale_ms, self.stale_if_error_ms, is_refresh
        )


def load_terms(options: CacheOptions) -> LoadTerms:
    """Return how a cache loads values, from its options."""
    return LoadTerms(
        lease_ms=round(options.lease_ttl * 1000),
        stale_ms=round(options.stale_ttl * 1000),
        stale_if_error_ms=round(options.stale_if_error * 1000),
        negative_ms=round(options.negative_ttl * 1000),
        early_refresh=options.early_refresh,
    )


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a loader may return in the place of a bare value, to say more about it.

    ``ttl_ms`` overrides the TTL of the call, ``...`` keeps it.  With ``store=False``
    nothing is stored: the value is for the caller that ran the loader, and each caller
    that waited for it runs its own loader.
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


def unwrap_loaded(value: Any) -> Any:
    """Return the value that a loader returned, without what it said about it."""
    refuse_coroutine(value)
    return value.value if type(value) is Loaded else value


def refuse_coroutine(loaded: Any) -> None:
    """Close a coroutine that no caller will await, and raise TypeError."""
    if isinstance(loaded, CoroutineType):
        name = loaded.__qualname__
        loaded.close()
        raise TypeError(
            f"the loader returned a coroutine ({name}): a coroutine function needs "
            "the awaited method, aget_or_load or aget_or_set"
        )


class Result(NamedTuple):
    """The end of one run of a loader."""

    value: Any = None
    raw: bytes | None = None
    """The encoded value; None if it is ABSENT, must not be stored, or failed."""
    ttl_ms: int | None = None
    cost_ms: int = 0
    is_shared: bool = True
    error: BaseException | None = None


def loaded_raw(result: Result, terms: LoadTerms, header: bytes = b"") -> LoadedRaw:
    """Return what a store is to keep of a value that was loaded on these terms.

    ``header`` stands before the value's bytes.
    """
    if result.raw is None:
        raise AssertionError("absence is stored by store_absent")
    cost_ms = result.cost_ms if terms.early_refresh else 0
    return LoadedRaw(header + result.raw, result.ttl_ms, terms.keep_ms, cost_ms)


class Outcome(NamedTuple):
    """The end of a load.

    ``raw`` serves every caller.  Without it ``value`` is ABSENT, or only for the caller
    that loaded it (``is_shared`` False).  Otherwise ``value`` is the leader's own copy,
    MISSING if it has to be decoded.
    """

    raw: bytes | None
    value: Any
    is_shared: bool = True


UNSHARED: Final = Outcome(None, MISSING, is_shared=False)
"""Of a load that says nothing to other callers."""


class LoaderError(Exception):
    """Carries what the loader has raised: no failure of L2, whatever its type.

    Not ``is_shared`` if the loader has succeeded, and its value cannot be encoded: each
    caller may have a use for a value of its own.
    """

    def __init__(self, error: BaseException, *, is_shared: bool = True) -> None:
        super().__init__()
        self.error = error
        self.is_shared = is_shared


def is_interruption(error: BaseException) -> bool:
    """Return whether the error breaks a load off, as a cancellation does.

    Any other error makes the load fail.
    """
    if isinstance(error, LoaderError):
        error = error.error
    return not isinstance(error, Exception)


def outcome_of(result: Result) -> Outcome:
    """Return the outcome of a loader's run; raises LoaderError if it failed."""
    if result.error is not None:
        raise LoaderError(result.error, is_shared=result.is_shared)
    if result.value is ABSENT:
        return Outcome(None, ABSENT)
    if not result.is_shared or result.raw is None:
        return Outcome(None, result.value, is_shared=False)
    return Outcome(result.raw, MISSING)


def poll_s(attempt: int, *, has_bus: bool) -> float:
    """Return the seconds to wait for another's load before asking L2 again.

    With a bus a message ends the wait; asking again is for the case that it is lost.
    """
    if has_bus:
        return POLL_WITH_BUS_S
    return min(POLL_MAX_S, POLL_MIN_S * float(1 << min(attempt, 10)))
