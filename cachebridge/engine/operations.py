"""The operations of one cache on full keys, for threads and tasks in one text.

Each is two or three lines around one call of L2: the rules are in ``core``, the bytes
in ``values``.  A thread carries these coroutines out with ``waiting.run``, a task
awaits them; ``waiting.io`` says what differs.  TTLs are milliseconds: None is without
expiry, 0 is over already.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from cachebridge.codec.messages import MAX_KEYS, batches
from cachebridge.core.dropping.tags import TAG_MARK
from cachebridge.core.entry import ABSENT, KIND, MISSING, Absent, Missing
from cachebridge.core.keys import NO_TAGS
from cachebridge.core.ttl import jittered
from cachebridge.core.write import WITH_OWN_TTLS
from cachebridge.engine.counting import Counting
from cachebridge.engine.messages.fences import Decision
from cachebridge.engine.parts.existing import Existing
from cachebridge.engine.parts.host_reads import HostReads
from cachebridge.engine.parts.steps import Steps
from cachebridge.engine.removals import SCAN_DONE, Removals
from cachebridge.engine.tagging.stamps import UNTAGGED, StampKeys, Stamps
from cachebridge.errors import L2Error, L2UnavailableError
from cachebridge.l1.local_get import NO_LOCAL_READS, LocalReads, NoLocalReads
from cachebridge.l2.store import TAGGED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from cachebridge.core.direct import Direct
    from cachebridge.core.fill import Fill
    from cachebridge.core.write import QueuedWrite, Write
    from cachebridge.engine.removals import OperationsHost
    from cachebridge.engine.tagging.stamps import Begun
    from cachebridge.engine.values import Values
    from cachebridge.l2.store import Ttl
    from cachebridge.stats import Counters
    from cachebridge.waiting.io import IO


class Operations(Removals, Existing, Counting, Steps, Stamps, HostReads):
    """What can be done with the keys of one cache, by threads or by tasks.

    Thread safe.  Every coroutine raises L2Error if L2 cannot answer; L1 then holds
    nothing in doubt.  ``engine/outage/fallbacks.py`` says what the caller gets instead.
    """

    def __init__(
        self,
        engine: OperationsHost,
        values: Values,
        io: IO,
        *,
        fill: Callable[[Sequence[str]], Fill | Direct],
        write: Callable[[Sequence[str]], Write | Direct],
        count_read: Callable[[], None],
        reads_l1: bool = True,
        publishes: bool = True,
        degrades: bool = False,
        jitter: float = 0.0,
        stamp_keys: StampKeys | None = None,
        sides: dict[IO, Operations] | None = None,
        counters: Counters | None = None,
    ) -> None:
        """Make the operations of one kind of keys for one kind of callers.

        ``fill`` and ``write`` open the rules' contexts.  ``count_read`` is called for
        each read that L1 could have answered.  ``reads_l1`` is False for keys whose
        values no L1 holds; so is ``publishes`` if none holds anything under them.
        Without ``stamp_keys`` no tagged value is alive.  ``sides`` takes these beside
        those for the other kind of callers.  ``counters`` are those of a named cache.
        """
        self.engine = engine
        self.counters = engine.counters if counters is None else counters
        self.values = values
        self.encode = partial(values.encode_for, io)
        self.io = io
        self.l2 = engine.l2_for(io, may_lag=reads_l1)
        self.open_fill = fill
        self.open_write = write
        self.count_read = count_read
        self.local_reads: LocalReads | NoLocalReads = (
            engine.local_reads if reads_l1 else NO_LOCAL_READS
        )
        self.reads_l1 = reads_l1
        self.shared = engine.rules.sharing if reads_l1 else None
        self.publishes = publishes
        self.degrades = degrades
        self.jitter = jitter
        self.stamp_keys = stamp_keys
        self.sides = {} if sides is None else sides
        self.sides[io] = self
        self.message = engine.outgoing.message_of
        self.is_past_fences = False
        """Whether L1 may answer although fences are up that were raised later."""

    # -- what does not wait ------------------------------------------------------------

    def get_from_l1(self, key: str) -> Any | Missing | Absent:
        """Return the value or ABSENT if L1 may answer, else MISSING."""
        if self.engine.l1.look(key) is None:  # mostly: the adapter has looked, too
            return MISSING if self.shared is None else self.shared_value(key)
        entry = self.local_reads.usable_entry(
            key, in_outage=self.degrades, past_fences=self.is_past_fences
        )
        if entry is None:
            return MISSING
        if entry[KIND] is ABSENT:
            self.counters.negative_hits += 1
            return ABSENT
        value = self.values.copies.value_of(entry)
        if value is not MISSING:
            self.engine.l1.note(key)
            self.counters.l1_hits += 1
        return value

    def decode_and_fill(
        self, fill: Fill | Direct, key: str, raw: bytes | None, ttl_ms: int
    ) -> Any | Missing:
        """Decode L2's reply, and store it in L1 if the rules allow."""
        value, content = (MISSING, b"") if raw is None else self.values.read(key, raw)
        if value is MISSING:
            self.counters.misses += 1
            fill.refuse(key)
            return MISSING
        self.counters.l2_hits += 1
        fill.offer(key, raw)
        self.values.take_read(fill, key, value, content, ttl_ms)
        return value

    def has_load_messages(self) -> bool:
        """Return whether the bus tells of other processes' loads of these keys."""
        return self.publishes and self.engine.outgoing.arrive()

    def jittered(self, ttl_ms: int | None) -> int | None:
        """Shorten a TTL at random, as TTL_JITTER says."""
        return jittered(ttl_ms, self.jitter, self.engine.chance)

    def jittered_each(self, ttl_ms: int | None, count: int) -> Ttl:
        """Shorten the TTL of each value of a batch, so that not all expire at once."""
        if not self.jitter or ttl_ms is None:
            return ttl_ms
        return [self.jittered(ttl_ms) or ttl_ms for _ in range(count)]

    # -- reading ---------------------------------------------------------------------

    async def get(self, key: str) -> Any | Missing:
        """Return the value, MISSING if there is none."""
        value = self.get_from_l1(key)
        if value is not MISSING:
            return MISSING if value is ABSENT else value
        self.count_read()
        with self.open_fill((key,)) as fill, fill:
            raw, ttl_ms = await self.l2.get(key)
            own = raw
            if raw is not None and raw.startswith(TAG_MARK):
                own = await self.living_part(fill, key, raw)
            value = self.decode_and_fill(fill, key, own, ttl_ms)
        if value is MISSING and raw is not None and own is not None:
            await self.discard_damaged([(key, raw)])
        return value

    async def read(self, key: str) -> tuple[bytes | None, Any | Missing]:
        """Return bytes and value, from L2 alone; MISSING if none can be read here."""
        self.count_read()
        with self.open_fill((key,)) as fill, fill:
            raw, ttl_ms = await self.l2.get(key)
            own = raw
            if raw is not None and raw.startswith(TAG_MARK):
                own = await self.living_part(fill, key, raw)
            value = self.decode_and_fill(fill, key, own, ttl_ms)
        if value is MISSING and raw is not None and own is not None:
            await self.discard_damaged([(key, raw)])
        return None if own is None else raw, value

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values that exist; one round trip for all that L1 lacks."""
        found: dict[str, Any] = {}
        wanted = []
        for key in dict.fromkeys(keys):
            value = self.get_from_l1(key)
            if value is MISSING:
                wanted.append(key)
            elif value is not ABSENT:
                found[key] = value
        if wanted:
            self.count_read()
        for start in range(0, len(wanted), MAX_KEYS):
            await self._get_batch(wanted[start : start + MAX_KEYS], found)
        return found

    async def _get_batch(self, keys: Sequence[str], found: dict[str, Any]) -> None:
        """Read what one command can, and put the values that exist into ``found``."""
        tagged, unreadable = [], []
        with self.open_fill(keys) as fill, fill:
            reads = await self.l2.get_many(keys)
            for key, (raw, ttl_ms) in zip(keys, reads, strict=True):
                if raw is not None and raw.startswith(TAG_MARK):
                    tagged.append((key, raw, ttl_ms))
                    continue
                value = self.decode_and_fill(fill, key, raw, ttl_ms)
                if value is not MISSING:
                    found[key] = value
                elif raw is not None:
                    unreadable.append((key, raw))
            for key, own, ttl_ms in await self.living_of(fill, tagged):
                value = self.decode_and_fill(fill, key, own, ttl_ms)
                if value is not MISSING:
                    found[key] = value
        if unreadable:
            await self.discard_damaged(unreadable)

    async def warm(self, keys: Sequence[str]) -> bool:
        """Fill L1 with what L2 has of keys that L1 lacks; True if L2 was asked.

        These are no reads of callers: neither hits nor misses are counted.
        """
        self.count_read()
        with self.open_fill(keys) as fill, fill:
            reads = await self.l2.get_many(keys)
            found = [(key, *read) for key, read in zip(keys, reads, strict=True)]
            for key, raw, ttl_ms in await self.living_of(fill, found):
                value, content = (
                    (MISSING, b"") if raw is None else self.values.read(key, raw)
                )
                if value is MISSING:
                    fill.refuse(key)
                else:
                    fill.offer(key, raw)
                    self.values.take_read(fill, key, value, content, ttl_ms)
        look = self.engine.l1.look
        self.counters.warmed += sum(look(key) is not None for key in keys)
        return True

    async def find(self, glob: str, most: int) -> list[str]:
        """Return the keys that match, or a few more than ``most`` of them."""
        found: dict[str, None] = {}
        cursor = SCAN_DONE
        while True:
            cursor, keys = await self.l2.scan(glob, cursor)
            found |= dict.fromkeys(keys)
            if cursor == SCAN_DONE or len(found) > most:
                return list(found)

    async def has_key(self, key: str) -> bool:
        """Return whether the key exists; a usable L1 entry is proof enough."""
        entry = self.local_reads.usable_entry(
            key, in_outage=self.degrades, past_fences=self.is_past_fences
        )
        return entry[KIND] is not ABSENT if entry else await self._is_in_l2(key)

    async def _is_in_l2(self, key: str) -> bool:
        with self.open_fill((key,)) as fill, fill:
            exists = await self.l2.exists(key)
            if not exists:
                fill.refuse(key)
        return await self.is_alive(key) if exists == TAGGED else exists is True

    # -- writing ---------------------------------------------------------------------

    async def set(
        self,
        key: str,
        value: Any,
        ttl_ms: int | None,
        *,
        tags: Collection[str] | Begun = NO_TAGS,
    ) -> bool:
        """Set the value; a TTL that is over deletes the key.

        False if L2 has no room for it: then the key is deleted, too.  False as well if
        a tag has been invalidated that has begun before the value was computed.
        """
        stamped = await self.stamp(tags) if tags else UNTAGGED
        if stamped.is_invalid:
            return False
        raw = await self.encode(key, value)
        if ttl_ms == 0:
            await self.delete(key)
            return True
        ttl_ms = self.jittered(ttl_ms)
        with self.open_write((key,)) as write, write:
            self.values.stage(write, {key: value}, {key: raw}, ttl_ms)
            if tags:
                raw = stamped.on(write) + raw
            message = self.message(write)
            refused = await self.l2.store(((key, raw),), ttl_ms, message)
            if refused:
                write.unstage(refused)
        return not refused

    async def set_many(
        self,
        items: Mapping[str, Any],
        ttl_ms: int | None,
        *,
        tags: Collection[str] = NO_TAGS,
    ) -> list[str]:
        """Set all values: one round trip and one message per thousand keys.

        Returns the keys that failed: those for which L2 has no room.
        """
        stamped = await self.stamp(tags) if tags else UNTAGGED
        encoded = await self.values.encode_each(self.io, items)
        if ttl_ms == 0:
            await self.delete_many(encoded)
            return []
        failed: list[str] = []
        most = WITH_OWN_TTLS if self.jitter else MAX_KEYS
        for keys in batches(list(encoded), most) if encoded else []:
            ttls = self.jittered_each(ttl_ms, len(keys))
            with self.open_write(keys) as write, write:
                self.values.stage(write, items, encoded, ttls)
                header = stamped.on(write)
                pairs = [(key, header + encoded[key]) for key in keys]
                refused = await self.l2.store(pairs, ttls, self.message(write))
                write.unstage(refused)
                failed += refused
        return failed

    async def send(self, write: QueuedWrite) -> bool:
        """Send what was queued; False if L2 has refused it and may take a part.

        Then no value has had its outcome, and each has to be sent alone.
        """
        try:
            with write, write:
                write.begin_sending()
                now = self.engine.rules.clock()
                message = self.message(write) if self.publishes else None
                if over := write.over(now):
                    await self.l2.delete(over, message)
                items, ttls = write.items(now)
                refused = await self.l2.store(items, ttls, message) if items else []
                write.unstage([*refused, *over])
        except L2Error as exc:
            if len(write) == 1 or isinstance(exc, L2UnavailableError):
                raise
            return False
        self.counters.writes_lost += len(refused)
        return True

    async def add(
        self,
        key: str,
        value: Any,
        ttl_ms: int | None,
        *,
        tags: Collection[str] = NO_TAGS,
        fences: bool = True,
    ) -> bool:
        """Set the value if the key does not exist; return whether it was set.

        ``fences``: the caller may take its success for a lock.
        """
        stamped = await self.stamp(tags) if tags else UNTAGGED
        raw = await self.encode(key, value)
        if ttl_ms == 0:
            return not await self._is_in_l2(key)
        left_ms = self.jittered(ttl_ms)
        with self.open_write((key,)) as write, write:
            full = stamped.on(write) + raw if tags else raw
            message = self.message(write)
            with (decision := Decision(self.engine, write, message)), decision:
                added = await self.l2.add(key, full, left_ms, message)
                if added is True and fences:
                    decision.won()
            if added is True:
                self.values.stage(write, {key: value}, {key: raw}, left_ms)
            else:
                self.engine.outgoing.retract(write)
        if added == TAGGED and not await self.is_alive(key):  # out of the way now
            return await self.add(key, value, ttl_ms, tags=tags, fences=fences)
        return added is True

    async def touch(self, key: str, ttl_ms: int | None) -> bool:
        """Give the key a new TTL; return whether it exists."""
        if ttl_ms == 0:
            return await self.delete(key)
        with self.open_write((key,)) as write, write:
            exists = await self.l2.touch(key, ttl_ms, self.message(write))
            if not exists:
                self.engine.outgoing.retract(write)
        return await self.is_alive(key) if exists == TAGGED else exists is True
