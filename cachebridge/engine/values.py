"""Between values, their bytes in L2 and their entries in L1, for one serializer."""

from __future__ import annotations

import logging
from sys import getsizeof
from typing import TYPE_CHECKING, Any

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
from cachebridge.core.ttl import FOREVER_MS
from cachebridge.l1.copies import ENTRY_OVERHEAD_BYTES, CopyRules, is_flat

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cachebridge.codec.values import Serializer
    from cachebridge.core.fill import Fill
    from cachebridge.core.ttl import TtlRule
    from cachebridge.core.write import Write
    from cachebridge.l2.base import Ttl
    from cachebridge.stats import Counters

_log = logging.getLogger("cachebridge.codec")
SHOWN_KEY = 80


class Values:
    """Encodes, decodes and admits values.  Thread safe."""

    def __init__(
        self,
        serializer: Serializer,
        *,
        ttl_rule: TtlRule,
        max_entry_bytes: int,
        counters: Counters,
    ) -> None:
        self._serializer = serializer
        self.encode: Callable[[Any], bytes] = serializer.encode
        self.copies = CopyRules(encode=serializer.encode, decode=self._decode_or_miss)
        self._ttl_rule = ttl_rule
        self._max_entry_bytes = max_entry_bytes
        self._counters = counters

    def decode(self, key: str, raw: bytes) -> Any | Missing:
        """Return the value, or MISSING for bytes that no codec can read."""
        try:
            return self._serializer.decode(raw)
        except UndecodableError as exc:
            self._counters.undecodable += 1
            _log.warning(
                "the value of %.*s cannot be read (%s): deleted", SHOWN_KEY, key, exc
            )
            return MISSING

    def _decode_or_miss(self, raw: bytes) -> Any | Missing:
        """Decode L1's copy; what cannot be read is left to the read of L2 to delete."""
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

    def take_loaded_absence(self, fill: Fill | Direct, key: str, ttl_ms: int) -> None:
        """Let L1 know what was learned without L2: that there is no such thing."""
        if expires := self._expiry(fill, ttl_ms):
            entry = self._negative_entry(key, expires)
            fill.keep_for_outage(key, entry, _is_negative)
        else:
            fill.refuse(key)

    def take_absence(self, fill: Fill | Direct, key: str, ttl_ms: int) -> None:
        """Let L1 know that there is no such thing."""
        expires = self._expiry(fill, ttl_ms)
        if expires:
            fill.store(key, self._negative_entry(key, expires), _is_negative)
        else:
            fill.refuse(key)

    def offer(
        self,
        write: Write | Direct,
        items: Mapping[str, Any],
        encoded: Mapping[str, bytes],
        ttl_ms: Ttl,
    ) -> None:
        """Offer to L1 what is being written: what L2 would give back."""
        if isinstance(write, Direct):
            return
        ttls = ttl_ms if isinstance(ttl_ms, list) else [ttl_ms] * len(write.keys)
        for key, ttl in zip(write.keys, ttls, strict=True):
            expires = self._expiry(write, ttl)
            if not expires:
                continue
            raw = encoded[key]
            value = self._detached(items[key], raw)
            entry = self._entry(key, value, raw, expires, write.id)
            if entry is not None:
                write.store(key, entry)

    def offer_absence(self, write: Write | Direct, key: str, ttl_ms: int) -> None:
        """Offer to L1 that there is no such thing."""
        expires = self._expiry(write, ttl_ms)
        if expires and not isinstance(write, Direct):
            write.store(key, self._negative_entry(key, expires, write.id))

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
        lifetime_s = self._ttl_rule.l1_lifetime_s(ttl_ms)
        return context.sent_at + lifetime_s if lifetime_s > 0 else 0.0

    def _entry(
        self, key: str, value: Any, raw: bytes, expires: float, write_id: int
    ) -> Entry | None:
        """Make an entry, None for a value too large for L1."""
        kind, payload, size = self.copies.form_of(value, raw)
        size += 2 * getsizeof(key)  # itself and the caller's form of it
        if size > self._max_entry_bytes:
            self._counters.oversized += 1
            return None
        return make_entry(expires, kind, payload, size + ENTRY_OVERHEAD_BYTES, write_id)


def _is_negative(entry: Entry) -> bool:
    return entry[KIND] is ABSENT
