"""How long a value may stay in L1, given how long it stays in L2.

TTLs of L2 are milliseconds, as Redis counts them; ``None`` means without expiry.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from math import isnan, log
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

GONE_MS = -2
"""What Redis's PTTL answers for a key that does not exist (any more)."""
FOREVER_MS = -1
"""What Redis's PTTL answers for a key without expiry."""
SHOWN: Final = 80
"""Characters of a wrong value in an error."""
LONGEST_S = 2.0**52
"""A longer TTL is taken for none: it is the most that Redis can add to its clock."""


class Default(Enum):
    """Type of ``DEFAULT``."""

    DEFAULT = "DEFAULT"


DEFAULT: Final = Default.DEFAULT
"""As a TTL: the cache's own TIMEOUT."""

Ttl: TypeAlias = float | Default | None


@dataclass(frozen=True, slots=True)
class TtlRule:
    """The L1 lifetime: at most ``l1_ttl_s``, at most ``ratio`` of what is left in L2.

    The ratio is not needed for coherence: it bounds what a foreign writer or a missed
    expiry can do, at the price of about log2(ttl) extra reads per key near expiry.
    """

    l1_ttl_s: float
    ratio: float

    def l1_lifetime_s(self, l2_ttl_ms: int | None) -> float:
        """Return the seconds a value may live in L1; 0.0 means do not store it."""
        if l2_ttl_ms is None or l2_ttl_ms == FOREVER_MS:
            return self.l1_ttl_s
        if l2_ttl_ms <= 0:
            return 0.0
        return min(self.l1_ttl_s, self.ratio * l2_ttl_ms / 1000)


def to_milliseconds(ttl_s: float | None) -> int | None:
    """Convert seconds to Redis milliseconds: at least 1 if positive, 0 if it is over.

    More than ``LONGEST_S`` is without expiry, infinity included.  Raises TypeError for
    what is not a number, and ValueError for NaN.
    """
    if ttl_s is None:
        return None
    if type(ttl_s) is not int:
        _require_number(ttl_s)
    if ttl_s >= LONGEST_S:
        return None
    if ttl_s <= 0:
        return 0
    return max(1, int(ttl_s * 1000))


def _require_number(ttl_s: Any) -> None:
    """Raise TypeError or ValueError unless the TTL is a number of seconds."""
    if not hasattr(ttl_s, "__float__"):
        hint = ""
        if isinstance(ttl_s, timedelta):
            hint = "; a timedelta has total_seconds()"
        raise TypeError(
            "a TTL (timeout) must be a number of seconds or None, not "
            f"{type(ttl_s).__name__} {repr(ttl_s)[:SHOWN]}{hint}"
        )
    try:
        is_nan = isnan(ttl_s)
    except OverflowError:  # a fraction that is larger than any float
        return
    except ValueError:  # a signaling NaN
        is_nan = True
    if is_nan:
        raise ValueError("a TTL (timeout) must be a number of seconds or None, not NaN")


def jittered(ttl_ms: int | None, share: float, draw: Callable[[], float]) -> int | None:
    """Shorten a TTL by a random part of up to ``share``, so that not all end at once.

    ``draw`` returns numbers in [0, 1).
    """
    if ttl_ms is None or not share or ttl_ms <= 0:
        return ttl_ms
    return max(1, int(ttl_ms * (1 - share * draw())))


def refreshes_early(
    left_ms: int, cost_ms: int, factor: float, draw: Callable[[], float]
) -> bool:
    """Return whether to load anew although ``left_ms`` of the TTL are left (XFetch).

    The dearer the load and the nearer the end, the likelier; with a ``factor`` of 1
    callers on average agree on one refresh just before the end.

    Source: Vattani, Chierichetti, Lowenstein, Optimal Probabilistic Cache Stampede
    Prevention, VLDB 2015.
    """
    if not factor or cost_ms <= 0 or left_ms < 0:
        return False
    return -cost_ms * factor * log(1 - draw()) >= left_ms
