"""The load records of a table: what ``load_scripts`` does inside of Redis.

Every caller holds the lock of the server that they belong to.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from cachebridge.core.lease import RECORD_MS, LeaseGet, LeaseState

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from cachebridge.core.lease import LeaseTerms, LoadedRaw

SWEEP: Final = 4
_NO_LEASE: Final = float("-inf")


@dataclass(slots=True)
class LoadRecord:
    """The state of one key's load; times are readings of the clock, in seconds."""

    until: float
    """When the record itself is over."""
    generation: bytes = b""
    owner: bytes = b""
    leased_until: float = _NO_LEASE
    has_failed: bool = False
    is_open: bool = False
    of: bytes | None = None
    """The value that the record belongs to; None for an absent key."""
    ends: float | None = None
    """When the TTL of that value is over."""
    copy: bytes | None = None
    keep_s: float = 0.0
    cost_ms: int = 0
    absence: bytes | None = None
    """The mark that there is no such thing."""

    def belongs(self, raw: bytes | None, now: float) -> bool:
        """Return whether the key, now ``raw``, is as it was, or has expired."""
        if raw is None:
            return self.of is None or (self.ends is not None and now >= self.ends)
        return self.of == raw


class LoadRecords:
    """The records of one server, by key."""

    def __init__(
        self, clock: Callable[[], float], records: MutableMapping[str, LoadRecord]
    ) -> None:
        """``records`` may keep copies: what was changed is always put back."""
        self._clock = clock
        self._records = records

    def clear(self) -> None:
        """Forget everything."""
        self._records.clear()

    def keys(self) -> list[str]:
        """Return the keys that have a record."""
        return list(self._records)

    def forget(self, key: str) -> None:
        """Delete the record of a written key: running loads store nothing."""
        self._records.pop(key, None)

    def holds(self, key: str, raw: bytes | None, generation: bytes) -> bool:
        """Return whether no write has come since the generation began."""
        record = self._find_of(key, raw)
        return record is not None and record.generation == generation

    def follow(self, key: str, raw: bytes, deadline: float | None) -> None:
        """Let the record follow its value, which gets a new TTL."""
        record = self._find_of(key, raw)
        if record is not None:
            record.ends = deadline
            if deadline is not None and not record.generation:
                record.until = deadline + record.keep_s
            self._records[key] = record

    def is_owner(self, key: str, token: bytes) -> bool:
        """Return whether the lease was last given to this token."""
        record = self._find(key)
        return record is not None and record.owner == token

    def get_or_lease(
        self, key: str, raw: bytes | None, ttl_ms: int, token: bytes, terms: LeaseTerms
    ) -> LeaseGet:
        """Return what can be served; if there is nothing, take the lease."""
        now = self._clock()
        record = self._find_of(key, raw)
        cost_ms = record.cost_ms if record and raw is not None else 0
        if raw is not None and not terms.is_refresh:
            return LeaseGet(LeaseState.HIT, raw, ttl_ms, cost_ms, token=token)
        if record is not None and raw is None:
            served = self._serve(record, token, terms, now)
            if served is not None:
                return served
        if (
            record is not None
            and record.owner != token
            and not (record.is_open or terms.joins)
        ):
            wait_ms = int((record.leased_until - now) * 1000) if record.owner else 0
            if wait_ms > 0:
                copy = self._copy_of(record, terms.stale_if_error_ms, now)
                shown = copy if record.has_failed and raw is None else None
                return LeaseGet(
                    LeaseState.BUSY, shown, 0, cost_ms, wait_ms, token=token
                )
        if record is None:
            record = LoadRecord(0.0)
            record.of = raw
            record.ends = now + ttl_ms / 1000 if ttl_ms >= 0 else None
        record.generation = record.generation or token
        record.owner = token
        record.leased_until = now + terms.lease_ms / 1000
        record.has_failed = False
        if not record.is_open:
            record.until = max(record.until, now + RECORD_MS / 1000)
        self._records[key] = record
        self._sweep()
        return LeaseGet(
            LeaseState.LEASE, raw, ttl_ms, cost_ms, 0, record.generation, token
        )

    def _serve(
        self, record: LoadRecord, token: bytes, terms: LeaseTerms, now: float
    ) -> LeaseGet | None:
        if record.absence is not None:
            left_ms = max(1, int((record.until - now) * 1000))
            return LeaseGet(
                LeaseState.ABSENT, None, left_ms, token=token, mark=record.absence
            )
        copy = self._copy_of(record, terms.stale_ms, now)
        if copy is None or terms.is_refresh:
            return None
        return LeaseGet(LeaseState.STALE, copy, 0, token=token)

    @staticmethod
    def _copy_of(record: LoadRecord, max_age_ms: int, now: float) -> bytes | None:
        """Return the copy if it is no older than ``max_age_ms`` past its TTL."""
        age_s = now - (now if record.ends is None else record.ends)
        return record.copy if age_s * 1000 <= max_age_ms else None

    def remember(self, key: str, loaded: LoadedRaw, deadline: float | None) -> None:
        """Keep the cost of a stored value, and a copy for the time after its TTL."""
        raw, _, keep_ms, cost_ms = loaded
        if deadline is None or not (keep_ms or cost_ms):
            return
        record = LoadRecord(deadline + keep_ms / 1000, cost_ms=cost_ms)
        record.of, record.ends = raw, deadline
        if keep_ms:
            record.copy, record.keep_s = raw, keep_ms / 1000
        self._records[key] = record

    def remember_absence(self, key: str, ttl_ms: int, mark: bytes) -> None:
        """Keep the mark that there is no such thing."""
        if ttl_ms:
            until = self._clock() + ttl_ms / 1000
            self._records[key] = LoadRecord(until, absence=mark)

    def release(self, key: str, raw: bytes | None, keep_ms: int) -> bytes | None:
        """End the lease, or leave it as failed and return the copy to serve."""
        record = self._find_of(key, raw)
        if record is None:
            return None
        copy = self._copy_of(record, keep_ms, self._clock()) if keep_ms else None
        if copy is not None:
            record.has_failed = True
        elif record.copy is None and not record.cost_ms:
            del self._records[key]
            return None
        else:
            record.owner, record.leased_until = b"", _NO_LEASE
        self._records[key] = record
        return copy

    def release_unshared(self, key: str, lease_ms: int) -> None:
        """Let every caller load for a while."""
        record = self._records[key]
        record.is_open = True
        if record.copy is None:
            record.until = self._clock() + lease_ms / 1000
        self._records[key] = record

    def _find(self, key: str) -> LoadRecord | None:
        record = self._records.get(key)
        if record is not None and record.until <= self._clock():
            del self._records[key]
            return None
        return record

    def _find_of(self, key: str, raw: bytes | None) -> LoadRecord | None:
        """Return the record if it belongs to the key as it is now, else delete it."""
        record = self._find(key)
        if record is not None and not record.belongs(raw, self._clock()):
            del self._records[key]
            return None
        return record

    def _sweep(self) -> None:
        """Delete a few of the oldest records if they are over."""
        for key in list(islice(self._records, SWEEP)):
            self._find(key)
