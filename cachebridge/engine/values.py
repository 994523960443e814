"""Between values, their bytes in L2 and their entries in L1, for one serializer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from cachebridge.codec.values import UndecodableError
from cachebridge.core.entry import MISSING, Entry, Missing, make_entry
from cachebridge.core.ttl import GONE_MS
from cachebridge.l1.copies import ENTRY_OVERHEAD_BYTES, CopyRules
from cachebridge.l1.store import key_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.codec.values import Serializer
    from cachebridge.core.ttl import TtlRule
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
        self.copies = CopyRules(encode=serializer.encode, decode=serializer.decode)
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

    def entry_of_read(
        self, key: str, value: Any, raw: bytes, ttl_ms: int, sent_at: float
    ) -> Entry | None:
        """Make the entry for what L2 answered, None if L1 must not hold it."""
        if ttl_ms == GONE_MS:
            return None
        return self._entry(key, value, raw, ttl_ms, sent_at, 0)

    def entry_of_write(
        self,
        key: str,
        value: Any,
        raw: bytes,
        ttl_ms: int | None,
        sent_at: float,
        write_id: int,
    ) -> Entry | None:
        """Make the entry for what was written: what L2 would give back."""
        if not self._serializer.exact:
            value = self._serializer.decode(raw)
        return self._entry(key, value, raw, ttl_ms, sent_at, write_id)

    def _entry(
        self,
        key: str,
        value: Any,
        raw: bytes,
        ttl_ms: int | None,
        sent_at: float,
        write_id: int,
    ) -> Entry | None:
        lifetime_s = self._ttl_rule.l1_lifetime_s(ttl_ms)
        if lifetime_s <= 0:
            return None
        if len(raw) > self._max_entry_bytes:
            self._counters.oversized += 1
            return None
        form = self.copies.form_of(value, raw)
        size = form.size_bytes + key_bytes(key)
        if size > self._max_entry_bytes:
            self._counters.oversized += 1
            return None
        return make_entry(
            sent_at + lifetime_s,
            form.kind,
            form.payload,
            size + ENTRY_OVERHEAD_BYTES,
            write_id,
        )
