"""A worker that goes on while Redis is away, and logs which answers were made up.

The kind of such a call ends with ``~``.  A write that got no answer from the server is
logged as failed, ``degraded``.  The later delete of its key is a write of its own,
``replay``, logged by the thread that carries it out.
"""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cachebridge import ABSENT as NO_SUCH_THING
from cachebridge import Cache, CounterUnavailableError, L2Error, MissingKeyError
from cachebridge.core.keys import matcher_of
from cachebridge.engine.loading import load as engine_load
from cachebridge.engine.outage.pending_deletes import PendingDeletes
from cachebridge.engine.outage.state import Outage
from tests.proofs.processes.history import ABSENT, Items, Log
from tests.proofs.processes.values import KEYS, STAMPED, make_value, tags_of
from tests.proofs.processes.worker import Load, Worker, main
from tests.rig import engine_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from cachebridge.core.keys import KeyPattern
    from cachebridge.engine.outage.pending_deletes import Deletes
    from tests.proofs.processes.worker import Settings

ZONE_PREFIX: Final = "zone:"
ZONE: Final = tuple(f"{ZONE_PREFIX}{number}" for number in range(3))
FRESH: Final = tuple(f"fresh{number}" for number in range(4))
SOAK_KEYS: Final = (*KEYS, *ZONE)
TTL_S: Final = 3600.0
FRESH_TTL_S: Final = 0.4
FRESH_TERMS: Final[tuple[dict[str, float], ...]] = (
    {"stale_ttl": 0.5, "early_refresh": 1.0},
    {"negative_ttl": 0.3},
    {"stale_if_error": 0.5, "stale_ttl": 0.1},
    {"lease_ttl": 0.3},
)
FRESH_LIFE_S: Final = 0.4 + 0.5
"""The longest TTL and the longest time that a value is served past it."""
DEGRADED: Final = "degraded"
LOADED_AWAY: Final = "degraded: loaded without the server, and never sent to it"
MADE_UP: Final = "~"
NOTHING: Final = "nothing"
FIRST_EXTRA_THREAD: Final = 100

_here = threading.local()


class LoaderError(Exception):
    """What the loaders of this test raise now and then."""


class Watch:
    """Tells whether calls of this thread were answered while the server was in use."""

    def __init__(self, cache: Cache) -> None:
        engine = engine_of(cache)
        self._rules, self._counters = engine.rules, engine.counters
        self._breaker = engine.breaker

    @contextmanager
    def calls(self) -> Iterator[Watch]:
        """Watch the calls within the context."""
        _here.degraded = _here.loaded_away = False
        outages, was_away = self._counters.outages, self._is_away()
        yield self
        self.was_refused = _here.degraded
        self.was_away = (
            self.was_refused
            or was_away
            or self._is_away()
            or outages != self._counters.outages
        )

    def _is_away(self) -> bool:
        return self._breaker.is_open or self._rules.outage.is_active


_note = Outage.note


def _noting(self: Outage, exc: L2Error, kind: str) -> None:
    _here.degraded = True
    _note(self, exc, kind)


_load_without_l2 = engine_load.Load.load_without_l2


async def _load_without_l2_noting(self: engine_load.Load) -> Any:
    _here.loaded_away = True
    return await _load_without_l2(self)


class ReplayLog:
    """Logs the deletes that are carried out late."""

    def __init__(self, directory: Path, writer: int) -> None:
        self._directory = directory
        self._writer = writer
        self._numbers = itertools.count(FIRST_EXTRA_THREAD + 1)
        self._free: list[Log] = []
        replay = PendingDeletes._replay_all

        async def replay_logged(pending: PendingDeletes, deletes: Deletes) -> None:
            await replay(pending, LoggedDeletes(deletes, self))

        PendingDeletes._replay_all = replay_logged

    @contextmanager
    def log(self) -> Iterator[Log]:
        """Use a log that no other delete is writing to: a thread may do two at once."""
        try:
            log = self._free.pop()
        except IndexError:
            name = f"{self._writer}.{next(self._numbers)}.log"
            log = Log(self._directory / name)
        try:
            yield log
        finally:
            log.flush()
            self._free.append(log)


class LoggedDeletes:
    """Carries pending deletes out, and logs each."""

    def __init__(self, deletes: Deletes, logs: ReplayLog) -> None:
        self._deletes = deletes
        self._logs = logs

    async def delete(self, keys: Sequence[str]) -> None:
        await self._logged(keys, self._deletes.delete(keys))

    async def clear(self, pattern: KeyPattern) -> None:
        matches = matcher_of(pattern.glob)
        keys = [key for key in SOAK_KEYS if matches(key)]
        await self._logged(keys, self._deletes.clear(pattern))

    async def flush_db(self) -> None:
        await self._deletes.flush_db()

    async def _logged(self, keys: Iterable[str], call: Awaitable[object]) -> None:
        # To delete a stamp is to delete the values that hang on it.
        items = [(STAMPED.get(key, key), ABSENT) for key in keys]
        with self._logs.log() as log:
            log.intend("replay", time.monotonic(), items)
            try:
                await call
            except BaseException as exc:
                log.fail(time.monotonic(), repr(exc)[:160])
                raise
            # It has spared what others wrote since, so its effect is not known.
            log.fail(time.monotonic(), "carried out")


