"""A world under study: processes with real engines, one server, faults, a fake clock.

``enabled`` names the steps that could be next and ``perform`` carries one out.  A world
is deterministic: the same steps from the start lead to the same state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit

from cachebridge.codec.values import SERIALIZERS
from cachebridge.core.entry import MISSING
from cachebridge.engine.janitor import SLICE
from cachebridge.errors import L2Error
from cachebridge.l2.memory.server import MemoryServer
from cachebridge.l2.memory.store import MemoryStore
from cachebridge.waiting.run import run
from tests.proofs.schedules.actors import (
    BROKEN,
    DONE,
    DOWN,
    REPLIED,
    SENT,
    SUBSCRIBED,
    UP,
    Envelope,
    Ghost,
    Process,
    Thread,
    Version,
)
from tests.proofs.schedules.doubles import FILLER, KEY, LOCK

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.proofs.schedules.actors import Actor
    from tests.proofs.schedules.doubles import Operation
    from tests.proofs.schedules.invariants import Witness
    from tests.proofs.schedules.scenarios import Scenario

Step = tuple[str, int]
"""Kind of step, and the index of the thread, process, ghost or tick."""

SERVER_BIT = 1
LOCAL_FAULTS = ("break", "beat", "crash", "evict")
EVERYTHING = -1
START_S = 1000.0
CHANGES = {
    "store": lambda _reply: True,
    "delete": lambda _reply: True,
    "add": bool,
    "touch": bool,
    "replace": bool,
    "incr": lambda reply: type(reply) is int,
    "count": lambda reply: reply.changed,
}
"""The commands that change a key, and whether they did so, by their reply."""
_encode = SERIALIZERS["pickle"].encode
_decode = SERIALIZERS["pickle"].decode


class World:
    """One run of a scenario."""

    def __init__(
        self, scenario: Scenario, make_witness: Callable[[World], Witness]
    ) -> None:
        self.scenario = scenario
        self.now = START_S
        self.running: Actor | None = None
        self.server = MemoryServer(self.clock)
        self.store = MemoryStore(self.server)
        self.history: dict[str, list[Version]] = {}
        for key in (*scenario.watched, FILLER):
            if scenario.initial is not MISSING and key != LOCK:
                raw = _encode(scenario.initial)
                run(self.store.store([(key, raw)], scenario.initial_ttl_ms, None))
            self.history[key] = [self._version_at_server(key)]
        self._frames: list[bytes] = []
        self.server.subscribers.append(self._frames.append)
        self.ghosts: list[Ghost] = []
        self.budget = dict(scenario.faults)
        self.ticked = 0
        self.processes = [*map(self.make_process, range(scenario.processes))]
        self.threads: list[Thread] = []
        self.witness = make_witness(self)
        for process in self.processes:
            process.engine.receiver.on_subscribed()
            self.witness.subscribes(process)
            self._beat(process.index)
            self._deliver(process.index)
        for index, (process, program) in enumerate(scenario.threads):
            self.threads.append(
                self.make_thread(index, self.processes[process], program)
            )
        if scenario.warm:
            for process in self.processes:
                run(
                    Thread(self, -1, process, "")._operations.get_many(scenario.watched)
                )

    def make_process(self, index: int) -> Process:
        return Process(self, index)

    def make_thread(self, index: int, process: Process, program: str) -> Thread:
        return Thread(self, index, process, program)

    def clock(self) -> float:
        return self.now

    # -- what can be next --------------------------------------------------------------

    def enabled(self) -> list[Step]:
        """Return every step that could be next, in an order that never changes."""
        steps: list[Step] = []
        for process in self.processes:
            if self._only_listens(process):
                kind = "deliver" if process.listener is None else "listen"
                return [(kind, process.index)]
        for thread in self.threads:
            if not thread.process.dead:
                self._steps_of_thread(thread, steps)
        for index in range(len(self.ghosts)):
            steps += [("late", index), ("never", index)]
        for process in self.processes:
            if not process.dead:
                self._steps_of_process(process, steps)
        if self.ticked < len(self.scenario.ticks):
            steps.append(("tick", self.ticked))
        return steps

    def _only_listens(self, process: Process) -> bool:
        """Return whether the process has nothing left to do but handle messages.

        Other processes' steps then make no difference to it, nor its steps to them, so
        only one order of them needs to be tried.
        """
        return (
            not process.dead
            and process.link == UP
            and (process.listener is not None or len(process.queue) > 0)
            and self.ticked == len(self.scenario.ticks)
            and (process.index > 0 or not any(map(self.budget.get, LOCAL_FAULTS)))
            and all(t.stage == DONE for t in self.threads if t.process is process)
        )

    def _steps_of_thread(self, thread: Thread, steps: list[Step]) -> None:
        if thread.stage == DONE or thread.has_equal_thread_ahead():
            return
        if thread.stage != SENT:
            steps.append(("go", thread.index))
            return
        steps.append(("exec", thread.index))
        if thread.process.index == 0 and thread.operation.is_write:
            if self.budget.get("timeout") or self.budget.get("cancel"):
                steps += [("lose", thread.index), ("ghost", thread.index)]
            if self.budget.get("resend"):
                steps.append(("resend", thread.index))

    def _steps_of_process(self, process: Process, steps: list[Step]) -> None:
        index = process.index
        if process.listener is not None:
            steps.append(("listen", index))
        elif process.link == UP and process.queue:
            steps.append(("deliver", index))
        elif process.link == BROKEN:
            steps.append(("notice", index))
        elif process.link == DOWN:
            steps.append(("subscribe", index))
        elif process.link == SUBSCRIBED:
            steps.append(("ack", index))
        if index == 0:
            if process.link == UP:
                steps += [(f, 0) for f in ("break", "beat") if self.budget.get(f)]
            if self.budget.get("crash"):
                steps.append(("crash", 0))
            if self.budget.get("evict") and process.value_in_l1(KEY) is not MISSING:
                steps.append(("evict", 0))

    def touches(self, step: Step) -> int:
        """Return, as bits, the parts of the world that a step reads or changes.

        Two steps that share none can be exchanged without any difference: a command
        appends to queues from which a listener takes only what was there before.
        """
        kind, index = step
        if kind == "go":
            return 2 << self.threads[index].process.index
        if kind in ("exec", "lose", "ghost", "resend", "late", "never"):
            return SERVER_BIT
        if kind in ("deliver", "notice") or (
            kind == "listen" and self.processes[index].link != SUBSCRIBED
        ):
            return 2 << index
        if kind in ("listen", "break", "subscribe", "ack", "beat", "crash", "evict"):
            return SERVER_BIT | (2 << index)
        return EVERYTHING

    # -- carrying it out ---------------------------------------------------------------

    def replay(self, step: Step) -> None:
        """Carry one step out again, which has been checked before."""
        kind, index = step
        getattr(self, "_" + kind)(index)

    def perform(self, step: Step) -> None:
        """Carry one step out; raises Broken if it breaks an invariant."""
        self.replay(step)
        self.witness.checks()

    def _spend(self, fault: str) -> None:
        self.budget[fault] -= 1

    def _go(self, index: int) -> None:
        thread = self.threads[index]
        peek = thread.process.engine.l1.look
        absent = [key for key in self.scenario.watched if peek(key) is None]
        thread.resume()
        for key in absent:
            if (entry := peek(key)) is not None:
                self.witness.stored(thread, key, entry)

    def _exec(self, index: int) -> None:
        thread = self.threads[index]
        thread.reply = self._execute(thread.operation, thread.request)
        thread.versions = dict(thread.operation.versions)
        if thread.request[0] == "add" and thread.reply:
            thread.decided = {key: len(made) - 1 for key, made in self.history.items()}
        thread.stage = REPLIED

    def _lose(self, index: int) -> None:
        self._exec(index)
        self._give_up(index)

    def _ghost(self, index: int) -> None:
        thread = self.threads[index]
        self.ghosts.append(Ghost(thread.operation, thread.request))
        self._give_up(index)

    def _give_up(self, index: int) -> None:
        thread = self.threads[index]
        if self.budget.get("timeout"):
            self._spend("timeout")
            thread.error = L2Error("timed out")
        else:
            self._spend("cancel")
            thread.error = GreenletExit()
        thread.stage = REPLIED

    def _resend(self, index: int) -> None:
        thread = self.threads[index]
        self._spend("resend")
        self.ghosts.append(Ghost(thread.operation, thread.request))

    def _late(self, index: int) -> None:
        self._execute(*self.ghosts.pop(index))

    def _never(self, index: int) -> None:
        self.ghosts.pop(index)

    def _execute(
        self, operation: Operation, request: tuple[str, tuple[Any, ...]]
    ) -> Any:
        """Let the server execute one command, and send out what it publishes."""
        name, args = request
        reply = run(getattr(self.store, name)(*args))
        if name in CHANGES and CHANGES[name](reply):
            for key in operation.keys:
                self.history[key].append(self._version_at_server(key))
                operation.versions[key] = len(self.history[key]) - 1
        while self._frames:
            self._send(self._frames.pop(0), operation, dict(operation.versions))
        return reply

    def _send(
        self, frame: bytes, operation: Operation, versions: dict[str, int]
    ) -> None:
        envelope = Envelope(frame, operation, versions, self.now)
        for process in self.processes:
            if not process.dead and process.link in (UP, SUBSCRIBED):
                process.queue.append(envelope)

    def _version_at_server(self, key: str) -> Version:
        item = self.server.peek(key)
        if item is None:
            return Version(MISSING, float("inf"), self.now)
        raw, deadline = item
        return Version(
            _decode(raw), float("inf") if deadline is None else deadline, self.now
        )

    # -- the bus -----------------------------------------------------------------------

    def _deliver(self, index: int) -> None:
        process = self.processes[index]
        envelope = process.queue.pop(0)
        receiver = process.engine.receiver

        def handle() -> None:
            if envelope.operation is None:
                self.witness.hears_heartbeat(process, envelope)
                receiver.on_heartbeat(envelope.sent_at, l1_on=True)
                process.engine.sweep_slice(SLICE, 0)  # the janitor comes now, too
            else:
                receiver.on_frame(envelope.frame)
                self.witness.hears(process, envelope)

        process.listen(str(envelope), handle)

    def _listen(self, index: int) -> None:
        self.processes[index].go_on()

    def _break(self, index: int) -> None:
        self._spend("break")
        process = self.processes[index]
        process.link = BROKEN
        process.queue.clear()

    def _notice(self, index: int) -> None:
        process = self.processes[index]

        def handle() -> None:
            process.engine.receiver.on_break("cut")
            process.link = DOWN
            self.witness.loses_bus(process)

        process.listen("the break", handle)

    def _subscribe(self, index: int) -> None:
        self.processes[index].link = SUBSCRIBED

    def _ack(self, index: int) -> None:
        process = self.processes[index]

        def handle() -> None:
            process.engine.receiver.on_subscribed()
            process.link = UP
            self.witness.subscribes(process)
            self._send_beat(process)

        process.listen("the acknowledgement", handle)

    def _beat(self, index: int) -> None:
        if "beat" in self.budget and self.threads:
            self._spend("beat")
        self._send_beat(self.processes[index])

    def _send_beat(self, process: Process) -> None:
        newest = {key: len(versions) - 1 for key, versions in self.history.items()}
        process.queue.append(Envelope(b"", None, newest, self.now))

    # -- other faults, and time --------------------------------------------------------

    def _evict(self, index: int) -> None:
        """Read another key, for which the watched one has to make room."""
        self._spend("evict")
        process = self.processes[index]
        reader = Thread(self, -1, process, "")
        run(reader._operations.get(FILLER))
        self.witness.disturbs(process, (KEY,))

    def _crash(self, index: int) -> None:
        self._spend("crash")
        process = self.processes[index]
        process.dead = True
        process.queue.clear()

    def _tick(self, index: int) -> None:
        self.ticked += 1
        self.now += self.scenario.ticks[index]

    # -- the state ---------------------------------------------------------------------

    def is_at_rest(self) -> bool:
        """Return whether no step but faults and the passing of time remains."""
        return (
            not self.ghosts
            and all(t.process.dead or t.stage == DONE for t in self.threads)
            and all(
                p.dead or (p.link == UP and not p.queue and p.listener is None)
                for p in self.processes
            )
        )

    def key(self) -> tuple[Any, ...]:
        """Return all that the future depends on; equal keys have equal futures."""
        now = self.now
        return (
            tuple(thread.key() for thread in self.threads),
            tuple(process.key() for process in self.processes),
            tuple(
                tuple((v.value, v.deadline - now, v.since - now) for v in versions)
                for versions in self.history.values()
            ),
            tuple(ghost.operation.value for ghost in self.ghosts),
            tuple(self.budget.values()),
            self.ticked,
            self.witness.key(),
        )

    def close(self) -> None:
        """Cancel whatever is still running, and see that nothing of it is left."""
        for thread in self.threads:
            thread.kill()
        for process in self.processes:
            if process.listener is not None:
                process.listener.kill()
        if not self.scenario.fine:  # no thread is cancelled at an acquisition
            self.witness.checks_nothing_runs()
