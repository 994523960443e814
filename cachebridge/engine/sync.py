"""The operations of one cache on full keys, synchronous.

Each is two or three lines around one call of L2: the rules are in ``core``, the bytes
in ``values``.  ``None`` as ``ttl_ms`` is without expiry, 0 is over already.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from cachebridge.codec.messages import MAX_KEYS, batches
from cachebridge.core.direct import Direct
from cachebridge.core.entry import MISSING, Missing
from cachebridge.core.fill import Fill
from cachebridge.core.loading import Loaded, Plan, clear_plan, incr_plan, load_plan
from cachebridge.core.write import Write
from cachebridge.engine.flights import UnsharedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cachebridge.core.keys import KeyPattern
    from cachebridge.engine.engine import Engine
    from cachebridge.engine.flights import LoadFlight
    from cachebridge.engine.values import Values

INT64 = range(-(2**63), 2**63)


class Operations:
    """What can be done with the keys of one cache.  Thread safe.

    Every method raises L2Error if L2 cannot answer; L1 then holds nothing in doubt.
    """

    def __init__(
        self,
        engine: Engine,
        values: Values,
        *,
        fill: Callable[[Sequence[str]], Fill | Direct],
        write: Callable[[Sequence[str]], Write | Direct],
        notice_read: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._l2 = engine.l2
        self._counters = engine.counters
        self._values = values
        self._fill = fill
        self._write = write
        self._notice_read = notice_read

    # -- reading ---------------------------------------------------------------------

    def get(self, key: str) -> Any | Missing:
        """Return the value, MISSING if there is none."""
        value = self.get_from_l1(key)
        return self._get_from_l2(key)[0] if value is MISSING else value

    def get_from_l1(self, key: str) -> Any | Missing:
        """Return the value if L1 may answer; never waits."""
        entry = self._engine.usable_entry(key)
        if entry is None:
            return MISSING
        value = self._values.copies.value_of(entry)
        if value is not MISSING:
            self._engine.l1.note(key)
            self._counters.l1_hits += 1
        return value

    def _get_from_l2(self, key: str) -> tuple[Any | Missing, bytes | None]:
        self._notice_read()
        with self._fill((key,)) as fill:
            raw, ttl_ms = self._l2.get(key)
            value = self._take(fill, key, raw, ttl_ms)
        self._discard_unreadable([(key, raw)] if value is MISSING else [])
        return value, raw

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values that exist; one round trip for all that L1 lacks."""
        found: dict[str, Any] = {}
        wanted = []
        for key in dict.fromkeys(keys):
            value = self.get_from_l1(key)
            if value is MISSING:
                wanted.append(key)
            else:
                found[key] = value
        if wanted:
            self._notice_read()
        unreadable = []
        for start in range(0, len(wanted), MAX_KEYS):
            batch = wanted[start : start + MAX_KEYS]
            with self._fill(batch) as fill:
                reads = self._l2.get_many(batch)
                for key, (raw, ttl_ms) in zip(batch, reads, strict=True):
                    value = self._take(fill, key, raw, ttl_ms)
                    if value is not MISSING:
                        found[key] = value
                    else:
                        unreadable.append((key, raw))
        self._discard_unreadable(unreadable)
        return found

    def has_key(self, key: str) -> bool:
        """Tell whether the key exists; a usable L1 entry is proof enough."""
        return self._engine.usable_entry(key) is not None or self._is_in_l2(key)

    def _is_in_l2(self, key: str) -> bool:
        with self._fill((key,)) as fill:
            exists = self._l2.exists(key)
            if not exists:
                fill.refuse(key)
        return exists

    def _take(
        self, fill: Fill | Direct, key: str, raw: bytes | None, ttl_ms: int
    ) -> Any | Missing:
        """Decode what L2 answered, and let L1 have it if the rules allow."""
        value = MISSING if raw is None else self._values.decode(key, raw)
        if raw is None or value is MISSING:
            self._counters.misses += 1
            fill.refuse(key)
            return MISSING
        self._counters.l2_hits += 1
        self._values.take_read(fill, key, value, raw, ttl_ms)
        return value

    def _discard_unreadable(self, reads: list[tuple[str, bytes | None]]) -> None:
        """Delete bytes that could not be decoded, unless they have changed since."""
        for key, raw in reads:
            if raw is not None:
                with self._write((key,)) as write:
                    self._l2.replace(key, raw, None, self._message(write))

    # -- writing ---------------------------------------------------------------------

    def _message(self, write: Write | Direct) -> bytes | None:
        return self._engine.message_of(write, write.keys)

    def set(self, key: str, value: Any, ttl_ms: int | None) -> None:
        """Set the value; a TTL that is over deletes the key."""
        raw = self._values.encode(value)
        if ttl_ms == 0:
            self.delete(key)
            return
        with self._write((key,)) as write:
            self._l2.store(((key, raw),), ttl_ms, self._message(write))
            self._values.take_written(write, {key: value}, {key: raw}, ttl_ms)

    def set_many(self, items: Mapping[str, Any], ttl_ms: int | None) -> None:
        """Set all values: one round trip and one message per thousand keys."""
        encoded = {key: self._values.encode(value) for key, value in items.items()}
        if ttl_ms == 0:
            self.delete_many(encoded)
            return
        for keys in batches(list(encoded)):
            with self._write(keys) as write:
                pairs = [(key, encoded[key]) for key in keys]
                self._l2.store(pairs, ttl_ms, self._message(write))
                self._values.take_written(write, items, encoded, ttl_ms)

    def add(self, key: str, value: Any, ttl_ms: int | None) -> bool:
        """Set the value if the key does not exist; tell whether it did not."""
        raw = self._values.encode(value)
        if ttl_ms == 0:
            return not self._is_in_l2(key)
        return self.add_encoded(key, value, raw, ttl_ms)

    def add_encoded(self, key: str, value: Any, raw: bytes, ttl_ms: int | None) -> bool:
        """Add a value whose bytes are known."""
        with self._write((key,)) as write:
            added = self._l2.add(key, raw, ttl_ms, self._message(write))
            if added:
                self._values.take_written(write, {key: value}, {key: raw}, ttl_ms)
            else:
                self._engine.retract_message(write)
        return added

    def touch(self, key: str, ttl_ms: int | None) -> bool:
        """Give the key a new TTL; tell whether it exists."""
        if ttl_ms == 0:
            return self.delete(key)
        with self._write((key,)) as write:
            exists = self._l2.touch(key, ttl_ms, self._message(write))
            if not exists:
                self._engine.retract_message(write)
        return exists

    def delete(self, key: str) -> bool:
        """Delete the key; tell whether L2 had it."""
        with self._write((key,)) as write:
            return self._l2.delete((key,), self._message(write)) > 0

    def delete_many(self, keys: Iterable[str]) -> int:
        """Delete all keys; return how many L2 had."""
        wanted = list(dict.fromkeys(keys))
        deleted = 0
        for batch in batches(wanted) if wanted else []:
            with self._write(batch) as write:
                deleted += self._l2.delete(batch, self._message(write))
        return deleted

    # -- several steps -----------------------------------------------------------------

    def incr(self, key: str, delta: Any) -> Any:
        """Add ``delta`` and keep the TTL; MissingKeyError if there is no such key."""
        integer = type(delta) is int and delta in INT64
        return self._drive(incr_plan(key, delta, integer=integer))

    def incr_in_l2(self, key: str, delta: int) -> int | str | None:
        """Add to an integer of L2."""
        with self._write((key,)) as write:
            answer = self._l2.incr(key, delta, self._message(write))
            if type(answer) is not int:
                self._engine.retract_message(write)
        return answer

    def replace(self, key: str, expected: bytes, value: Any) -> bool:
        """Set the value, keeping its TTL, if its bytes still are as expected."""
        raw = self._values.encode(value)
        with self._write((key,)) as write:
            replaced = self._l2.replace(key, expected, raw, self._message(write))
            if not replaced:
                self._engine.retract_message(write)
        return replaced

    def get_or_load(
        self, key: str, loader: Callable[[], Any], ttl_ms: int | None
    ) -> Any:
        """Return the value, loading and adding it if there is none.

        One thread of the process reads L2 and runs the loader for all that ask.
        """
        value = self.get_from_l1(key)
        if value is not MISSING:
            return value

        def load() -> tuple[Any, bytes, int | None]:
            loaded = loader()
            if not isinstance(loaded, Loaded):
                return loaded, self._values.encode(loaded), None
            if not loaded.store:
                raise UnsharedError(loaded.value)
            return loaded.value, self._values.encode(loaded.value), loaded.ttl_ms

        def lead(flight: LoadFlight) -> Any:
            steps: dict[str, Callable[..., Any]] = {
                "load": load,
                "read_raw": self.read_raw,
                "add_encoded": self.add_encoded,
            }
            renewing = {name: flight.renewing(step) for name, step in steps.items()}
            return self._drive(load_plan(key, ttl_ms), **renewing)

        try:
            raw = self._engine.flights.lead_or_follow(key, lead)
        except UnsharedError as unshared:
            return unshared.value
        value = MISSING if raw is None else self._values.decode(key, raw)
        if value is not MISSING:
            return value
        loaded = loader()
        return loaded.value if isinstance(loaded, Loaded) else loaded

    def read_raw(self, key: str) -> bytes | None:
        """Return the bytes of a value that can be decoded, from L2."""
        value, raw = self._get_from_l2(key)
        return None if value is MISSING else raw

    def decode(self, key: str, raw: bytes) -> Any | Missing:
        """Return the value of some bytes."""
        return self._values.decode(key, raw)

    def clear(self, pattern: KeyPattern) -> None:
        """Delete every key of the pattern from L2 and from every L1."""
        self._engine.rules.on_prefix(pattern.prefix)
        self._drive(clear_plan(*pattern))

    def scan(self, glob: str, cursor: int) -> tuple[int, list[str]]:
        """Make one step through the keys of L2."""
        return self._l2.scan(glob, cursor)

    def publish_prefix(self, prefix: str) -> None:
        """Tell everybody to drop the keys with this prefix."""
        self._engine.broadcast_prefix(prefix)

    def _drive(self, plan: Plan, **special: Callable[..., Any]) -> Any:
        """Carry a plan out, step by step."""
        result = None
        while True:
            try:
                step = plan.send(result)
            except StopIteration as done:
                return done.value
            call = special.get(step.name) or getattr(self, step.name)
            result = call(*step.args)


def coherent_operations(engine: Engine, values: Values) -> Operations:
    """Operations on keys that L1 may hold."""
    return Operations(
        engine,
        values,
        fill=partial(Fill, engine.rules),
        write=partial(Write, engine.rules),
        notice_read=engine.notice_read,
    )


def direct_operations(engine: Engine, values: Values) -> Operations:
    """Operations on keys that never enter L1."""
    return Operations(
        engine, values, fill=Direct, write=Direct, notice_read=lambda: None
    )
