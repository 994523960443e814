"""Three engines that degrade, one memory server, one clock: everything else is a seed.

One thread takes all steps.  A loader may do something else in the middle, as others do
while it runs.  What a read may return is known from the server's own past.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from cachebridge.codec.values import SERIALIZERS
from cachebridge.config import CacheOptions, EngineOptions
from cachebridge.core.entry import ABSENT, MISSING
from cachebridge.core.keys import KeyPattern
from cachebridge.core.loading import LoadTerms
from cachebridge.engine.binding import Binding
from cachebridge.engine.engine import Engine
from cachebridge.errors import CacheBridgeError
from cachebridge.l2.location import parse_location
from cachebridge.l2.memory.server import MemoryServer
from cachebridge.l2.memory.store import MemoryStore
from cachebridge.testing import ChaosBus, ChaosL2, FakeClock
from tests.rig import Plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.engine.loading.load import Load
    from cachebridge.testing.chaos import ChaosLink

LOCATION: Final = parse_location("memory://chaos")
KEYS: Final = ("a", "b", "c")
DROP: Final = 0.05
"""In every other schedule: a new subscription heals what else may be wrong."""
TRUST_S: Final = 2.0
OUTAGE_TTL_S: Final = 6.0
TIMEOUT_S: Final = 0.5
TICK_S: Final = 1e-6
"""A call takes time: late deletes go by what came before it, and what after."""
OPTIONS: Final = EngineOptions(
    l1_sweep=0.0,  # a thread would come at any time
    bus_trust=TRUST_S,
    breaker_failures=2,
    breaker_retry=1.0,
    outage_ttl=OUTAGE_TTL_S,
)
LOAD_TERMS: Final = LoadTerms(lease_ms=2000)
_decode = SERIALIZERS["pickle"].decode


class StepwiseRefresher:
    """Stands in for the background threads: its tasks are steps of the schedule."""

    def __init__(self) -> None:
        self._tasks: dict[str, Callable[[], None]] = {}

    def submit(self, key: str, task: Callable[[], None]) -> bool:
        return self._tasks.setdefault(key, task) is task

    def is_idle(self) -> bool:
        return not self._tasks

    def stop(self, _timeout_s: float = 0.0) -> None:
        self._tasks.clear()

    def run(self) -> None:
        tasks, self._tasks = self._tasks, {}
        for task in tasks.values():
            task()


class ChaosEngine(Engine):
    """A real engine on a store and a bus with faults."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        super().__init__(
            LOCATION, OPTIONS, clock=world.clock, memory_server=world.server
        )
        self.l2 = ChaosL2(
            MemoryStore(world.server),
            seed=f"{world.seed}/{number}",
            clock=world.clock,
            breaker=self.breaker,
            fail_before=0.03,
            fail_after=0.03,
            fail_late=0.03,
            delay_s=0.01,
            timeout_s=TIMEOUT_S,
        )
        self.random.seed(f"{world.seed}/{number}")
        self.refresher = StepwiseRefresher()
        self.listening.start()

    def _make_bus(self) -> ChaosLink:
        return self._world.bus.link(self.receiver)


async def wait(load: Load, lease_s: float, _attempt: int) -> None:
    """Take the place of ``Load.wait``: another's lease passes on the clock."""
    load._engine.clock.advance(lease_s + 0.001)


class Process:
    """An engine, a cache of it, and what its process knows."""

    def __init__(self, world: World, number: int) -> None:
        self.name = f"process {number}"
        self.engine = ChaosEngine(world, number)
        binding = Binding(self.engine, CacheOptions(timeout=None))
        binding.can_be_cleared_by(KeyPattern("*", ""))
        self.cache = Plain(binding.coherent.for_threads)
        self.floor = dict.fromkeys(KEYS, 0)
        """By key, the oldest version that may still be read here."""

    def refusals(self) -> tuple[int, int, bool]:
        """Return what changes if a call was answered without the server."""
        engine = self.engine
        away = engine.breaker.is_open or engine.rules.outage.is_active
        return engine.counters.degraded, engine.counters.outages, away


