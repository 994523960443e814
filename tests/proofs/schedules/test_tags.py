"""Every order of tagged reads, loads and invalidations, with a peer and messages.

The callers of one process run in greenlets that come back before and after each
command, and within the loader.  The data are a number.  A program has a letter per
call: ``R`` get, ``X`` get after L1 was emptied, ``L`` get_or_load, whose loader reads
the data, ``N`` the same with a tag that the loader names, ``S`` set of the data, ``I``
a change of the data and invalidate_tags, ``P`` the same by a peer, ``D`` the stamp is
lost without a message.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

import cachebridge
from cachebridge.codec.envelope import body_of
from cachebridge.codec.messages import Message, MessageType, encode_message
from cachebridge.config import CacheOptions, EngineOptions
from cachebridge.core.dropping.tags import TagIndex
from cachebridge.core.entry import MISSING
from cachebridge.core.write import StampWrite, Write
from cachebridge.engine.binding import Binding
from cachebridge.engine.tagging.running import LoadTags
from cachebridge.engine.tagging.stamps import Stamped, Stamps
from cachebridge.l2.memory.server import MemoryServer
from cachebridge.l2.memory.store import MemoryStore
from cachebridge.waiting.io import THREADS
from cachebridge.waiting.run import run
from tests.proofs.schedules.actors import Actor
from tests.proofs.schedules.doubles import KEY, StudiedEngine
from tests.proofs.schedules.orders import judge_schedules
from tests.rig import STRANGER

TAG = "t"
MOST_STEPS = 60


@dataclass
class Invalidation:
    """A change of the data that was made known."""

    data: int
    known: float = float("inf")
    """When its caller had returned, or the message of a peer was handled."""


class Caller(Actor):
    """A thread, or the peer."""

    def ask_server(self, name: str, *args: Any) -> Any:
        self.pause("sent")
        reply = run(getattr(self.world.store, name)(*args))
        self.world.deliver_others(name)
        self.pause("replied")
        return reply


class World:
    """One process with a real engine, its callers, a peer, the server, and the data."""

    def __init__(self, programs: tuple[str, ...]) -> None:
        self.scenario = SimpleNamespace(options=EngineOptions(l1_ttl_ratio=1.0))
        self.running: Any = None
        self.time = self.data = 0
        self.server = MemoryServer(self.clock)
        self.store = MemoryStore(self.server)
        self.frames: list[bytes] = []
        self.kept = 0
        """How many of them are of invalidations, and are delivered as a step."""
        self.server.subscribers.append(self.frames.append)
        self.invalidations: list[Invalidation] = []
        self.told: dict[bytes, Invalidation] = {}
        self.engine = StudiedEngine(self)  # type: ignore[arg-type]
        self.binding = Binding(self.engine, CacheOptions(lease_ttl=0.0))
        self.operations = self.binding.coherent.for_threads
        self.stamp = self.binding._stamps_begin + TAG
        self.engine.receiver.on_subscribed()
        self.engine.rules.extend_trust(float("inf"))
        run(self.operations.set(KEY, 0, None, tags=(TAG,)))
        while self.frames:
            self.deliver()
        if any(letter in "LN" for program in programs for letter in program):
            run(self.operations.delete(KEY))
            self.deliver()
        self.callers = [
            Caller(self, lambda n=n: self._run(n, programs[n]), f"T{n}")
            for n in range(len(programs))
        ]

    def clock(self) -> float:
        return 1000.0 + self.time / 1000

    # -- what the callers do -----------------------------------------------------------

    def _run(self, number: int, program: str) -> None:
        for at, letter in enumerate(program):
            if at:
                self.callers[number].pause("idle")
            self.time += 1
            self._call(letter)

    def _call(self, letter: str) -> None:
        began = self.time
        match letter:
            case "R" | "X":
                if letter == "X":
                    self.engine.rules.flush("test")
                value = self.l1_value()
                if value is MISSING:
                    value = run(self.operations.get(KEY))
                self.judge_read(began, value)
            case "L" | "N":
                self.judge_read(began, self._load(letter))
            case "S":
                run(self.operations.set(KEY, self.data, None, tags=(TAG,)))
            case "D":
                self.running.ask_server("delete", [self.stamp], None)
            case "I":
                made = self._change()
                run(self.binding.invalidate_tags(THREADS, (TAG,)))
                self.time += 1
                made.known = self.time
            case "P":
                message = Message(MessageType.KEYS, STRANGER, 1, 0, (self.stamp,))
                frame = encode_message(message)
                self.told[frame] = self._change()
                self.running.ask_server("delete", [self.stamp], frame)

    def _change(self) -> Invalidation:
        self.data += 1
        self.invalidations.append(Invalidation(self.data))
        return self.invalidations[-1]

    def _load(self, letter: str) -> Any:
        def load() -> int:
            if letter == "N":
                cachebridge.tag(TAG)
            data = self.data
            self.running.pause("loads")
            return data

        tags = () if letter == "N" else (TAG,)
        value = self.l1_value()
        if value is not MISSING:
            return value
        return run(self.operations.get_or_load(KEY, load, None, None, tags))

    def l1_value(self) -> Any:
        entry = self.engine.local_reads.usable_entry(KEY)
        copies = self.operations._operations.values.copies
        return MISSING if entry is None else copies.value_of(entry)

    def deliver(self) -> None:
        frame = self.frames.pop(0)
        self.kept = len(self.frames)
        self.engine.receiver.on_frame(frame)
        self.time += 1
        if frame in self.told:
            self.told[frame].known = self.time

    def deliver_others(self, command: str) -> None:
        """Deliver what is no invalidation at once: other schedules have its orders."""
        published = command in {"store", "add", "store_loaded", "replace", "release"}
        if published and len(self.frames) > self.kept:
            self.engine.receiver.on_frame(self.frames.pop())
        self.kept = len(self.frames)

    # -- steps -------------------------------------------------------------------------

    def enabled(self) -> list[str]:
        able = [each.title for each in self.callers if not each.greenlet.dead]
        return [*able, "message"] if self.frames else able

    def step(self, name: str) -> None:
        if name == "message":
            self.deliver()
        else:
            self.callers[int(name[1:])].resume()

    # -- what must hold ----------------------------------------------------------------

    def judge_read(self, began: float, value: Any) -> None:
        """A read does not see what was known to be invalid before it began."""
        for each in self.invalidations:
            assert not (
                each.known < began and value is not MISSING and value < each.data
            ), f"seen: {value} after {each.data} was known"

    def judge_end(self) -> None:
        """At rest nothing older than the last invalidation can be read."""
        least = max((each.data for each in self.invalidations), default=0)
        held = self.l1_value()
        assert held is MISSING or held >= least, f"rest: L1 {held}, data {least}"
        self.engine.rules.flush("test")
        found = run(self.operations.get(KEY))
        assert found is MISSING or found >= least, f"rest: L2 {found}, data {least}"
        assert self.engine.rules.is_idle()

    def close(self) -> None:
        for actor in self.callers:
            actor.kill()


def explore(programs: tuple[str, ...]) -> int:
    """Judge every schedule; return how many there are."""
    return judge_schedules(lambda: World(programs), MOST_STEPS)


SMALL = [("IR",), ("IX",), ("IS",), ("IL",), ("R", "I"), ("X", "P")]
LARGE = [
    *(("L", "I"), ("L", "P"), ("N", "P"), ("N", "I"), ("S", "P")),
    ("DX", "P"),
]


def params(programs: list[tuple[str, ...]], *marks: Any) -> list[Any]:
    return [pytest.param(each, marks=marks, id="|".join(each)) for each in programs]


@pytest.mark.parametrize(
    "programs", [*params(SMALL), *params(LARGE, pytest.mark.proof)]
)
def test_no_schedule_serves_what_was_invalidated(programs):
    """Not after the call or its message is over, and not at rest."""
    assert explore(programs) >= 1


async def _note_only(self: LoadTags, names: Any, _io: object) -> None:
    self._stamps |= dict.fromkeys(names, b"")


async def _read_at_the_end(self: LoadTags, io: Any) -> Stamped:
    return await self._sides[io].stamp(tuple(self._stamps))


async def _compare_nothing(_self: Stamps, _fill: object, reads: Any) -> Any:
    return {key: body_of(raw) for key, raw in reads}


def _never_changes(_self: TagIndex, _tagging: object) -> bool:
    return True


def _take_nothing(_self: TagIndex, _stamps: object) -> list[str]:
    return []


LATE = (LoadTags, "add", _note_only), (LoadTags, "end", _read_at_the_end)
COUNTER = ((TagIndex, "holds", _never_changes),)
MUTANTS = {
    "stamp read late": (LATE, ("L", "I")),
    "stamp read late, of a tag that the loader names": (LATE, ("N", "P")),
    "fill ignores the counter": (COUNTER, ("X", "P")),
    "readers do not compare": (((Stamps, "living", _compare_nothing),), ("IX",)),
    "nothing hangs on a stamp": (((TagIndex, "take", _take_nothing),), ("R", "P")),
    "an own write of a stamp drops nothing": (
        (
            (StampWrite, "__enter__", Write.__enter__),
            (StampWrite, "__exit__", Write.__exit__),
        ),
        ("IR",),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(monkeypatch, name):
    """With a rule switched off, some schedule goes wrong."""
    patches, programs = MUTANTS[name]
    for owner, method, change in patches:
        monkeypatch.setattr(owner, method, change)
    with pytest.raises(AssertionError, match=r"^(seen|rest): "):
        explore(programs)
