"""A world whose processes share one store (``core/host/sharing.py``): one L1 per host.

The store is the real one, in memory of this process.  Every use of it that other
processes or threads may overtake is a step of its own: each look-up, and each change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachebridge.core.entry import MISSING
from cachebridge.core.host.sharing import Sharing
from cachebridge.l1.shared.files import private_store
from cachebridge.l1.shared.layout import LEAST_BYTES
from tests.proofs.schedules.actors import UP, Actor, Process, Thread
from tests.proofs.schedules.doubles import KEY
from tests.proofs.schedules.scenarios import Scenario
from tests.proofs.schedules.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.core.host.sharing import Held
    from cachebridge.l1.shared.store import SharedStore
    from tests.proofs.schedules.invariants import Witness
    from tests.proofs.schedules.world import Step

HOST_BIT = 1 << 20
PROOF_S = 1.0


class SteppedHold:
    """Another actor may go on when the lock has been given back."""

    def __init__(self, world: World, hold: Held) -> None:
        self._world = world
        self._hold = hold
        self._depth = 0

    @property
    def is_held(self) -> bool:
        return self._hold.is_held

    def __enter__(self) -> None:
        self._depth += 1
        self._hold.__enter__()

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        self._hold.__exit__(*error)
        if not self._depth and self._world.running is not None and error[0] is None:
            self._world.running.wait_for_lock()


class SteppedStore:
    """The shared store of a world, for all its processes."""

    def __init__(self, world: World, store: SharedStore) -> None:
        self._world = world
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def hold(self, patience_s: float) -> SteppedHold:
        return SteppedHold(self._world, self._store.hold(patience_s))

    def look(self, key: str) -> tuple[float, bytes] | None:
        found, running = self._store.look(key), self._world.running
        if running is not None and not self._store._lock.threads.locked():
            running.found = found
            running.wait_for_lock()
        return found


class HostProcess(Process):
    """A process that shares the store of the world."""

    world: HostWorld

    def __init__(self, world: HostWorld, index: int) -> None:
        super().__init__(world, index)
        rules = self.engine.rules
        self.sharing = rules.sharing = Sharing(rules, patience_s=PROOF_S)
        self.sharing.use(world.shared)

    def listen(self, title: str, call: Callable[[], None]) -> None:
        if not self.world.threads:
            call()
            return
        self.listener = Actor(self.world, call, title)
        self.go_on()

    def value_in_l1(self, key: str) -> Any:
        value = super().value_in_l1(key)
        if value is MISSING and (found := self.sharing.look(key)) is not None:
            value = self.engine.values_for("pickle").decode(key, found[1])
        return value

    def key(self) -> tuple[Any, ...]:
        if self.dead:
            return ()
        sharing, world = self.sharing, self.world
        return (
            *super().key(),
            sharing.is_guardian,
            sharing._owes,
            sharing._epoch == world.shared.epoch,
            sharing._joined_at - world.now,
            sharing._first_reads[hash(KEY) % len(sharing._first_reads)] == hash(KEY),
            getattr(self.listener, "found", None),
        )


class HostThread(Thread):
    """A thread of such a process."""

    found: tuple[float, bytes] | None = None
    """What it has looked up last."""

    def key(self) -> tuple[Any, ...]:
        if not self.is_running():
            return super().key()
        store = self.world.shared
        tokens = getattr(self.context, "_tokens", None)
        good = None
        if tokens is not None:
            good = [token == store.token(key) for key, token in tokens.items()]
        return (*super().key(), repr(good), self.found)


class HostWorld(World):
    """One run of a scenario in which all processes are of one host."""

    scenario: HostScenario

    def __init__(
        self, scenario: HostScenario, make_witness: Callable[[World], Witness]
    ) -> None:
        self.shared: Any = None
        super().__init__(scenario, make_witness)
        for process in self.processes:
            process.engine.rules.sharing.is_guardian = True

    def make_process(self, index: int) -> Process:
        if self.shared is None:
            self.shared = SteppedStore(self, private_store(LEAST_BYTES))
        return HostProcess(self, index)

    def make_thread(self, index: int, process: Process, program: str) -> Thread:
        return HostThread(self, index, process, program)

    def touches(self, step: Step) -> int:
        """Return, as bits, what a step touches; the store is one thing for all."""
        bits = super().touches(step)
        if step[0] in ("go", "deliver", "listen", "notice", "ack", "shed", "proof"):
            bits |= HOST_BIT
        return bits

    def _only_listens(self, _process: Process) -> bool:
        return False

    def _steps_of_process(self, process: Process, steps: list[Step]) -> None:
        super()._steps_of_process(process, steps)
        if process.index == 1 and process.link == UP and self.budget.get("proof"):
            steps.append(("proof", 1))
        if process.index == 0 and self.budget.get("shed"):
            steps.append(("shed", 0))

    def _proof(self, index: int) -> None:
        """Another process than the first sends a heartbeat."""
        self._spend("proof")
        self._send_beat(self.processes[index])

    def _shed(self, _index: int) -> None:
        """The store needs room: all that it has leaves."""
        self._spend("shed")
        ring = self.shared.ring
        while ring.words[4] != ring.words[5]:
            ring._take_oldest(may_keep=False)

    def key(self) -> tuple[Any, ...]:
        found = [self.shared._store.look(key) for key in self.scenario.watched]
        entries = [entry and (entry[0] - self.now, entry[1]) for entry in found]
        proven_at = max(self.shared.proven_at - self.now, -5.0)
        return (*super().key(), tuple(entries), proven_at)


class HostScenario(Scenario):
    """A scenario on one host.

    More faults: shed (the store makes room), proof (a heartbeat of process 1).
    """

    make_world = HostWorld


_SCENARIOS = (
    # Reads of one process against writes of another.
    HostScenario("host-fill", ((0, "RR"), (1, "W"))),
    HostScenario("host-order", ((0, "R"), (0, "R"), (1, "W"))),
    HostScenario("host-shed", ((0, "R"), (0, "R"), (1, "W")), {"shed": 1}),
    # Writes, which also fail, and are sent twice.
    HostScenario("host-local", ((0, "WR"), (1, "R"))),
    HostScenario("host-two", ((0, "WR"), (1, "W"))),
    HostScenario("host-ghost", ((0, "WR"), (1, "R")), {"timeout": 1}),
    HostScenario("host-resend", ((0, "W"), (1, "R")), {"resend": 1}),
    HostScenario("host-crash", ((0, "WR"), (1, "R")), {"crash": 1}),
    # A subscription that breaks, and a process that joins the others again.
    HostScenario("host-disc", ((0, "R"), (1, "W")), {"break": 1}),
    HostScenario(
        "host-join",
        ((1, "RW"),),
        {"break": 1, "beat": 1, "proof": 1},
        ticks=(0.1,),
    ),
    # Other operations, and the life of entries.
    HostScenario("host-delete", ((0, "D"), (0, "R"), (1, "R"))),
    HostScenario("host-pattern", ((0, "P"), (1, "R"))),
    HostScenario("host-many", ((0, "G"), (1, "M"))),
    HostScenario(
        "host-expire", ((0, "R"), (1, "R")), ticks=(0.6, 0.6), initial_ttl_ms=1000
    ),
    HostScenario("host-add", ((0, "A"), (1, "D")), initial=MISSING),
    HostScenario("host-lock", ((0, "LR"), (1, "W"))),
)
SCENARIOS = {scenario.name: scenario for scenario in _SCENARIOS}
