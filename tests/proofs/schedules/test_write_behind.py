"""Every order of queued values, their sending, other calls, a peer and messages.

The callers of one process run in greenlets that come back before and after each
command, and wherever they wait for what is being sent.  So does the thread that sends.
A program has a letter per call: ``Q`` set without waiting, ``W`` set, ``D`` delete,
``G`` delete that does not wait for what is being sent, ``R`` get, ``X`` get after an
eviction, ``P`` a peer's set.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from cachebridge.codec.messages import Message, MessageType, encode_message
from cachebridge.codec.values import SERIALIZERS
from cachebridge.config import CacheOptions, EngineOptions
from cachebridge.core.coherence import Coherence
from cachebridge.core.entry import MISSING
from cachebridge.core.write import QueuedWrite
from cachebridge.engine.binding import Binding
from cachebridge.engine.later.write_behind import WriteBehind
from cachebridge.l2.memory.server import MemoryServer
from cachebridge.l2.memory.store import MemoryStore
from cachebridge.waiting.io import THREADS, ThreadIO
from cachebridge.waiting.run import run
from tests.proofs.schedules.actors import Actor
from tests.proofs.schedules.doubles import KEY, StudiedEngine
from tests.proofs.schedules.orders import judge_schedules
from tests.rig import STRANGER

MOST_STEPS = 40
BEFORE = -1
ENCODE = SERIALIZERS["pickle"].encode
DECODE = SERIALIZERS["pickle"].decode
WRITES = "QWDGP"


@dataclass
class Call:
    """A call that was made: when it began and ended, and its value."""

    letter: str
    value: Any
    began: int
    ended: float = float("inf")

    def precedes(self, other: Call) -> bool:
        return self.ended < other.began

    def is_replaced_by(self, other: Call) -> bool:
        """Return whether the other is a later write; a peer's may be sent earlier."""
        is_later = other.letter in WRITES and self.precedes(other)
        return is_later and (self.letter, other.letter) != ("Q", "P")


