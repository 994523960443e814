"""Between values, their bytes in L2 and their entries in L1, for one serializer.

What the serializer makes is the *content* of the bytes in L2, ``raw``.  Both are the
same unless the cache compresses or seals its values.  L1 has the content.
"""

from __future__ import annotations

import logging
import re
from functools import partial
from sys import getsizeof
from typing import TYPE_CHECKING, Any, Final

from cachebridge.codec.decoding import UndecodableError
from cachebridge.codec.seals import SealError
from cachebridge.codec.values import SERIALIZERS
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
from cachebridge.core.lease import PLAIN_MARK
from cachebridge.core.notice import Notice
from cachebridge.core.ttl import FOREVER_MS, TtlRule
from cachebridge.events import event
from cachebridge.l1.copies import (
    ATOMIC_TYPES,
    ENTRY_OVERHEAD_BYTES,
    CopyRules,
    is_flat,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cachebridge.codec.values import Serializer
    from cachebridge.codec.wrapping import Wrapping
    from cachebridge.config import EngineOptions
    from cachebridge.core.fill import Fill
    from cachebridge.core.write import Write
    from cachebridge.l2.store import Ttl
    from cachebridge.stats import Counters
    from cachebridge.waiting.io import IO

is_token: Final = re.compile(rb"[0-9a-f]{32}").fullmatch
"""Tells the token of a lock of redis-py, which is no value."""

_log = logging.getLogger("cachebridge.codec")


class Values:
    """Encodes, decodes and admits values.  Thread safe."""

    def __init__(
        self,
        serializer: Serializer,
        *,
        wrapping: Wrapping | None = None,
        ttl_rule: TtlRule,
        max_entry_bytes: int,
        counters: Counters,
        clock: Callable[[], float],
    ) -> None:
        self._wrapping = wrapping
        self._serializer = serializer
        self._encode = serializer.encode
        self._clock = clock
        self._unreadable = Notice()
        self.copies = CopyRules(encode=serializer.encode, decode=self._decode_or_miss)
        self._by_reference = self.copies.by_reference
        self.ttl_rule = ttl_rule
        self._max_entry_bytes = max_entry_bytes
        self._counters = counters

    @property
    def are_sealed(self) -> bool:
        """Whether L2 cannot count with integers, since they are signed or encrypted."""
        return self._wrapping is not None and self._wrapping.seal is not None

    async def encode_for(self, io: IO, key: str, value: Any) -> bytes:
        """See ``encode``; in a thread, if the value must not block in a task."""
        try:
            content = self._encode(value)
        except Exception as exc:  # noqa: BLE001 it is raised, mostly
            content = await self._encode_again(io, key, value, exc)
        return content if self._wrapping is None else self._wrapping.wrap(key, content)

    async def encode_each(self, io: IO, items: Mapping[str, Any]) -> dict[str, bytes]:
        """Return the bytes of all values; see ``encode_for``."""
        encode, encoded = self._encode, {}
        for key, value in items.items():
            try:
                encoded[key] = encode(value)
            except Exception as exc:  # noqa: BLE001 raised, mostly
                encoded[key] = await self._encode_again(io, key, value, exc)
        if self._wrapping is None:
            return encoded
        wrap = self._wrapping.wrap
        return {key: wrap(key, content) for key, content in encoded.items()}

    async def _encode_again(
        self, io: IO, key: str, value: Any, error: Exception
    ) -> bytes:
        named(error, _unstorable(key))
        again = partial(self.serialize, key, value)
        content: bytes = await io.retry_blocking(again, error)
        return content

    def serialize(self, key: str, value: Any) -> bytes:
        """Return the content for a value; raises what the serializer raises."""
        try:
            return self._encode(value)
        except Exception as exc:
            named(exc, _unstorable(key))
            raise

    def decode(self, key: str, raw: bytes) -> Any | Missing:
        """Return the value, or MISSING for bytes that cannot be read here."""
        return self.read(key, raw)[0]

    def read(self, key: str, raw: bytes) -> tuple[Any | Missing, bytes]:
        """Return the value of bytes of L2, and their content.

        The value is MISSING for bytes that this serializer cannot read, and for those
        without the seal that the cache demands, of which nothing is decoded.  The
        counters ``undecodable`` and ``unverified`` count them; the log names the first.
        """
        try:
            content = raw if self._wrapping is None else self._open(key, raw)
            return self._serializer.decode(content), content
        except SealError as exc:
            self._not_ours(key, "value", exc)
        except UndecodableError as exc:
            self._counters.undecodable += 1
            if self._unreadable.begins(self._clock()):
                _log.warning(
                    "the value of %s cannot be read here (%s): a miss; "
                    "stats().undecodable counts such reads",
                    shown_key(key),
                    exc,
                    extra=event("value.unreadable", key=shown_key(key)),
                )
        return MISSING, raw

    def _open(self, key: str, raw: bytes) -> bytes:
        if self._wrapping is None:
            return raw
        content = self._wrapping.open(key, raw)
        if self._wrapping.passes_unsigned(raw):
            self._counters.unsigned += 1
        return content

    def _not_ours(self, key: str, what: str, error: SealError) -> None:
        self._counters.unverified += 1
        if self._unreadable.begins(self._clock(), f"{what} {error}"):
            _log.warning(
                "the %s of %s is not ours (%s): a miss; stats().unverified counts such "
                "reads",
                what,
                shown_key(key),
                error,
                extra=event("value.not_ours", key=shown_key(key)),
            )

    def mark_of_absence(self, key: str) -> bytes:
        """Return what L2 keeps to say that there is no such thing."""
        if self._wrapping is None or self._wrapping.absences is None:
            return PLAIN_MARK
        return self._wrapping.absences.close(key, b"")

    def is_our_absence(self, key: str, mark: bytes) -> bool:
        """Return whether the mark has the seal that the cache demands; else count it.

        A cache without keys believes any mark.
        """
        if self._wrapping is None or self._wrapping.absences is None:
            return True
        try:
            content = self._wrapping.absences.open(key, mark)
        except SealError as exc:
            self._not_ours(key, "mark of absence", exc)
            return False
        self._counters.unsigned += bool(content)
        return True

    def content(self, key: str, raw: bytes) -> bytes:
        """Return the content of bytes that this process has made or read."""
        return raw if self._wrapping is None else self._wrapping.content(key, raw)

    def is_damaged(self, key: str, raw: bytes) -> bool:
        """Return whether no process can read these bytes, which this one cannot."""
        if is_token(raw):
            return False
        content = raw
        if self._wrapping is not None:
            try:
                content = self._wrapping.open(key, raw)
            except SealError as exc:
                return exc.is_forged
            except UndecodableError as exc:  # it cannot be decompressed
                if isinstance(exc.__cause__, OverflowError):
                    return False  # a process with a higher bound reads it
                content = self._wrapping.packed(key, raw)
        return self._serializer.is_damaged(content)

    def _decode_or_miss(self, content: bytes) -> Any | Missing:
        """Decode L1's copy; what cannot be read is left to the read of L2."""
        try:
            return self._serializer.decode(content)
        except UndecodableError:
            return MISSING

    def take_read(
        self, fill: Fill | Direct, key: str, value: Any, content: bytes, ttl_ms: int
    ) -> None:
        """Let L1 have what L2 answered, if the rules allow."""
        self.take_until(fill, key, value, content, self._expiry(fill, ttl_ms))

    def take_until(
        self, fill: Fill | Direct, key: str, value: Any, content: bytes, expires: float
    ) -> None:
        """Let L1 have a value up to some time, or L1_TTL; 0.0 is not at all."""
        expires = min(expires, fill.sent_at + self.ttl_rule.l1_ttl_s)
        entry = self._entry(key, value, content, expires, 0) if expires else None
        if entry is None:
            fill.refuse(key)
        else:
            fill.store(key, entry, lambda old: self.copies.is_same(old, content))

    def take_loaded(
        self, fill: Fill | Direct, key: str, value: Any, raw: bytes, ttl_ms: int | None
    ) -> None:
        """Let L1 have what was loaded without L2, while there is an outage."""
        expires = self._expiry(fill, FOREVER_MS if ttl_ms is None else ttl_ms)
        content = self.content(key, raw)
        value = self._detached(value, content)
        entry = self._entry(key, value, content, expires, 0) if expires else None
        if entry is None:
            fill.refuse(key)
        else:
            fill.keep_for_outage(
                key, entry, lambda old: self.copies.is_same(old, content)
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
            content, value = encoded[key], items[key]
            if type(value) not in detached:
                content = self.content(key, content)
                value = self._detached(value, content)
            entry = entry_of(key, value, content, expires, write_id)
            if entry is not None:
                offer(key, entry)

    def queued_entry(
        self, key: str, value: Any, raw: bytes, ttl_ms: int | None
    ) -> Entry | None:
        """Return what L1 may serve of a value that is sent later, None for nothing."""
        lifetime_s = self.ttl_rule.l1_lifetime_s(ttl_ms)
        if lifetime_s <= 0:
            return None
        content = raw
        if not self._serializer.exact or type(value) not in ATOMIC_TYPES:
            content = self.content(key, raw)
            value = self._detached(value, content)
        return self._entry(key, value, content, self._clock() + lifetime_s, 0)

    def stage_absence(self, write: Write | Direct, key: str, ttl_ms: int) -> None:
        """Offer to L1 that there is no such thing."""
        expires = self._expiry(write, ttl_ms)
        if expires and not isinstance(write, Direct):
            write.stage(key, self._negative_entry(key, expires, write.id))

    def _detached(self, value: Any, content: bytes) -> Any:
        """Return what L2 would give back, not the caller's own object.

        That one may have changed since it was encoded.
        """
        if not self._serializer.exact or is_flat(value):
            return self._serializer.decode(content)
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
        self, key: str, value: Any, content: bytes, expires: float, write_id: int
    ) -> Entry | None:
        """Make an entry, None for a value too large for L1."""
        if type(value) in ATOMIC_TYPES:  # what ``form_of`` does, without the call
            kind, payload, size = self._by_reference, value, getsizeof(value)
        else:
            kind, payload, size = self.copies.form_of(value, content)
        size += 2 * getsizeof(key)  # itself and the caller's form of it
        if size > self._max_entry_bytes:
            self._counters.oversized += 1
            self._counters.oversized_lately.append(hash(key))
            return None
        return make_entry(expires, kind, payload, size + ENTRY_OVERHEAD_BYTES, write_id)


class ValuesOfCaches:
    """The values of an engine's caches: one object per serializer and wrapping.

    Thread safe.
    """

    def __init__(
        self, options: EngineOptions, counters: Counters, clock: Callable[[], float]
    ) -> None:
        self._options = options
        self._counters = counters
        self._clock = clock
        self.made: dict[tuple[str | Serializer, Wrapping | None], Values] = {}

    def of(self, serializer: str | Serializer, wrapping: Wrapping | None) -> Values:
        """Return the values of this kind."""
        values = self.made.get((serializer, wrapping))
        if values is None:
            values = Values(
                SERIALIZERS[serializer] if isinstance(serializer, str) else serializer,
                wrapping=wrapping,
                ttl_rule=_ttl_rule(self._options),
                max_entry_bytes=self._options.l1_max_entry_bytes,
                counters=self._counters,
                clock=self._clock,
            )
            values = self.made.setdefault((serializer, wrapping), values)
        return values

    def limit_ttl(self, options: EngineOptions) -> None:
        """Let entries that are made from now on live as these options say."""
        self._options = options
        for values in tuple(self.made.values()):
            values.ttl_rule = _ttl_rule(options)


def _ttl_rule(options: EngineOptions) -> TtlRule:
    return TtlRule(options.l1_ttl, options.l1_ttl_ratio)


def _unstorable(key: str) -> str:
    return f"the value for {shown_key(key)} cannot be stored"


def _is_negative(entry: Entry) -> bool:
    return entry[KIND] is ABSENT
