"""The operations of one cache on full keys, synchronous.

Each is two or three lines around one call of L2: the rules are in ``core``, the bytes
in ``values``.  ``None`` as ``ttl_ms`` is without expiry, 0 is over already.  The twin
of this file is ``aio.py``; a test compares them.
"""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any

from cachebridge.codec.messages import MAX_KEYS, batches
from cachebridge.core.direct import Direct, DirectWrite
from cachebridge.core.entry import ABSENT, KIND, MISSING, Absent, Missing
from cachebridge.core.fill import Fill
from cachebridge.core.loading import LoaderError, LoadTerms, bare, load_plan
from cachebridge.core.plans import clear_plan, incr_plan
from cachebridge.core.write import Write
from cachebridge.engine.drive import drive
from cachebridge.engine.loads import LoadRun
from cachebridge.engine.operations import INT64, Means, load_terms
from cachebridge.engine.refusing import Refusing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cachebridge.config import CacheOptions
    from cachebridge.core.keys import KeyPattern
    from cachebridge.core.loading import Outcome
    from cachebridge.engine.engine import Engine
    from cachebridge.engine.flights import LoadFlight
    from cachebridge.engine.values import Values
    from cachebridge.errors import L2Error


class Operations(Means):
    """What can be done with the keys of one cache.  Thread safe.

    Every method raises L2Error if L2 cannot answer; L1 then holds nothing in doubt.
    What a caller gets instead stands in ``engine/guarded.py``; only ``get_or_load``
    knows about it itself, since it goes on without L2 if it ``degrades``.
    """

    def __init__(self, engine: Engine, values: Values, **means: Any) -> None:
        super().__init__(engine, values, **means)
        self.l2 = engine.l2

    def without_l2(self, failure: L2Error) -> Operations:
        """Return the same operations, for which L2 fails so: it is not asked."""
        refused = copy(self)
        refused.l2 = Refusing(failure)
        return refused

    # -- reading ---------------------------------------------------------------------

    def get(self, key: str) -> Any | Missing:
        """Return the value, MISSING if there is none."""
        value = self.get_from_l1(key)
        if value is MISSING:
            return self._get_from_l2(key)[0]
        return MISSING if value is ABSENT else value

    def _get_from_l2(self, key: str) -> tuple[Any | Missing, bytes | None]:
        self.notice_read()
        with self.open_fill((key,)) as fill:
            raw, ttl_ms = self.l2.get(key)
            value = self.take(fill, key, raw, ttl_ms)
        self.discard_unreadable([(key, raw)] if value is MISSING else [])
        return value, raw

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
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
            self.notice_read()
        unreadable = []
        for start in range(0, len(wanted), MAX_KEYS):
            batch = wanted[start : start + MAX_KEYS]
            with self.open_fill(batch) as fill:
                reads = self.l2.get_many(batch)
                for key, (raw, ttl_ms) in zip(batch, reads, strict=True):
                    value = self.take(fill, key, raw, ttl_ms)
                    if value is not MISSING:
                        found[key] = value
                    else:
                        unreadable.append((key, raw))
        self.discard_unreadable(unreadable)
        return found

    def has_key(self, key: str) -> bool:
        """Tell whether the key exists; a usable L1 entry is proof enough."""
        entry = self.engine.usable_entry(key, in_outage=self.degrades)
        return entry[KIND] is not ABSENT if entry is not None else self._is_in_l2(key)

    def _is_in_l2(self, key: str) -> bool:
        with self.open_fill((key,)) as fill:
            exists = self.l2.exists(key)
            if not exists:
                fill.refuse(key)
        return exists

    def discard_unreadable(self, reads: list[tuple[str, bytes | None]]) -> None:
        """Delete bytes that could not be decoded, unless they have changed since."""
        for key, raw in reads:
            if raw is not None:
                with self.open_write((key,)) as write:
                    self.l2.replace(key, raw, None, self.message(write))

    # -- writing ---------------------------------------------------------------------

    def set(self, key: str, value: Any, ttl_ms: int | None) -> bool:
        """Set the value; a TTL that is over deletes the key.

        False if L2 has no room for it: then the key is deleted, too.
        """
        raw = self.values.encode(value)
        if ttl_ms == 0:
            self.delete(key)
            return True
        ttl_ms = self.jittered(ttl_ms)
        with self.open_write((key,)) as write:
            self.values.offer(write, {key: value}, {key: raw}, ttl_ms)
            stored = ((key, raw),)
            refused = self.l2.store(stored, ttl_ms, self.message(write))
            if refused:
                write.withdraw(refused)
        return not refused

    def set_many(self, items: Mapping[str, Any], ttl_ms: int | None) -> list[str]:
        """Set all values: one round trip and one message per thousand keys.

        Returns the keys that failed: those for which L2 has no room.
        """
        encoded = {key: self.values.encode(value) for key, value in items.items()}
        if ttl_ms == 0:
            self.delete_many(encoded)
            return []
        failed: list[str] = []
        for keys in batches(list(encoded)) if encoded else []:
            ttls = self.jittered_each(ttl_ms, len(keys))
            with self.open_write(keys) as write:
                self.values.offer(write, items, encoded, ttls)
                pairs = [(key, encoded[key]) for key in keys]
                refused = self.l2.store(pairs, ttls, self.message(write))
                write.withdraw(refused)
                failed += refused
        return failed

    def add(self, key: str, value: Any, ttl_ms: int | None) -> bool:
        """Set the value if the key does not exist; tell whether it did not."""
        raw = self.values.encode(value)
        if ttl_ms == 0:
            return not self._is_in_l2(key)
        ttl_ms = self.jittered(ttl_ms)
        with self.open_write((key,)) as write:
            added = self.l2.add(key, raw, ttl_ms, self.message(write))
            if added:
                self.values.offer(write, {key: value}, {key: raw}, ttl_ms)
            else:
                self.engine.retract_message(write)
        return added

    def touch(self, key: str, ttl_ms: int | None) -> bool:
        """Give the key a new TTL; tell whether it exists."""
        if ttl_ms == 0:
            return self.delete(key)
        with self.open_write((key,)) as write:
            exists = self.l2.touch(key, ttl_ms, self.message(write))
            if not exists:
                self.engine.retract_message(write)
        return exists

    def delete(self, key: str) -> bool:
        """Delete the key; tell whether L2 had it."""
        with self.open_write((key,)) as write:
            return self.l2.delete((key,), self.message(write)) > 0

    def delete_many(self, keys: Iterable[str]) -> int:
        """Delete all keys; return how many L2 had."""
        wanted = list(dict.fromkeys(keys))
        deleted = 0
        for batch in batches(wanted) if wanted else []:
            with self.open_write(batch) as write:
                deleted += self.l2.delete(batch, self.message(write))
        return deleted

    # -- several steps -----------------------------------------------------------------

    def incr(self, key: str, delta: Any) -> Any:
        """Add ``delta`` and keep the TTL; MissingKeyError if there is no such key."""
        integer = type(delta) is int and delta in INT64
        return drive(incr_plan(key, delta, integer=integer), self)

    def incr_in_l2(self, key: str, delta: int) -> int | str | None:
        """Add to an integer of L2."""
        with self.open_write((key,)) as write:
            answer = self.l2.incr(key, delta, self.message(write))
            if type(answer) is not int:
                self.engine.retract_message(write)
        return answer

    def replace(self, key: str, expected: bytes, value: Any) -> bool:
        """Set the value, keeping its TTL, if its bytes still are as expected."""
        raw = self.values.encode(value)
        with self.open_write((key,)) as write:
            replaced = self.l2.replace(key, expected, raw, self.message(write))
            if not replaced:
                self.engine.retract_message(write)
        return replaced

    def get_or_load(
        self,
        key: str,
        loader: Callable[[], Any],
        ttl_ms: int | None,
        terms: LoadTerms | None = None,
        *,
        failure: L2Error | None = None,
    ) -> Any | Absent:
        """Return the value, loading and storing it if there is none.

        One thread of one process runs the loader for all that ask.  ABSENT if the
        loader says so, or has said so a moment ago.  With a ``failure`` of L2 the
        loader runs without asking it.
        """
        value = self.get_from_l1(key)
        if value is not MISSING:
            return value
        terms = terms or self.terms

        def lead(flight: LoadFlight) -> Outcome:
            run = LoadRun(self, key, loader, ttl_ms=ttl_ms, terms=terms, flight=flight)
            plan = load_plan(
                key, ttl_ms, terms, degrades=self.degrades, failure=failure
            )
            with run.to_the_end():
                outcome: Outcome = drive(plan, run)
            return outcome

        try:
            outcome, is_leader = self.engine.flights.lead_or_follow(key, lead)
        except LoaderError as exc:
            error = exc.error
        else:
            return self._value_of(key, outcome, loader, is_leader=is_leader)
        raise error

    def _value_of(
        self, key: str, outcome: Outcome, loader: Callable[[], Any], *, is_leader: bool
    ) -> Any | Absent:
        """Return what the caller gets: nothing that it shares with another."""
        if is_leader and outcome.value is not MISSING:
            return outcome.value
        if outcome.raw is None:
            return outcome.value
        value = self.values.decode(key, outcome.raw)
        return bare(loader()) if value is MISSING else value

    def read_raw(self, key: str) -> bytes | None:
        """Return the bytes of a value that can be decoded, from L2."""
        value, raw = self._get_from_l2(key)
        return None if value is MISSING else raw

    def clear(self, pattern: KeyPattern) -> bool:
        """Delete every key of the pattern from L2 and from every L1.

        False if one of several servers is away: it is cleared when it is back.
        """
        engine, prefix = self.engine, pattern.prefix
        engine.rules.on_prefix(prefix)
        message = partial(engine.prefix_message, prefix)
        cleared = self.l2.clear(prefix, message)
        if cleared is not None:
            engine.rules.on_prefix(prefix)
            return cleared
        drive(clear_plan(*pattern), self)
        return True

    def flush_db(self) -> bool:
        """Delete every key of the database, whosever it is; False as for ``clear``."""
        engine = self.engine
        engine.rules.flush("clear")
        flushed = self.l2.flush_db(engine.clear_message())
        engine.rules.flush("clear")
        if engine.keeps_switch and not engine.rules.enabled:  # it is gone, too
            self.l2.store(*engine.switched_off())
        return flushed

    def scan(self, glob: str, cursor: int) -> tuple[int, list[str]]:
        """Make one step through the keys of L2."""
        return self.l2.scan(glob, cursor)

    def publish_prefix(self, prefix: str) -> None:
        """Make every process drop the keys that begin with ``prefix``."""
        self.engine.rules.on_prefix(prefix)
        self.l2.publish(self.engine.prefix_message(prefix))


def make_operations(
    engine: Engine,
    values: Values,
    options: CacheOptions,
    *,
    enters_l1: bool,
    behind: Callable[[Callable[[], Any]], Callable[[], Any]],
) -> Operations:
    """Make the operations of a cache for the keys that L1 may hold, or for the others.

    ``behind`` wraps a loader that is to run in the background.
    """
    degrades = options.on_error == "degrade"
    rules = engine.rules
    return Operations(
        engine,
        values,
        fill=(
            partial(Fill, rules, serves_outage=degrades)
            if enters_l1
            else partial(Direct, rules)
        ),
        write=(
            partial(Write, rules, serves_outage=degrades)
            if enters_l1
            else partial(DirectWrite, rules)
        ),
        notice_read=engine.notice_read if enters_l1 else lambda: None,
        publishes=enters_l1,
        degrades=degrades,
        jitter=options.ttl_jitter,
        terms=load_terms(options),
        behind=behind,
    )
