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
from cachebridge.core.entry import ABSENT, INT64, KIND, MISSING, Absent, Missing
from cachebridge.core.keys import shown_key
from cachebridge.core.ttl import jittered
from cachebridge.core.write import WITH_OWN_TTLS
from cachebridge.engine.counting import Counting
from cachebridge.engine.existing import Existing
from cachebridge.engine.messages.fences import Decision
from cachebridge.engine.removals import SCAN_DONE, Removals
from cachebridge.engine.values import appended, missing, total
from cachebridge.errors import L2Error, L2UnavailableError
from cachebridge.l1.local_get import NO_LOCAL_READS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cachebridge.core.direct import Direct
    from cachebridge.core.fill import Fill
    from cachebridge.core.write import QueuedWrite, Write
    from cachebridge.engine.removals import OperationsHost
    from cachebridge.engine.values import Values
    from cachebridge.l2.store import Ttl
    from cachebridge.waiting.io import IO


class Operations(Removals, Existing, Counting):
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
    ) -> None:
        """Make the operations of one kind of keys for one kind of callers.

        ``fill`` and ``write`` open the rules' contexts.  ``count_read`` is called for
        each read that L1 could have answered.  ``reads_l1`` is False for keys whose
        values no L1 holds; so is ``publishes`` if none holds anything under them.
        """
        self.engine = engine
        self.counters = engine.counters
        self.values = values
        self.encode = partial(values.encode_for, io)
        self.io = io
        self.l2 = engine.l2_for(io, may_lag=reads_l1)
        self.open_fill = fill
        self.open_write = write
        self.count_read = count_read
        self.local_reads = engine.local_reads if reads_l1 else NO_LOCAL_READS
        self.reads_l1 = reads_l1
        self.publishes = publishes
        self.degrades = degrades
        self.jitter = jitter
        self.message = engine.outgoing.message_of
        self.is_past_fences = False
        """Whether L1 may answer although fences are up that were raised later."""

    # -- what does not wait ------------------------------------------------------------

    def get_from_l1(self, key: str) -> Any | Missing | Absent:
        """Return the value or ABSENT if L1 may answer, else MISSING."""
        if self.engine.l1.look(key) is None:  # mostly: the adapter has looked, too
            return MISSING
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
        value = MISSING if raw is None else self.values.decode(key, raw)
        if raw is None or value is MISSING:
            self.counters.misses += 1
            fill.refuse(key)
            return MISSING
        self.counters.l2_hits += 1
        self.values.take_read(fill, key, value, raw, ttl_ms)
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
            value = self.decode_and_fill(fill, key, raw, ttl_ms)
        if value is MISSING and raw is not None:
            await self.discard_damaged([(key, raw)])
        return value

    async def read(self, key: str) -> tuple[bytes | None, Any | Missing]:
        """Return bytes and value, from L2 alone; MISSING if none can be read here."""
        self.count_read()
        with self.open_fill((key,)) as fill, fill:
            raw, ttl_ms = await self.l2.get(key)
            value = self.decode_and_fill(fill, key, raw, ttl_ms)
        if value is MISSING and raw is not None:
            await self.discard_damaged([(key, raw)])
        return raw, value

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
        unreadable = []
        for start in range(0, len(wanted), MAX_KEYS):
            batch = wanted[start : start + MAX_KEYS]
            with self.open_fill(batch) as fill, fill:
                reads = await self.l2.get_many(batch)
                for key, (raw, ttl_ms) in zip(batch, reads, strict=True):
                    value = self.decode_and_fill(fill, key, raw, ttl_ms)
                    if value is not MISSING:
                        found[key] = value
                    elif raw is not None:
                        unreadable.append((key, raw))
        if unreadable:
            await self.discard_damaged(unreadable)
        return found

    async def warm(self, keys: Sequence[str]) -> bool:
        """Fill L1 with what L2 has of keys that L1 lacks; True if L2 was asked.

        These are no reads of callers: neither hits nor misses are counted.
        """
        self.count_read()
        with self.open_fill(keys) as fill, fill:
            reads = await self.l2.get_many(keys)
            for key, (raw, ttl_ms) in zip(keys, reads, strict=True):
                value = MISSING if raw is None else self.values.decode(key, raw)
                if raw is None or value is MISSING:
                    fill.refuse(key)
                else:
                    self.values.take_read(fill, key, value, raw, ttl_ms)
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
        return exists

    async def discard_damaged(self, reads: Iterable[tuple[str, bytes]]) -> bool:
        """Delete those of these unreadable bytes that no process can read.

        What has changed since stays, and so do values of other writers: another process
        may read them.  Returns whether all were damaged.
        """
        all_damaged = True
        for key, raw in reads:
            if not self.values.is_damaged(raw):
                all_damaged = False
                continue
            with self.open_write((key,)) as write, write:
                await self.l2.replace(key, raw, None, self.message(write))
        return all_damaged

    # -- writing ---------------------------------------------------------------------

    async def set(self, key: str, value: Any, ttl_ms: int | None) -> bool:
        """Set the value; a TTL that is over deletes the key.

        False if L2 has no room for it: then the key is deleted, too.
        """
        raw = await self.encode(key, value)
        if ttl_ms == 0:
            await self.delete(key)
            return True
        ttl_ms = self.jittered(ttl_ms)
        with self.open_write((key,)) as write, write:
            self.values.stage(write, {key: value}, {key: raw}, ttl_ms)
            message = self.message(write)
            refused = await self.l2.store(((key, raw),), ttl_ms, message)
            if refused:
                write.unstage(refused)
        return not refused

    async def set_many(self, items: Mapping[str, Any], ttl_ms: int | None) -> list[str]:
        """Set all values: one round trip and one message per thousand keys.

        Returns the keys that failed: those for which L2 has no room.
        """
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
                pairs = [(key, encoded[key]) for key in keys]
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
        self, key: str, value: Any, ttl_ms: int | None, *, fences: bool = True
    ) -> bool:
        """Set the value if the key does not exist; return whether it was set.

        ``fences``: the caller may take its success for a lock.
        """
        raw = await self.encode(key, value)
        if ttl_ms == 0:
            return not await self._is_in_l2(key)
        ttl_ms = self.jittered(ttl_ms)
        with self.open_write((key,)) as write, write:
            message = self.message(write)
            with (decision := Decision(self.engine, write, message)), decision:
                added = await self.l2.add(key, raw, ttl_ms, message)
                if added and fences:
                    decision.won()
            if added:
                self.values.stage(write, {key: value}, {key: raw}, ttl_ms)
            else:
                self.engine.outgoing.retract(write)
        return added

    async def touch(self, key: str, ttl_ms: int | None) -> bool:
        """Give the key a new TTL; return whether it exists."""
        if ttl_ms == 0:
            return await self.delete(key)
        with self.open_write((key,)) as write, write:
            exists = await self.l2.touch(key, ttl_ms, self.message(write))
            if not exists:
                self.engine.outgoing.retract(write)
        return exists

    # -- several steps -----------------------------------------------------------------

    async def incr(self, key: str, delta: Any) -> Any:
        """Add ``delta`` and keep the TTL; MissingKeyError if there is no such key.

        L2 adds 64-bit integers; all else is read, added, and replaced if unchanged.
        """
        if type(delta) is int and delta in INT64:
            answer = await self.incr_in_l2(key, delta)
            if type(answer) is int:
                return answer
            if answer is None:
                raise missing(key)
        while True:
            raw, value = await self.read(key)
            if raw is None or value is MISSING:
                raise missing(key)
            value = total(key, value, delta)
            if await self.replace(key, raw, value):
                return value

    async def append(self, key: str, data: str | bytes, ttl_ms: int | None) -> int:
        """Append to a text or to bytes and keep the TTL; return the new length.

        What does not exist is made, with this TTL.  Other readers see whole values: one
        is read, joined, and replaced if unchanged.
        """
        while True:
            raw, value = await self.read(key)
            whole = appended(key, value, data)
            if raw is None or value is MISSING:
                if await self.add(key, whole, ttl_ms, fences=False):
                    return len(whole)
                await self._require_readable(key)
            elif await self.replace(key, raw, whole):
                return len(whole)

    async def _require_readable(self, key: str) -> None:
        """Raise TypeError for a value of a writer that this process cannot read."""
        raw, _ = await self.l2.get(key)
        if raw is not None and self.values.decode(key, raw) is MISSING:
            raise TypeError(f"the value of {shown_key(key)} cannot be read here")

    async def incr_in_l2(self, key: str, delta: int) -> int | str | None:
        """Add to an integer of L2; None or a word if there is none to add to."""
        with self.open_write((key,)) as write, write:
            answer = await self.l2.incr(key, delta, self.message(write))
            if type(answer) is not int:
                self.engine.outgoing.retract(write)
        return answer

    async def replace(self, key: str, expected: bytes, value: Any) -> bool:
        """Set the value, keeping its TTL, if its bytes still are as expected."""
        raw = await self.encode(key, value)
        with self.open_write((key,)) as write, write:
            replaced = await self.l2.replace(key, expected, raw, self.message(write))
            if not replaced:
                self.engine.outgoing.retract(write)
        return replaced
