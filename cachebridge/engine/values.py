"""Between values, their bytes in L2 and their entries in L1, for one serializer."""

from __future__ import annotations

import logging
import re
from functools import partial
from sys import getsizeof
from typing import TYPE_CHECKING, Any, Final

from cachebridge.codec.values import UndecodableError
from cachebridge.core.direct import Direct
from cachebridge.core.entry import (
    ABSENT,
    KIND,
    MISSING,
    Entry,
    Missing,
    make_entry,
)
from cachebridge.core.keys import named, shown_key
from cachebridge.core.notice import Notice
from cachebridge.core.ttl import FOREVER_MS
from cachebridge.errors import MissingKeyError
from cachebridge.l1.copies import (
    ATOMIC_TYPES,
    ENTRY_OVERHEAD_BYTES,
    CopyRules,
    is_flat,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cachebridge.codec.values import Serializer
    from cachebridge.core.fill import Fill
    from cachebridge.core.ttl import TtlRule
    from cachebridge.core.write import Write
    from cachebridge.l2.store import Ttl
    from cachebridge.stats import Counters
    from cachebridge.waiting.io import IO

MOST_APPENDED: Final = 1_000_000
"""Characters or bytes of a value that ``append`` makes; Memcached's items have room."""

is_token: Final = re.compile(rb"[0-9a-f]{32}").fullmatch
"""Tells the token of a lock of redis-py, which is no value."""

_log = logging.getLogger("cachebridge.codec")


class Values:
    """Encodes, decodes and admits values.  Thread safe."""

    def __init__(
        self,
        serializer: Serializer,
        *,
        ttl_rule: TtlRule,
        max_entry_bytes: int,
        counters: Counters,
        clock: Callable[[], float],
    ) -> None:
        self._serializer = serializer
        self._encode = serializer.encode
        self._clock = clock
        self._unreadable = Notice()
        self.copies = CopyRules(encode=serializer.encode, decode=self._decode_or_miss)
        self._by_reference = self.copies.by_reference
        self.ttl_rule = ttl_rule
        self._max_entry_bytes = max_entry_bytes
        self._counters = counters

    async def encode_for(self, io: IO, key: str, value: Any) -> bytes:
        """See ``encode``; in a thread, if the value must not block in a task."""
        try:
            return self._encode(value)
        except Exception as exc:  # noqa: BLE001 it is raised, mostly
            return await self._encode_again(io, key, value, exc)

    async def encode_each(self, io: IO, items: Mapping[str, Any]) -> dict[str, bytes]:
        """Return the bytes of all values; see ``encode_for``."""
        encode, encoded = self._encode, {}
        for key, value in items.items():
            try:
                encoded[key] = encode(value)
            except Exception as exc:  # noqa: BLE001 raised, mostly
                encoded[key] = await self._encode_again(io, key, value, exc)
        return encoded

    async def _encode_again(
        self, io: IO, key: str, value: Any, error: Exception
    ) -> bytes:
        named(error, _unstorable(key))
        again = partial(self.encode, key, value)
        raw: bytes = await io.retry_blocking(again, error)
        return raw

    def encode(self, key: str, value: Any) -> bytes:
        """Return the bytes of a value; raises what the serializer raises."""
        try:
            return self._encode(value)
        except Exception as exc:
            named(exc, _unstorable(key))
            raise

    def decode(self, key: str, raw: bytes) -> Any | Missing:
        """Return the value, or MISSING for bytes that this serializer cannot read.

        The counter ``undecodable`` counts them all; the log names the first.
        """
        try:
            return self._serializer.decode(raw)
        except UndecodableError as exc:
            self._counters.undecodable += 1
            if self._unreadable.begins(self._clock()):
                _log.warning(
                    "the value of %s cannot be read here (%s): a miss; "
                    "stats().undecodable counts such reads",
                    shown_key(key),
                    exc,
                )
            return MISSING

    def is_damaged(self, raw: bytes) -> bool:
        """Return whether no process can read these bytes, which this one cannot."""
        return not is_token(raw) and self._serializer.is_damaged(raw)

    def _decode_or_miss(self, raw: bytes) -> Any | Missing:
        """Decode L1's copy; what cannot be read is left to the read of L2."""
        try:
            return self._serializer.decode(raw)
        except UndecodableError:
            return MISSING

    def take_read(
        self, fill: Fill | Direct, key: str, value: Any, raw: bytes, ttl_ms: int
    ) -> None:
        """Let L1 have what L2 answered, if the rules allow."""
        expires = self._expiry(fill, ttl_ms)
        entry = self._entry(key, value, raw, expires, 0) if expires else None
        if entry is None:
            fill.refuse(key)
        else:
            fill.store(key, entry, lambda present: self.copies.is_same(present, raw))

    def take_loaded(
        self, fill: Fill | Direct, key: str, value: Any, raw: bytes, ttl_ms: int | None
    ) -> None:
        """Let L1 have what was loaded without L2, while there is an outage."""
        expires = self._expiry(fill, FOREVER_MS if ttl_ms is None else ttl_ms)
        value = self._detached(value, raw)
        entry = self._entry(key, value, raw, expires, 0) if expires else None
        if entry is None:
            fill.refuse(key)
        else:
            fill.keep_for_outage(
                key, entry, lambda present: self.copies.is_same(present, raw)
            )

    def take_absence(
        self, fill: Fill | Direct, key: str, ttl_ms: int, *, is_loaded: bool = False
    ) -> None:
        """Let L1 know that there is no such thing.

        If that was loaded without L2 (``is_loaded``), only while there is an outage.
        """
        if expires := self._expiry(fill, ttl_ms):
            take = fill.keep_for_outage if is_loaded else fill.store
            take(key, self._negative_entry(key, expires), _is_negative)
        else:
            fill.refuse(key)

    def stage(
        self,
        write: Write | Direct,
        items: Mapping[str, Any],
        encoded: Mapping[str, bytes],
        ttl_ms: Ttl,
    ) -> None:
        """Offer to L1 what is being written: what L2 would give back."""
        if isinstance(write, Direct):
            return
        if isinstance(ttl_ms, list):
            expiries = [self._expiry(write, each) for each in ttl_ms]
        else:
            expiries = [self._expiry(write, ttl_ms)] * len(write.keys)
        detached = ATOMIC_TYPES if self._serializer.exact else ()
        entry_of, offer, write_id = self._entry, write.stage, write.id
        for key, expires in zip(write.keys, expiries, strict=True):
            if not expires:
                continue
            raw, value = encoded[key], items[key]
            if type(value) not in detached:
                value = self._detached(value, raw)
            entry = entry_of(key, value, raw, expires, write_id)
            if entry is not None:
                offer(key, entry)

    def queued_entry(
        self, key: str, value: Any, raw: bytes, ttl_ms: int | None
    ) -> Entry | None:
        """Return what L1 may serve of a value that is sent later, None for nothing."""
        lifetime_s = self.ttl_rule.l1_lifetime_s(ttl_ms)
        if lifetime_s <= 0:
            return None
        if not self._serializer.exact or type(value) not in ATOMIC_TYPES:
            value = self._detached(value, raw)
        return self._entry(key, value, raw, self._clock() + lifetime_s, 0)

    def stage_absence(self, write: Write | Direct, key: str, ttl_ms: int) -> None:
        """Offer to L1 that there is no such thing."""
        expires = self._expiry(write, ttl_ms)
        if expires and not isinstance(write, Direct):
            write.stage(key, self._negative_entry(key, expires, write.id))

    def _detached(self, value: Any, raw: bytes) -> Any:
        """Return what L2 would give back, not the caller's own object.

        That one may have changed since it was encoded.
        """
        if not self._serializer.exact or is_flat(value):
            return self._serializer.decode(raw)
        return value

    @staticmethod
    def _negative_entry(key: str, expires: float, write_id: int = 0) -> Entry:
        size = 2 * getsizeof(key) + ENTRY_OVERHEAD_BYTES
        return make_entry(expires, ABSENT, None, size, write_id)

    def _expiry(self, context: Fill | Write | Direct, ttl_ms: int | None) -> float:
        """Return when an entry must leave L1; 0.0 if it must not even enter."""
        lifetime_s = self.ttl_rule.l1_lifetime_s(ttl_ms)
        return context.sent_at + lifetime_s if lifetime_s > 0 else 0.0

    def _entry(
        self, key: str, value: Any, raw: bytes, expires: float, write_id: int
    ) -> Entry | None:
        """Make an entry, None for a value too large for L1."""
        if type(value) in ATOMIC_TYPES:  # what ``form_of`` does, without the call
            kind, payload, size = self._by_reference, value, getsizeof(value)
        else:
            kind, payload, size = self.copies.form_of(value, raw)
        size += 2 * getsizeof(key)  # itself and the caller's form of it
        if size > self._max_entry_bytes:
            self._counters.oversized += 1
            return None
        return make_entry(expires, kind, payload, size + ENTRY_OVERHEAD_BYTES, write_id)


def _unstorable(key: str) -> str:
    return f"the value for {shown_key(key)} cannot be stored"


def _is_negative(entry: Entry) -> bool:
    return entry[KIND] is ABSENT


def missing(key: str) -> MissingKeyError:
    """Return the exception for a key that does not exist."""
    return MissingKeyError(f"Key {shown_key(key)} not found")


def total(key: str, value: Any, delta: Any) -> Any:
    """Return the sum; TypeError, with the key, unless both are numbers."""
    try:
        return value + delta
    except TypeError as exc:
        wrong = "delta for" if isinstance(value, (int, float)) else "value of"
        raise named(exc, f"the {wrong} {shown_key(key)} is no number") from None


def appended(key: str, value: Any, data: str | bytes) -> str | bytes:
    """Return the value, MISSING for none, with ``data`` at its end.

    Raises TypeError, with the key, unless both are str or both are bytes, and
    ValueError if the whole would be too long.
    """
    kind: type[str | bytes] = str if isinstance(data, str) else bytes
    if not isinstance(data, kind):
        raise TypeError(f"data must be a str or bytes, not {type(data).__name__}")
    if value is MISSING:
        value = kind()
    if not isinstance(value, kind):
        raise TypeError(
            f"the value of {shown_key(key)} is a {type(value).__name__}: a "
            f"{kind.__name__} can be appended to a {kind.__name__} only"
        )
    length = len(value) + len(data)
    if length > MOST_APPENDED:
        raise ValueError(
            f"the value of {shown_key(key)} would have a length of {length:,}: append "
            f"makes none above {MOST_APPENDED:,}"
        )
    whole: str | bytes = kind().join((value, data))  # type: ignore[arg-type]
    return whole