class SoakLoad(Load):
    """The random operations of one thread."""

    def __init__(self, cache: Cache, settings: Settings, thread: int) -> None:
        super().__init__(cache, settings, thread)
        self._zone = Cache(
            settings.url, **{**settings.options, "KEY_PREFIX": ZONE_PREFIX}
        )
        self._watch = Watch(cache)
        more = [
            (self._get_zone, 6),
            (self._set_zone, 4),
            (self._clear, 1),
            (self._fresh, 10),
            (self._forget_fresh, 1),
        ]
        self._kinds = (*self._kinds, *(kind for kind, _ in more))
        self._weights = (*self._weights, *(weight for _, weight in more))

    def _ttl(self) -> float | None:
        return self._random.choice((None, TTL_S))

    def _read(self, kind: str, call: Callable[[], Items]) -> None:
        begin = time.monotonic()
        with self._watch.calls() as watch:
            items = call()
        kind += MADE_UP if watch.was_away else ""
        self._log.read(kind, begin, time.monotonic(), items)

    def _write(self, kind: str, items: Items, call: Callable[[], Any]) -> None:
        self._log.intend(kind, time.monotonic(), items)
        result = None
        with self._watch.calls() as watch:
            try:
                result = call()
            except MissingKeyError:
                result = "missing"
            except CounterUnavailableError:
                assert _here.degraded, "this error is the answer for an outage"
        end = time.monotonic()
        if watch.was_refused:
            self._log.fail(end, DEGRADED)
        else:
            self._log.answer(end, result)

    def _load(self, key: str = "") -> None:
        if not key:  # as readers do: also keys that are hardly written
            key = self._random.choice((self._key_to_read(), self._key_to_write()))
        called = time.monotonic()
        loaded = False

        def loader() -> Any:
            nonlocal loaded
            loaded = True
            ident = self._new(key)
            self._log.intend("load", called, [(key, ident)])
            self._think()
            return make_value(key, ident)

        with self._watch.calls() as watch:
            value = self._cache.get_or_load(key, loader, self._ttl(), tags=tags_of(key))
        end = time.monotonic()
        seen = self._seen(key, value)
        if loaded and watch.was_refused:
            self._log.fail(end, LOADED_AWAY if _here.loaded_away else DEGRADED)
        elif loaded:
            self._log.answer(end, seen)
        else:
            kind = "load" + (MADE_UP if watch.was_away else "")
            self._log.read(kind, called, end, [(key, seen)])

    def _think(self) -> None:
        """Take a moment, now and then: others write meanwhile."""
        if self._random.random() < 0.3:
            time.sleep(self._random.uniform(0.0, 0.03))

    # -- a cache that is cleared ------------------------------------------------------

    def _get_zone(self) -> None:
        key = self._random.choice(ZONE)
        for _ in range(3):
            self._read("get", lambda: [(key, self._seen(key, self._cache.get(key)))])

    def _set_zone(self) -> None:
        self._set(self._random.choice(ZONE))

    def _clear(self) -> None:
        self._write("clear", [(key, ABSENT) for key in ZONE], self._zone.clear)

    # -- values that are stale, absent, refreshed -------------------------------------

    def _fresh(self) -> None:
        """Load with the terms of the key; its loader fails now and then."""
        key = self._random.choice(FRESH)
        terms = FRESH_TERMS[FRESH.index(key)]
        is_nothing = "negative_ttl" in terms and self._random.random() < 0.3
        fails = self._random.random() < 0.1

        def loader() -> Any:
            begin = time.monotonic()
            ident = self._new(key)
            self._think()
            if fails:
                raise LoaderError
            # Of its own: a refresh runs the loader in another thread.
            log = _own_log(self._settings)
            log.read("fresh-load", begin, time.monotonic(), [(key, ident)])
            log.flush()
            return NO_SUCH_THING if is_nothing else make_value(key, ident)

        begin = time.monotonic()
        with self._watch.calls() as watch:
            try:
                value = self._cache.get_or_load(
                    key, loader, FRESH_TTL_S, default=NOTHING, **terms
                )
            except LoaderError:
                return
        kind = "fresh" + (MADE_UP if watch.was_away else "")
        if value != NOTHING:
            items = [(key, self._seen(key, value))]
            self._log.read(kind, begin, time.monotonic(), items)

    def _forget_fresh(self) -> None:
        self._cache.delete(self._random.choice(FRESH))


_extra_threads = iter(range(10 * FIRST_EXTRA_THREAD, 100 * FIRST_EXTRA_THREAD))


def _own_log(settings: Settings) -> Log:
    log: Log | None = getattr(_here, "loads", None)
    if log is None:
        name = f"{settings.writer}.{next(_extra_threads)}.log"
        log = _here.loads = Log(Path(settings.directory, name))
    return log


class SoakWorker(Worker):
    """The threads, and the answers to the driver."""

    load_class = SoakLoad
    keys = (*SOAK_KEYS, *FRESH)

    def __init__(self, settings: Settings) -> None:
        Outage.note = _noting
        engine_load.Load.load_without_l2 = _load_without_l2_noting
        ReplayLog(Path(settings.directory), settings.writer)
        super().__init__(settings)


if __name__ == "__main__":
    main(SoakWorker)
