"""One process under test: threads that read and write at random and log every call.

Run as ``python -m tests.proofs.processes.worker '<settings as JSON>'``.  It answers
each line on its standard input with one line of JSON: ``stop`` ends the load,
``report`` reads every key, the end of the input ends the process.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
import sys
import threading
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cachebridge import Cache, L2Error, MissingKeyError
from cachebridge.core.keys import escape_glob
from tests.proofs.processes import mutants
from tests.proofs.processes.history import ABSENT, PRESENT, Items, Log
from tests.proofs.processes.rhythm import Rhythm
from tests.proofs.processes.strikes import StruckError, Target
from tests.proofs.processes.values import (
    COLD,
    COUNTERS,
    HOT,
    KEYS,
    TAGGED,
    CorruptValueError,
    counter_base,
    ident_of,
    identity,
    make_value,
    spoil,
    tags_of,
)
from tests.rig import engine_of

if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE_S: Final = 0.002
FOCUS: Final = 4
COLD_SHARE: Final = 0.04
STORM: Final = 12
STORMY: Final = (8, 3, 1)
"""How often a storm loads, sets and deletes."""
STRIKES: Final = 60
CORRUPT: Final = -1
TTL_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What a worker is told."""

    url: str
    options: dict[str, Any]
    seed: int
    writer: int
    threads: int
    started: float
    directory: str

    def to_json(self) -> str:
        """Return the command line argument."""
        return json.dumps(asdict(self))