class StepIO(ThreadIO):
    """Lets others go on where a caller waits for what is being sent."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def wait(self, signal: Any, timeout_s: float | None = None) -> bool:
        while not signal.is_set():
            if self.world.running.gives_up:
                return False
            self.world.running.wait_for(signal.is_set)
        return True


class Caller(Actor):
    """A thread that carries out its program, or sends what is queued."""

    def __init__(self, world: World, run_it: Any, title: str) -> None:
        super().__init__(world, run_it, title)
        self.may_go_on: Any = lambda: True
        self.gives_up = False

    def wait_for(self, condition: Any) -> None:
        self.may_go_on = condition
        self.pause("waits")
        self.may_go_on = lambda: True

    def ask_server(self, name: str, *args: Any) -> Any:
        self.pause("sent")
        reply = run(getattr(self.world.store, name)(*args))
        self.pause("replied")
        return reply


class World:
    """One process with a real engine, its callers, a peer, and the messages."""

    def __init__(self, programs: tuple[str, ...]) -> None:
        self.scenario = SimpleNamespace(options=EngineOptions(l1_ttl_ratio=1.0))
        self.running: Any = None
        self.time = 0
        self.server = MemoryServer(self.clock)
        self.store = MemoryStore(self.server)
        self.frames: list[bytes] = []
        self.server.subscribers.append(self.frames.append)
        run(self.store.store([(KEY, ENCODE("old"))], None, None))
        self.engine = StudiedEngine(self)  # type: ignore[arg-type]
        self.queue = self.engine.write_behind
        self.queue._sender = SimpleNamespace(  # the explorer says when it goes on
            ensure=lambda: True, wake=lambda: None, close=lambda _patience_s: None
        )
        self.engine.refresher = SimpleNamespace(  # nothing goes on behind the explorer
            submit=lambda _key, _task: False, has=lambda _key: False
        )
        self.engine.receiver.on_subscribed()
        self.engine.rules.extend_trust(float("inf"))
        self.operations = Binding(self.engine, CacheOptions()).coherent.for_threads
        self.operations._operations.io = StepIO(self)
        run(self.operations.get(KEY))
        self.calls = [Call("P", "old", BEFORE, BEFORE)]
        self.callers = [
            Caller(self, lambda n=n: self._run(n, programs[n]), f"T{n}")
            for n in range(len(programs))
        ]
        self.sender: Caller | None = None

    def clock(self) -> float:
        return 1000.0 + self.time / 100

    # -- what the callers do -----------------------------------------------------------

    def _run(self, number: int, program: str) -> None:
        for at, letter in enumerate(program):
            if at:
                self.callers[number].pause("idle")
            value = None if letter in "DG" else f"{letter}{number}{at}"
            self.time += 1
            call = Call(letter, value, self.time)
            self.calls.append(call)
            self._call(call)
            self.time += 1
            call.ended = self.time
            if letter in "RX":
                self.judge_read(call)

    def _call(self, call: Call) -> None:
        operations = self.operations
        match call.letter:
            case "Q":
                run(operations.set_as(KEY, call.value, None, wait=False))
            case "W":
                run(operations.set_as(KEY, call.value, None, wait=True))
            case "D":
                run(operations.delete(KEY))
            case "G":
                self.running.gives_up = True
                run(operations.delete(KEY))
                self.running.gives_up = False
            case "R":
                call.value = self.l1_value()
                if call.value is MISSING:
                    call.value = run(operations.get(KEY))
            case "X":
                self.engine.rules.drop(KEY)
                call.value = run(operations.get(KEY))
            case "P":
                message = Message(MessageType.KEYS, STRANGER, 1, 0, (KEY,))
                args = [(KEY, ENCODE(call.value))], None, encode_message(message)
                self.running.ask_server("store", *args)
        if call.value is MISSING:
            call.value = None

    def l1_value(self) -> Any:
        entry = self.engine.local_reads.usable_entry(KEY)
        copies = self.operations._operations.values.copies
        return MISSING if entry is None else copies.value_of(entry)

    # -- steps -------------------------------------------------------------------------

    def enabled(self) -> list[str]:
        able = [
            caller.title
            for caller in self.callers
            if not caller.greenlet.dead and caller.may_go_on()
        ]
        if self.sender is not None or self.queue._open:
            able.append("send")
        if self.frames:
            able.append("deliver")
        return able

    def step(self, name: str) -> None:
        if name == "deliver":
            self.engine.receiver.on_frame(self.frames.pop(0))
        elif name == "send":
            if self.sender is None:
                self.sender = Caller(self, self.queue._send_all, "sender")
            self.sender.resume()
            if self.sender.greenlet.dead:
                self.sender = None
        else:
            self.callers[int(name[1:])].resume()

    # -- what must hold ----------------------------------------------------------------

    def writer_of(self, value: Any) -> Call:
        writes = (call for call in reversed(self.calls) if call.letter in WRITES)
        return next(call for call in writes if call.value == value)

    def judge_read(self, read: Call) -> None:
        """A value that was overwritten before the read began is not read."""
        seen = self.writer_of(read.value)
        for call in self.calls:
            assert not (seen.is_replaced_by(call) and call.precedes(read)), (
                f"I3: read {read.value} after {call.value} was set"
            )

    def judge_end(self) -> None:
        """L2 has the last write, L1 the same or nothing, and nothing is left."""
        run(self.engine.replays[THREADS].before((KEY,)))
        item = self.server.peek(KEY)
        last = self.writer_of(None if item is None else DECODE(item[0]))
        for call in self.calls:
            assert not last.is_replaced_by(call), (
                f"I31: {last.value} has overwritten {call.value}"
            )
        held = self.l1_value()
        assert held in {MISSING, last.value}, f"I1: L1 {held}, L2 {last.value}"
        assert self.engine.rules.is_idle(), "I16"
        assert not self.queue.latest

    def close(self) -> None:
        for actor in (*self.callers, self.sender):
            if actor is not None:
                actor.kill()


def explore(programs: tuple[str, ...]) -> int:
    """Judge every schedule; return how many there are."""
    return judge_schedules(lambda: World(programs), MOST_STEPS)


ALONE = ["QR", "QX", "QWR", "QDR", "QQR", "QGR", "QGX", "QGQG"]
SMALL = [*((each,) for each in ALONE), ("Q", "R"), ("QR", "P")]
LARGE = [("QX", "P"), ("QX", "W")]


def params(programs: list[tuple[str, ...]], *marks: Any) -> list[Any]:
    return [pytest.param(each, marks=marks, id="|".join(each)) for each in programs]


@pytest.mark.parametrize(
    "programs", [*params(SMALL), *params(LARGE, pytest.mark.proof)]
)
def test_no_schedule_breaks_an_invariant(programs):
    """Own writes are read, none overtakes a later one, and L1 equals L2 at rest."""
    assert explore(programs) > 1


def _take_nothing(_self: WriteBehind, _keys: object) -> set[str]:
    return set()


async def _do_not_wait(*_args: object) -> None:
    return None


def _end_at_once(self: QueuedWrite) -> None:
    _seal(self)
    self.sent.set()


def _keep_the_entry(
    _self: Coherence, _key: str, _activity: object, _write_id: int
) -> None:
    pass


_seal = QueuedWrite.seal


MUTANTS = {
    "no call waits: W": (WriteBehind, "before", _do_not_wait, "QWR", "I31"),
    "no call waits: D": (WriteBehind, "before", _do_not_wait, "QDR", "I31"),
    "no call waits: X": (WriteBehind, "before", _do_not_wait, "QX", "I3"),
    "nor for what is under way": (QueuedWrite, "seal", _end_at_once, "QWR", "I31"),
    "who gives up leaves it": (WriteBehind, "withdraw", _take_nothing, "QG", "I31"),
    "L1 keeps the old value": (Coherence, "begin_write", _keep_the_entry, "QR", "I3"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(monkeypatch, name):
    """With a rule switched off, some schedule goes wrong."""
    owner, method, change, program, broken = MUTANTS[name]
    monkeypatch.setattr(owner, method, change)
    with pytest.raises(AssertionError, match=f"^{broken}: "):
        explore((program,))
