"""The lease: the short right in L2 to load one key, and what L2 knows of a load.

Beside a key that is being loaded, L2 keeps its *load record*: which caller may load it
and until when, a stale copy of the value for the time after its TTL, or the mark that
there is no such thing.  The record belongs to the value that it was made for: it
follows a ``touch``, every other own write of the key deletes it, and where another
program has changed the key it means nothing.  So a load that
began before the write finds its *generation* gone and can store nothing: neither over a
newer value, nor in the place of a deleted one.

Source of the idea: Nishtala et al., Scaling Memcache at Facebook, NSDI 2013, "leases".
Unlike there, a lease that has run out is no reason to refuse the value: the caller that
takes it over joins the same generation.  Otherwise loads longer than the lease would
take turns for ever.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final, NamedTuple

from cachebridge.core.entry import MISSING
from cachebridge.core.ttl import GONE_MS

PLAIN_MARK: Final = b"1"
"""The mark of absence of a cache that seals nothing."""

RECORD_MS: Final = 3_600_000
"""How long a load may take whose value is still accepted."""


class LeaseState(Enum):
    """What a lease-get has found, in the words of the store's script."""

    HIT = b"hit"
    """A value within its TTL."""
    STALE = b"stale"
    """A copy past its TTL, young enough to serve."""
    ABSENT = b"absent"
    """The mark that there is no such thing."""
    LEASE = b"lease"
    """Nothing to serve: this caller is to load it."""
    BUSY = b"busy"
    """Nothing to serve: another caller is loading it."""


class LeaseTerms(NamedTuple):
    """What a lease-get may return, and whether it is for a refresh; milliseconds."""

    lease_ms: int
    stale_ms: int = 0
    """The greatest age past its TTL at which a copy is served at once."""
    stale_if_error_ms: int = 0
    """The same for the time after a load has failed."""
    is_refresh: bool = False
    """Take the lease although there is a value, or a copy to serve."""
    joins: bool = False
    """Load beside the owner of the lease: it may be waiting for this caller."""


class LeaseGet(NamedTuple):
    """The answer of a lease-get."""

    state: LeaseState
    raw: bytes | None = None
    """The value of a HIT (also of a refresh), the copy of a STALE; of a BUSY the copy
    to serve after the other's load has failed, if any."""
    ttl_ms: int = GONE_MS
    """The value's PTTL, or what is left of an ABSENT mark."""
    cost_ms: int = 0
    """How long the value's load took, if known."""
    wait_ms: int = 0
    """How long the other's lease lasts at most."""
    generation: bytes = b""
    """What ``store_loaded`` has to present; empty without a record."""
    token: bytes = b""
    """What ``release`` has to present: the owner of this lease."""
    mark: bytes = PLAIN_MARK
    """The bytes of an ABSENT mark, which the cache may have sealed."""
    value: Any = MISSING
    """The decoded value, where the engine has needed it already."""


class LoadedRaw(NamedTuple):
    """A loaded value as a store takes it; milliseconds."""

    raw: bytes
    ttl_ms: int | None
    """None is without expiry."""
    keep_ms: int = 0
    """How long a copy serves past the TTL."""
    cost_ms: int = 0
    """How long the load took; 0 if no reader will want to know."""


class LoadReply(NamedTuple):
    """The answer to a loaded value: stored, or what was there instead."""

    stored: bool
    raw: bytes | None = None
    ttl_ms: int = GONE_MS