class Load:
    """The random operations of one thread."""

    def __init__(self, cache: Cache, settings: Settings, thread: int) -> None:
        self._cache = cache
        self.target = Target()
        self._settings = settings
        self._rhythm = Rhythm(settings.started)
        self._random = random.Random(f"{settings.seed}/{settings.writer}/{thread}")
        self._log = Log(Path(settings.directory, f"{settings.writer}.{thread}.log"))
        numbers = itertools.count(thread + 1, settings.threads + 1)
        self._next_number = numbers.__next__
        lists_keys = "memcached" not in settings.url
        self._kinds, self._weights = zip(
            *[
                (self._get, 24),
                (self._get_many, 8),
                (self._has_key, 4),
                (self._bypass, 2),
                (self._load, 8),
                (self._set, 12),
                (self._set_many, 3),
                (self._add, 4),
                (self._delete, 5),
                (self._delete_many, 2),
                (self._delete_pattern, 2 if lists_keys else 0),
                (self._invalidate, 5),
                (self._incr, 8),
                (self._touch, 3),
                (self._storm, 4),
            ],
            strict=True,
        )

    def run(self, is_over: threading.Event) -> None:
        """Go on until told to end."""
        while not is_over.is_set():
            (kind,) = self._random.choices(self._kinds, self._weights)
            kind()
            time.sleep(self._random.expovariate(1 / PAUSE_S))
        self.close()

    def close(self) -> None:
        """End the log."""
        self._log.close()

    # -- keys and values ------------------------------------------------------------

    def _readable(self) -> list[str]:
        """The keys this process reads now: what it does not read stays in its L1."""
        chance = random.Random(
            f"{self._settings.seed}/{self._settings.writer}/{self._rhythm.slice()}"
        )
        return chance.sample(KEYS, FOCUS)

    def _key_to_read(self) -> str:
        return self._random.choice(self._readable())

    def _key_to_write(self) -> str:
        """Mostly hot keys; cold ones rest at times, so that nothing heals them.

        A stale entry of a key that is written all the time does not stay for long.
        """
        keys = HOT + COUNTERS
        if not self._rhythm.is_resting() and self._random.random() < COLD_SHARE:
            keys = COLD
        return self._random.choice(keys)

    def _new(self, key: str) -> int:
        make = counter_base if key in COUNTERS else identity
        return make(self._settings.writer, self._next_number())

    def _ttl(self) -> float | None:
        return self._random.choice((None, TTL_S))

    def _seen(self, key: str, value: Any) -> int | None:
        if value is None:
            return ABSENT
        try:
            ident = ident_of(key, value)
        except (CorruptValueError, ValueError):
            return CORRUPT
        spoil(value)
        return ident

    # -- logging ----------------------------------------------------------------------

    def _read(self, kind: str, call: Callable[[], Items]) -> None:
        begin = time.monotonic()
        try:
            items = self.target.during(call)
        except (L2Error, StruckError) as exc:
            self._log.fail_read(kind, begin, time.monotonic(), _reason(exc))
        else:
            self._log.read(kind, begin, time.monotonic(), items)

    def _write(self, kind: str, items: Items, call: Callable[[], Any]) -> None:
        self._log.intend(kind, time.monotonic(), items)
        try:
            result = self.target.during(call)
        except (L2Error, StruckError) as exc:
            self._log.fail(time.monotonic(), _reason(exc))
        except MissingKeyError:
            self._log.answer(time.monotonic(), "missing")
        else:
            self._log.answer(time.monotonic(), result)

    # -- operations -------------------------------------------------------------------

    def _get(self) -> None:
        """Several times in a row: the first may fill L1, the others hit it."""
        key = self._key_to_read()
        for _ in range(self._random.choice((1, 2, 5))):
            self._read("get", lambda: [(key, self._seen(key, self._cache.get(key)))])

    def _get_many(self) -> None:
        def call() -> Items:
            found = self._cache.get_many(keys)
            return [(key, self._seen(key, found.get(key))) for key in keys]

        keys = self._random.sample(self._readable(), 3)
        self._read("get_many", call)

    def _has_key(self) -> None:
        key = self._key_to_read()
        self._read(
            "has_key",
            lambda: [(key, PRESENT if self._cache.has_key(key) else ABSENT)],
        )

    def _bypass(self) -> None:
        def call() -> Items:
            with self._cache.bypass_l1():
                return [(key, self._seen(key, self._cache.get(key)))]

        key = self._key_to_read()
        self._read("bypass", call)

    def _touch(self) -> None:
        key = self._key_to_write()
        self._read(
            "touch",
            lambda: [(key, PRESENT if self._cache.touch(key, self._ttl()) else ABSENT)],
        )

    def _storm(self) -> None:
        """The threads of the process meet on one key, without a pause."""
        key = HOT[self._rhythm.slice() % len(HOT)]
        for _ in range(STORM):
            (call,) = self._random.choices(
                (self._load, self._set, self._delete), STORMY
            )
            call(key)

    def _load(self, key: str = "") -> None:
        """A load is a write from when its loader runs, a read if it does not."""
        key = key or self._key_to_write()
        called = time.monotonic()
        loaded = False

        def loader() -> Any:
            nonlocal loaded
            self.target.close()
            loaded = True
            ident = self._new(key)
            self._log.intend("load", called, [(key, ident)])
            self.target.open()
            return make_value(key, ident)

        ttl = self._ttl()
        try:
            value = self.target.during(
                lambda: self._cache.get_or_load(key, loader, ttl, tags=tags_of(key))
            )
        except (L2Error, StruckError) as exc:
            end = time.monotonic()
            if loaded:
                self._log.fail(end, _reason(exc))
            else:
                self._log.fail_read("load", called, end, _reason(exc))
            return
        end = time.monotonic()
        seen = self._seen(key, value)
        if loaded:
            self._log.answer(end, seen)
        else:
            self._log.read("load", called, end, [(key, seen)])

    def write_cold(self) -> None:
        """Change every cold key once: for those who cannot hear of it."""
        for key in COLD:
            if self._random.random() < 0.7:
                self._set(key)
            else:
                self._delete(key)

    def _set(self, key: str = "") -> None:
        key = key or self._key_to_write()
        ident = self._new(key)
        self._write(
            "set",
            [(key, ident)],
            lambda: self._cache.set(
                key, make_value(key, ident), self._ttl(), tags=tags_of(key)
            ),
        )

    def _set_many(self) -> None:
        keys = [key for key in self._some_to_write() if key not in TAGGED]
        idents = {key: self._new(key) for key in keys}
        if not idents:
            return
        values = {key: make_value(key, ident) for key, ident in idents.items()}
        self._write(
            "set_many",
            list(idents.items()),
            lambda: self._cache.set_many(values, self._ttl()),
        )

    def _add(self) -> None:
        key = self._key_to_write()
        ident = self._new(key)
        self._write(
            "add",
            [(key, ident)],
            lambda: self._cache.add(
                key, make_value(key, ident), self._ttl(), tags=tags_of(key)
            ),
        )

    def _delete(self, key: str = "") -> None:
        key = key or self._key_to_write()
        self._write("delete", [(key, ABSENT)], lambda: self._cache.delete(key))

    def _delete_many(self) -> None:
        keys = self._some_to_write()
        self._write(
            "delete_many",
            [(key, ABSENT) for key in keys],
            lambda: self._cache.delete_many(keys),
        )

    def _delete_pattern(self) -> None:
        key = self._key_to_write()
        pattern = escape_glob(key)
        self._write(
            "delete_pattern",
            [(key, ABSENT)],
            lambda: self._cache.delete_pattern(pattern) > 0,
        )

    def _invalidate(self) -> None:
        key = self._random.choice(TAGGED)
        if key in COLD and self._rhythm.is_resting():
            return
        tags = tags_of(key) or []
        self._write(
            "invalidate",
            [(key, ABSENT)],
            lambda: self._cache.invalidate_tags(*tags),
        )

    def _incr(self) -> None:
        key = self._random.choice(COUNTERS)
        self._write("incr", [(key, 1)], lambda: self._cache.incr(key))

    def _some_to_write(self) -> list[str]:
        return list(dict.fromkeys(self._key_to_write() for _ in range(3)))


