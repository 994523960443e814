"""The stamps of tags: read, made, and compared with those of a tagged value.

A stamp is an ordinary small key of L2, with eight random bytes.  A tagged value has the
stamps of its tags in its header (``codec/envelope.py``) from before it was computed; it
is alive as long as the same stamps are in L2.  A stamp that is not there makes every
value invalid that was made under it: so to delete a stamp is to invalidate the tag,
and what is lost with a server, or evicted, costs only misses.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, NamedTuple

from cachebridge.codec.envelope import STAMP_BYTES, make_header, read_header
from cachebridge.codec.messages import MAX_KEYS
from cachebridge.core.dropping.tags import TAG_MARK, Tagging
from cachebridge.core.entry import PAYLOAD
from cachebridge.core.keys import shown_key
from cachebridge.errors import L2Error, L2UnavailableError, UnsupportedOperationError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from cachebridge.core.coherence import Coherence
    from cachebridge.core.direct import Direct
    from cachebridge.core.fill import Fill
    from cachebridge.core.write import Write
    from cachebridge.engine.removals import OperationsHost
    from cachebridge.engine.values import Values
    from cachebridge.l1.local_get import LocalReads, NoLocalReads
    from cachebridge.l2.store import L2Store
    from cachebridge.waiting.io import IO

STAMP_TTL_MS: Final = 30 * 24 * 3600 * 1000
RENEW_BELOW_MS: Final = STAMP_TTL_MS // 2
"""A stamp with less left gets its whole TTL again when it is read from L2."""
TRIES: Final = 20


class Stamped(NamedTuple):
    """What a value gets that is about to be computed, or set."""

    header: bytes = b""
    tagging: Tagging | None = None
    failure: L2Error | None = None
    """Why there is no header: then the value must not be stored in L2."""
    is_invalid: bool = False
    """Whether a tag has been invalidated since: then it must not be stored at all."""

    def holds(self, rules: Coherence) -> bool:
        """Return whether this process has not heard of an invalidation since."""
        return self.tagging is None or rules.tags.holds(self.tagging)

    def on(self, write: Write | Direct) -> bytes:
        """Return the header for what a write has staged, and is to store.

        Raises the failure: the write deals with it as with one of its own.
        """
        write.tagging = self.tagging
        if self.failure is not None:
            raise self.failure
        return self.header


UNTAGGED: Final = Stamped()
INVALID: Final = Stamped(is_invalid=True)


class Begun(ABC):
    """The tags of a value that is being computed: ``running.LoadTags``."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __iter__(self) -> Iterator[str]: ...

    @abstractmethod
    async def end(self, io: IO) -> Stamped:
        """Return what the value gets; INVALID if a tag has been invalidated."""


class StampKeys(NamedTuple):
    """How the stamps of one cache are called, kept and read."""

    key_of: Callable[[str], str]
    """Returns the full key of a tag's stamp."""
    values: Values
    fill: Callable[[Sequence[str]], Fill | Direct]
    write: Callable[[Sequence[str]], Write | Direct]
    may_write: bool = True
    """False if other readers must understand each value: they know no tags."""