class World:
    """One schedule."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.clock = FakeClock()
        self.server = MemoryServer(self.clock)
        self.bus = ChaosBus(
            seed=seed,
            clock=self.clock,
            drop=DROP * (seed % 2),
            duplicate=0.05,
            reorder=0.3,
        )
        self.server.subscribers.append(self.bus.publish)
        self._random = random.Random(f"world/{seed}")
        self._values = iter(range(1, 1_000_000))
        self.versions: dict[str, list[tuple[float, Any]]] = {
            key: [(self.clock(), None)] for key in KEYS
        }
        self.trace: list[tuple[object, ...]] = []
        self.wrong: list[str] = []
        self.done: Counter[str] = Counter()
        self._is_loading = False
        self.processes = [Process(self, number) for number in range(3)]
        self.bus.settle()
        self.bus._drop = DROP * (seed % 2)

    # -- the server's past ---------------------------------------------------------

    def note_versions(self) -> None:
        """Keep what every key has become."""
        for key, versions in self.versions.items():
            item = self.server.peek(key)
            value = None if item is None else _decode(item[0])
            if value != versions[-1][1]:
                versions.append((self.clock(), value))

    def version_of(self, key: str, value: Any) -> int:
        """Return the latest version with this value, -1 if the key never had it."""
        versions = self.versions[key]
        for index in range(len(versions) - 1, -1, -1):
            if versions[index][1] == value:
                return index
        return -1

    # -- steps -----------------------------------------------------------------------

    def run(self, steps: int) -> None:
        """Take random steps, then end all faults and compare."""
        kinds: tuple[tuple[Callable[[], object], int], ...] = (
            (self._operate, 60),
            (lambda: self.bus.deliver(self._random.randint(1, 4)), 30),
            (self._beat, 12),
            (lambda: self.clock.advance(self._random.uniform(0.0, 0.3)), 12),
            (lambda: self.clock.advance(TRUST_S), 1),
            (self._stall, 2),
            (self._recover, 4),
            (self._repair, 3),
            (self._behind, 6),
            (self._late, 4),
        )
        calls, weights = zip(*kinds, strict=True)
        for _ in range(steps):
            (step,) = self._random.choices(calls, weights)
            step()
            self.note_versions()
        self._end()

    def _beat(self) -> None:
        """Heartbeats are commands, too: none while the server is stalled."""
        if not any(each.engine.l2.is_stalled for each in self.processes):
            self.bus.beat()

    def _stall(self) -> None:
        for process in self.processes:
            process.engine.l2.stall()

    def _recover(self) -> None:
        for process in self.processes:
            process.engine.l2.recover()

    def _repair(self) -> None:
        if not any(each.engine.l2.is_stalled for each in self.processes):
            self.bus.repair()

    def _behind(self) -> None:
        for process in self.processes:
            process.engine.refresher.run()

    def _late(self) -> None:
        for process in self.processes:
            process.engine.l2.carry_out_late()

    # -- operations --------------------------------------------------------------------

    def _operate(self) -> None:
        process, key = self._random.choice(self.processes), self._random.choice(KEYS)
        names = ("get", "set", "delete", "load", "get_many", "set_many", "clear")
        (name,) = self._random.choices(names, (30, 12, 6, 12, 6, 2, 1))
        if self._is_loading and name == "load":
            return  # it would wait for itself
        self.done[name] += 1
        getattr(self, f"_{name}")(process, key)

    def _asked(self, process: Process, call: Callable[[], Any]) -> tuple[Any, bool]:
        """Return the answer, and whether the server, or L1 in its place, gave it."""
        before = process.refusals()
        self.clock.advance(TICK_S)
        answer = call()
        self.note_versions()
        after = process.refusals()
        is_real = before == after and not after[2]
        self.trace.append((process.name, repr(answer), is_real, self.clock()))
        return answer, is_real

    def _get(self, process: Process, key: str) -> None:
        value, is_real = self._asked(process, lambda: process.cache.get(key))
        if is_real:
            self._judge(process, key, None if value is MISSING else value)

    def _get_many(self, process: Process, _key: str) -> None:
        found, is_real = self._asked(process, lambda: process.cache.get_many(KEYS))
        for key in KEYS if is_real else ():
            self._judge(process, key, found.get(key))

    def _judge(self, process: Process, key: str, value: Any) -> None:
        where = f"{process.name} at {self.clock():.3f} read {value} of {key!r}"
        version = self.version_of(key, value)
        if version < 0:
            self.wrong.append(f"{where}, which the server never had")
            return
        if version < process.floor[key]:
            self.wrong.append(f"{where}, having known version {process.floor[key]}")
        process.floor[key] = max(process.floor[key], version)
        later = self.versions[key][version + 1 :]
        if later and self.clock() - later[0][0] > TRUST_S + TIMEOUT_S:
            self.wrong.append(f"{where}, superseded at {later[0][0]:.3f}")

    def _changed(self, process: Process, keys: tuple[str, ...], call: Any) -> None:
        """After a change, done or pending, its process reads nothing older."""
        before = {key: len(self.versions[key]) for key in keys}
        had = {key: self.versions[key][-1][1] for key in keys}
        _, is_real = self._asked(process, call)
        for key in keys:
            floor = before[key]
            if len(self.versions[key]) == floor and had[key] is None:
                floor -= 1  # it was absent before, and may remain so
            elif is_real:
                floor = len(self.versions[key]) - 1
            process.floor[key] = max(process.floor[key], floor)

    def _set(self, process: Process, key: str) -> None:
        value = next(self._values)
        self._changed(process, (key,), lambda: process.cache.set(key, value, None))

    def _set_many(self, process: Process, _key: str) -> None:
        items = {key: next(self._values) for key in KEYS}
        self._changed(process, KEYS, lambda: process.cache.set_many(items, None))

    def _delete(self, process: Process, key: str) -> None:
        self._changed(process, (key,), lambda: process.cache.delete(key))

    def _clear(self, process: Process, _key: str) -> None:
        pattern = KeyPattern("*", "")
        self._changed(process, KEYS, lambda: process.cache.clear(pattern))

    def _load(self, process: Process, key: str) -> None:
        value, written = next(self._values), 0

        def loader() -> int:
            nonlocal written
            self.note_versions()  # pending deletes may have been replayed first
            before = len(self.versions[key])
            self._is_loading = True
            for _ in range(self._random.choice((0, 0, 1, 3))):
                self._operate()
            self._is_loading = False
            written = len(self.versions[key]) - before
            return value

        try:
            self._asked(
                process,
                lambda: process.cache.get_or_load(key, loader, None, LOAD_TERMS),
            )
        except CacheBridgeError as exc:
            self.wrong.append(f"{process.name} got {exc!r} from a load")
        if written and self.version_of(key, value) >= 0:
            self.wrong.append(f"a load undid a write of {key!r} during its loader")

    # -- the end -----------------------------------------------------------------------

    def _end(self) -> None:
        """End all faults; then every process has what the server has."""
        for process in self.processes:
            process.engine.l2.stop_faults()
            process.engine.l2.carry_out_late()
        self.clock.advance(2 * LOAD_TERMS.lease_ms / 1000)
        self.bus.settle()
        self._behind()
        self.bus.settle()
        for process in self.processes:
            engine = process.engine
            if engine.outage.pending_deletes or engine.breaker.is_open:
                self.wrong.append(f"{process.name} has not recovered")
            if not (engine.rules.is_idle() and engine.single_flight.is_idle()):
                self.wrong.append(f"{process.name} has something open")
            for key in KEYS:
                item = self.server.peek(key)
                truth = None if item is None else _decode(item[0])
                for _ in range(2):
                    value = process.cache.get(key)
                    seen = None if value in {MISSING, ABSENT} else value
                    if seen != truth:
                        self.wrong.append(
                            f"at rest {process.name} has {seen} of {key!r}, "
                            f"the server {truth}"
                        )

    def fired(self) -> Counter[str]:
        """Count the faults."""
        total = self.bus.fired.copy()
        for process in self.processes:
            total.update(process.engine.l2.fired)
        return total