def _reason(exc: BaseException) -> str:
    cause = exc.__cause__
    return f"{type(exc).__name__} from {type(cause).__name__}: {cause}"[:160]


def _where(thread: threading.Thread) -> str:
    """Return the name of a thread, and the calls that it is in."""
    frame = sys._current_frames().get(thread.ident or 0)
    return "".join([f"{thread.name}\n", *traceback.format_stack(frame)])


class Worker:
    """The threads, and the answers to the driver."""

    load_class = Load
    keys = KEYS

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cache = Cache(settings.url, **settings.options)
        self._is_over = threading.Event()
        self._on_demand = self._load(settings.threads)
        self._failures: list[str] = []
        self._targets: list[Target] = []
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True)
            for number in range(settings.threads)
        ]

    def _load(self, number: int) -> Load:
        return self.load_class(self._cache, self._settings, number)

    def _run(self, number: int) -> None:
        try:
            load = self._load(number)
            self._targets.append(load.target)
            load.run(self._is_over)
        except BaseException:
            self._failures.append(traceback.format_exc())

    def serve(self) -> None:
        """Start the load and answer until the driver goes away."""
        for thread in self._threads:
            thread.start()
        answers: dict[str, Callable[[], dict[str, Any]]] = {
            "ready": dict,
            "write_cold": self._write_cold,
            "strike": self._strike,
            "stop": self._stop,
            "report": self._report,
        }
        for line in sys.stdin:
            print(json.dumps(answers[line.strip()]()), flush=True)

    def _write_cold(self) -> dict[str, Any]:
        self._on_demand.write_cold()
        return {}

    def _strike(self) -> dict[str, Any]:
        """Strike every thread many times, wherever it is in a call."""
        struck = 0
        for _ in range(STRIKES):
            struck += sum(target.strike() for target in self._targets)
            time.sleep(PAUSE_S)
        return {"struck": struck}

    def _stop(self) -> dict[str, Any]:
        self._is_over.set()
        self._on_demand.close()
        for thread in self._threads:
            thread.join(20)
        stuck = [_where(thread) for thread in self._threads if thread.is_alive()]
        return {"failures": self._failures, "stuck": stuck}

    def _report(self) -> dict[str, Any]:
        """Read each key twice, the second time from L1 if it is in use."""
        engine = engine_of(self._cache)
        values: dict[str, list[int | None]] = {}
        error = ""
        try:
            for key in self.keys:
                reads = [self._cache.get(key) for _ in range(2)]
                values[key] = [ident_or_none(key, value) for value in reads]
        except Exception:
            error = traceback.format_exc()
        stats = self._cache.stats()
        return {
            "error": error,
            "values": values,
            "trusted": stats.trusted,
            "in_outage": engine.breaker.is_open or bool(engine.outage.pending_deletes),
            "idle": engine.rules.is_idle() and engine.single_flight.is_idle(),
            "l1_hits": stats.l1_hits + stats.l1_shared_hits,
            "shared": stats.l1_shared_hits,
            "l2_hits": stats.l2_hits,
            "evictions": stats.evictions,
            "flushes": stats.flushes,
            "refused": stats.fills_refused,
        }


def ident_or_none(key: str, value: Any) -> int | None:
    """Return the identity of a value that may be absent."""
    return None if value is None else ident_of(key, value)


def main(worker: type[Worker] = Worker) -> None:
    """Run the worker; without a server left to talk to it just ends."""
    logging.disable()  # faults are what this is about: no line for each
    mutants.apply(os.environ.get(mutants.VARIABLE, ""))
    worker(Settings(**json.loads(sys.argv[1]))).serve()
    os._exit(0)


if __name__ == "__main__":
    main()