class Stamps:
    """The part of ``Operations`` that asks for stamps.

    L1 holds stamps as it does other keys, so mostly no round trip is needed.  Keys past
    L1, and reads during a bypass, ask L2 for stamps as well.
    """

    engine: OperationsHost
    io: IO
    l2: L2Store
    local_reads: LocalReads | NoLocalReads
    degrades: bool
    is_past_fences: bool
    stamp_keys: StampKeys | None
    message: Callable[[Write | Direct], bytes | None]
    hides_stamp: Callable[[str], bool] | None = None
    """Whether a transaction has invalidated the tag of a stamp, and is to commit."""

    def keys_of_tags(self, tags: Iterable[str]) -> tuple[str, ...]:
        """Return the full keys of the tags' stamps."""
        keys = self.stamp_keys
        return () if keys is None else tuple([keys.key_of(tag) for tag in tags])

    def is_stamp(self, key: str) -> bool:
        """Return whether a full key is that of a stamp of this cache."""
        keys = self.stamp_keys
        return keys is not None and key.startswith(keys.key_of(""))

    async def stamp(self, tags: Collection[str] | Begun) -> Stamped:
        """Read the stamps of the tags for a value to come, and make those that lack.

        A failure of L2 is in the answer: the value may still serve this process.  Tags
        that have begun before the value was computed end now.
        """
        if isinstance(tags, Begun):
            return await tags.end(self.io)
        tagging = Tagging(self.keys_of_tags(tags), self.engine.rules.tags.begin())
        try:
            header = make_header(await self.make_stamps(tags))
        except L2Error as exc:
            return Stamped(b"", tagging, exc)
        return Stamped(header, tagging)

    async def make_stamps(self, tags: Collection[str]) -> dict[str, bytes]:
        """Return the stamp of every tag; raises L2Error.

        Raises UnsupportedOperationError if WRITE_FORMAT does not allow for tags.
        """
        if not self._kept.may_write:
            raise UnsupportedOperationError(
                "WRITE_FORMAT = 'django-redis': its workers read no value with tags"
            )
        stamps = await self.read_stamps(tags)
        for tag in tags:
            for _ in range(TRIES):
                if tag in stamps:
                    break
                made = await self._make(tag)
                stamps |= await self.read_stamps((tag,)) if made is None else made
            else:
                raise L2Error(f"no stamp can be made for the tag {shown_key(tag)}")
        return {tag: stamps[tag] for tag in tags}

    async def _make(self, tag: str) -> dict[str, bytes] | None:
        """Make a stamp, None if another caller has."""
        kept = self._kept
        key, stamp = kept.key_of(tag), os.urandom(STAMP_BYTES)
        if self._is_owed(key):
            raise L2UnavailableError(
                f"the tag {shown_key(tag)} has been invalidated: that comes first"
            )
        with kept.write((key,)) as write, write:
            added = await self.l2.add(key, stamp, STAMP_TTL_MS, self.message(write))
            if added is True:
                kept.values.stage(write, {key: stamp}, {key: stamp}, STAMP_TTL_MS)
                return {tag: stamp}
            self.engine.outgoing.retract(write)
            return None

    @property
    def _kept(self) -> StampKeys:
        if self.stamp_keys is None:
            raise AssertionError("these keys have no tags")
        return self.stamp_keys

    def _is_owed(self, key: str) -> bool:
        """Return whether the delete of a stamp is pending: then L2's is old."""
        pending = self.engine.rules.outage.pending_deletes
        return pending is not None and pending.may_be and pending.concern((key,))

    async def read_stamps(self, tags: Iterable[str]) -> dict[str, bytes]:
        """Return the stamps that exist, by tag; one round trip for what L1 lacks."""
        kept, found = self._kept, {}
        lacking: dict[str, str] = {}
        for tag in tags:
            key = kept.key_of(tag)
            if self._is_owed(key) or (self.hides_stamp and self.hides_stamp(key)):
                continue
            entry = self.local_reads.usable_entry(
                key, in_outage=self.degrades, past_fences=self.is_past_fences
            )
            if entry is not None and type(entry[PAYLOAD]) is bytes:
                self.engine.l1.note(key)
                found[tag] = entry[PAYLOAD]
            else:
                lacking[key] = tag
        keys = list(lacking)
        for start in range(0, len(keys), MAX_KEYS):
            read = await self._read_from_l2(kept, keys[start : start + MAX_KEYS])
            found |= {lacking[key]: stamp for key, stamp in read.items()}
        return found

    async def _read_from_l2(
        self, kept: StampKeys, keys: Sequence[str]
    ) -> dict[str, bytes]:
        """Return the stamps by key; renew what is old, delete what is no stamp."""
        found, aged, strange = {}, [], []
        with kept.fill(keys) as fill, fill:
            reads = await self.l2.get_many(keys)
            for key, (raw, ttl_ms) in zip(keys, reads, strict=True):
                if raw is None or len(raw) != STAMP_BYTES:
                    fill.refuse(key)
                    if raw is not None:
                        strange.append((key, raw))
                    continue
                found[key] = raw
                kept.values.take_read(fill, key, raw, raw, ttl_ms)
                if 0 < ttl_ms < RENEW_BELOW_MS:
                    aged.append(key)
        for key in aged:  # nothing that L1 holds changes: no message
            await self.l2.touch(key, STAMP_TTL_MS, None)
        for key, raw in strange:
            await self.l2.replace(key, raw, None, None)
        return found

    async def living(
        self, fill: Fill | Direct | None, reads: Sequence[tuple[str, bytes]]
    ) -> dict[str, bytes]:
        """Return the own bytes of those tagged values whose stamps are in L2, by key.

        The fill stores them in L1 only as long as no stamp changes.  A value with a
        damaged header is not alive.
        """
        if self.stamp_keys is None:
            return {}
        seen = self.engine.rules.tags.begin()
        headers = {key: read_header(raw) for key, raw in reads}
        tags = {tag for header in headers.values() if header for tag in header.stamps}
        stamps = await self.read_stamps(tags)
        alive = {}
        for key, raw in reads:
            header = headers[key]
            if header is not None and header.stamps.items() <= stamps.items():
                if fill is not None:
                    fill.tag(key, Tagging(self.keys_of_tags(header.stamps), seen))
                alive[key] = raw[header.size :]
        return alive

    async def living_of(
        self, fill: Fill | Direct, reads: Sequence[tuple[str, bytes | None, int]]
    ) -> list[tuple[str, bytes | None, int]]:
        """Return each read with a value's own bytes, None for one that is not alive."""
        tagged = [(key, raw) for key, raw, _ in reads if raw and raw[:2] == TAG_MARK]
        if not tagged:
            return list(reads)
        alive = await self.living(fill, tagged)
        names = dict(tagged)
        return [
            (key, alive.get(key) if key in names else raw, ttl_ms)
            for key, raw, ttl_ms in reads
        ]

    async def living_part(
        self, fill: Fill | Direct | None, key: str, raw: bytes
    ) -> bytes | None:
        """Return the own bytes of one tagged value, None if it is not alive."""
        return (await self.living(fill, ((key, raw),))).get(key)
