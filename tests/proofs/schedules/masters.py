"""A cluster and one process under study: every master (I30), in every order.

Operations, rules, client, map and the sessions of the bus are real; the doubles are
links to masters of a few lines, and a listener whose queue the explorer has read.  What
is published at a master arrives in order at the session of that very master.  Its
copies, on the way over other masters, arrive late or not at all.
"""

from __future__ import annotations

import logging
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from greenlet import greenlet

from cachebridge.bus.master_watch import MasterWatch
from cachebridge.codec.messages import Message, MessageType, encode_message
from cachebridge.codec.values import SERIALIZERS
from cachebridge.config import EngineOptions
from cachebridge.core.entry import MISSING
from cachebridge.core.fill import Fill
from cachebridge.core.write import Write
from cachebridge.engine.engine import Engine
from cachebridge.engine.messages import listening
from cachebridge.engine.operations import Operations
from cachebridge.engine.servers import redis_cluster, redis_server
from cachebridge.l2.cluster.slots import SLOTS, SlotMap, slot_of
from cachebridge.l2.location import parse_location
from cachebridge.l2.redis import client
from cachebridge.waiting.io import THREADS
from cachebridge.waiting.run import run
from tests.proofs.schedules.nodes import (
    SENT,
    Connection,
    Link,
    Master,
    QueuedListener,
    Slots,
)
from tests.proofs.schedules.orders import (
    BrokenInvariantError,
    Report,
    explore_states,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Step = tuple[str, str]
"""Kind of step, and the thread, key, master or pair of masters."""
REPLIED, IDLE, DONE = "replied", "idle", "done"
KEYS: Final = ("a", "b")
LOCK: Final = "{a}lock"
TRUST_S: Final = 2.0
TICK_S: Final = 1.5
STEP_S: Final = 1e-4
LOCATION: Final = parse_location("redis+cluster://A:1,B:1")
_encode, _decode = SERIALIZERS["pickle"].encode, SERIALIZERS["pickle"].decode


@dataclass(frozen=True)
class Scenario:
    """What happens, if only in which order.

    At the start master A has the upper slots with key ``a``, B the lower with ``b``.
    """

    threads: tuple[str, ...]
    """Per thread its program: a and b read, L adds a lock at A."""
    writes: str = ""
    """Keys that another process writes, in this order."""
    faults: tuple[str, ...] = ()
    """Each strikes once, in this order: see ``World.strike``."""
    beats: int = 1
    """Heartbeats of each session."""
    has_copies: bool = False
    """Whether copies may arrive, in either order; else all are lost."""
    warm: str | None = "ab"
    """What L1 has, and all sessions are proven; None for no session yet."""
    is_open: bool = False
    """Whether the slot of b is being moved to C, and its keys are there."""


SCENARIOS: Final = {
    # A write at A, and a read while B's session alone is proven.
    "start": Scenario(("a",), "a", warm=None),
    "writes": Scenario((), "ab"),
    "copies": Scenario(("b",), "b", has_copies=True),
    "late": Scenario((), "b", ("tick", "tick"), beats=2),
    "break": Scenario(("b",), "b", ("break",)),
    # Another master takes over; a node answers that is not in the map.
    "takeover": Scenario(("b",), "b", ("takeover",)),
    "takeover-late": Scenario((), "bb", ("takeover", "tick")),
    "guest": Scenario(("bb",), "b", warm="a", is_open=True),
    # A slot moves to a master that has a session: no break.
    "slot": Scenario(("b",), "b", ("open-known", "end")),
    "slot-writes": Scenario(("b",), "bb", ("open-known", "end")),
    # A lock at A that protects what was written at B.
    "lock": Scenario(("L",), "b"),
}
UNHEARD: Final = Scenario((), "b", ("open",))
"""Not covered: a write at a master that has no slot yet, and whose copies are lost."""


@dataclass
class Thread:
    """A thread of the process."""

    title: str
    program: str
    greenlet: greenlet = field(init=False)
    stage: str = IDLE
    pauses: int = 0
    request: tuple[Master, bytes] | None = None
    replies: list[Any] = field(default_factory=list)
    floors: dict[str, int] = field(default_factory=dict)
    fill: Any = None

    def pause(self, stage: str) -> None:
        self.stage = stage
        self.pauses += 1
        self.greenlet.parent.switch()


class World:
    """One run of a scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario, self.now = scenario, 1000.0
        self.owners = Slots({range(SLOTS // 2, SLOTS): "A", range(SLOTS // 2): "B"})
        self.opened: tuple[str, str] | None = None
        """The key of a slot that is being moved, and to which master."""
        self.masters = {name: Master(self, name) for name in "ABC"}
        self.history = {key: [(f"{key}0", 0.0)] for key in KEYS}
        for key, name in zip(KEYS, "AB", strict=True):
            self.masters[name].data[key] = _encode(f"{key}0")
        self.writes, self.faults = list(scenario.writes), list(scenario.faults)
        self.relays: dict[str, list[bytes]] = {}
        """By a pair of masters, what is on its way from one to the other."""
        self.floors = dict.fromkeys(KEYS, 0)
        self.listeners: dict[str, QueuedListener] = {}
        self.running: Thread | None = None
        self.hits = False
        QueuedListener.world = self
        options = EngineOptions(
            bus_heartbeat=1.0, bus_trust=TRUST_S, l1_ttl_ratio=1.0, breaker_failures=0
        )
        with self._in_use():
            self.engine = Engine(LOCATION, options, clock=lambda: self.now)
            self.cluster: Any = self.engine.stores.redis_cluster
            self.cluster._use(self.map())
            self.bus: Any = self.engine._make_bus()
            self.engine.listening.bus = self.bus
            self.bus.start()
        self.threads = {}
        for number, program in enumerate(scenario.threads):
            self._add_thread(f"T{number}", program)
        if scenario.warm is not None:
            self._warm_up(scenario.warm)
        if scenario.is_open:
            self.strike("open")

    def _add_thread(self, title: str, program: str) -> None:
        thread = self.threads[title] = Thread(title, program)
        thread.greenlet = greenlet(partial(self._run, thread))

    def _warm_up(self, keys: str) -> None:
        """Have both sessions proven, and these keys in L1."""
        threads, self.threads = self.threads, {}
        for kind in ("subscribe", "ack", "beat", "deliver"):
            for name in sorted(self.listeners):
                self.perform((kind, name))
        self._add_thread("warm", keys)
        while (thread := self.threads["warm"]).stage != DONE:
            self.perform(("exec" if thread.stage == SENT else "go", "warm"))
        self.threads = threads
        for listener in self.listeners.values():
            listener.beats = self.scenario.beats
        assert all(self.hit(key) is not MISSING for key in keys)

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """Give the map the clock of this world."""
        clock = SimpleNamespace(monotonic=lambda: self.now)
        with patch.object(redis_cluster, "time", clock):
            yield

    def map(self) -> SlotMap:
        """Return which master has which slots."""
        ranges: dict[tuple[str, int], Any] = {}
        for each, name in sorted(self.owners.parts.items(), key=lambda i: i[0].start):
            ranges.setdefault((name, 1), []).append((each.start, each.stop - 1))
        return SlotMap(1, True, {name: tuple(ranges[name]) for name in sorted(ranges)})

    def link(self, connection: Connection) -> Link:
        return Link(self, self.masters[connection.host])

    def publish(self, name: str, frame: bytes) -> None:
        """Publish at a master; copies are on their way to the others."""
        self._hear(name, frame)
        if not self.scenario.has_copies:
            return
        for other in sorted(set(self.owners.values()) - {name}):
            self.relays.setdefault(f"{name}{other}", []).append(frame)

    def _hear(self, name: str, frame: bytes) -> None:
        listener = self.listeners.get(name)
        if listener is not None and listener.stage in ("subscribed", "up"):
            listener.queue.append(frame)

    # -- threads -----------------------------------------------------------------------

    def _run(self, thread: Thread) -> None:
        engine = self.engine

        def open_fill(keys: Any) -> Fill:
            thread.fill = Fill(engine.rules, tuple(keys))
            return thread.fill

        operations = Operations(
            engine,
            engine.values_for("pickle"),
            THREADS,
            fill=open_fill,
            write=lambda keys: Write(engine.rules, tuple(keys)),
            count_read=lambda: None,
        )
        for number, letter in enumerate(thread.program):
            if number:
                thread.pause(IDLE)
            thread.floors, thread.fill = dict(self.floors), None
            if letter == "L":
                assert run(operations.add(LOCK, 1, None))
                self.floors = {key: len(self.history[key]) - 1 for key in KEYS}
            else:
                self._returns(letter, run(operations.get(letter)), thread.floors)
        thread.stage = DONE

    def _returns(self, key: str, value: Any, floors: dict[str, int]) -> None:
        version = self.version(key, value)
        self.demand(
            version >= floors[key], "I4", f"a read returned {value!r}, older than known"
        )
        self.floors[key] = max(self.floors[key], version)

    def close(self) -> None:
        """End every thread where it stands, and let go of the rest."""
        for thread in self.threads.values():
            if thread.greenlet:
                thread.greenlet.throw()

    # -- the steps ---------------------------------------------------------------------

    def enabled(self) -> list[Step]:
        steps: list[Step] = []
        for title, thread in self.threads.items():
            if thread.stage != DONE:
                steps.append(("exec" if thread.stage == SENT else "go", title))
        for name, listener in sorted(self.listeners.items()):
            steps += [(step, name) for step in listener.steps()]
        for pair in sorted(self.relays):
            steps += [("relay", pair), ("lose", pair)]
        if self.writes:
            steps.append(("write", self.writes[0]))
        if self.faults:
            steps.append((self.faults[0], ""))
        if self.cluster.map != self.map() or self.cluster.has_guests():
            steps.append(("refresh", ""))
        return steps

    def perform(self, step: Step) -> None:
        kind, name = step
        self.now += STEP_S
        with self._in_use():
            if kind in ("exec", "go"):
                self._let(self.threads[name], kind)
            elif kind in ("relay", "lose"):
                frame = self.relays[name].pop(0)
                if not self.relays[name]:
                    del self.relays[name]
                if kind == "relay":
                    self._hear(name[1], frame)
            elif kind == "write":
                self._write(self.writes.pop(0))
            elif kind == "refresh":
                for address, until in self.cluster._guests.items():
                    assert until > self.now - 10, address
                    self.now = max(self.now, until + STEP_S)
                self.cluster._use(self.map())
            elif name in self.listeners:
                self.listeners[name].take(kind)
            else:
                self.faults.pop(0)
                self.strike(kind)
        self.check()

    def _let(self, thread: Thread, kind: str) -> None:
        if kind == "exec":
            master, packed = thread.request
            thread.replies = master.execute(packed)
            thread.stage = REPLIED
            return
        self.running = thread
        try:
            thread.greenlet.switch()
        finally:
            self.running = None

    def _write(self, key: str) -> None:
        """Let another process write, which knows who has the key."""
        value = f"{key}{len(self.history[key])}"
        name = self.owners[slot_of(key.encode())]
        if self.opened and self.opened[0] == key and key not in self.masters[name].data:
            name = self.opened[1]
        self.history[key].append((value, self.now))
        self.masters[name].data[key] = _encode(value)
        number = len(self.history[key])
        frame = Message(MessageType.KEYS, b"stranger", number, 0, (key,))
        self.publish(name, encode_message(frame))

    def strike(self, fault: str) -> None:
        masters = self.masters
        match fault:
            case "tick":
                self.now += TICK_S
            case "break":
                self.listeners["B"].stage = "cut"
                self.listeners["B"].queue = []
            case "takeover":  # C was a replica of B, which follows it now
                masters["C"].data = dict(masters["B"].data)
                self.owners = self.owners.moved("B", "C")
            case "open" | "open-known":  # all keys of the slot of b have moved
                to = "A" if fault == "open-known" else "C"
                masters[to].data["b"] = masters["B"].data.pop("b")
                self.opened = ("b", to)
            case "end":
                self.owners = self.owners.with_slot(slot_of(b"b"), "A")
                self.opened = None

    # -- what must hold ----------------------------------------------------------------

    def hit(self, key: str) -> Any:
        """Return what a hit would be at this moment, MISSING if there is none."""
        engine = self.engine
        entry = engine.local_reads.usable_entry(key)
        if entry is None and self.now < engine.rules.gate.until:
            entry = engine.l1.look(key)
        if entry is None or self.now >= engine.rules.gate.until:
            return MISSING  # a fence is up, say
        return self._held(key)

    def _held(self, key: str) -> Any:
        entry = self.engine.l1.look(key)
        copies = self.engine.values_for("pickle").copies
        return MISSING if entry is None else copies.value_of(entry)

    def version(self, key: str, value: Any) -> int:
        values = [each for each, _ in self.history[key]]
        self.demand(value in values, "I2", f"{value!r} was never written to {key!r}")
        return values.index(value)

    def is_at_rest(self) -> bool:
        return not any(
            kind not in ("beat", "tick", "write", "break", "takeover")
            for kind, _ in self.enabled()
        )

    def check(self) -> None:
        self.hits = False
        for key in KEYS:
            value = self.hit(key)
            if value is MISSING:
                continue
            self.hits = True
            version, history = self.version(key, value), self.history[key]
            self.demand(
                version >= self.floors[key],
                "I23",
                f"a hit is {value!r}, older than known",
            )
            if version + 1 < len(history):
                self.demand(
                    history[version + 1][1] >= self.now - TRUST_S,
                    "I11",
                    f"a hit is {value!r}, replaced longer ago than the trust lasts",
                )
                self.demand(
                    not self.is_at_rest(), "I1", f"at rest a hit is {value!r}, replaced"
                )

    def demand(self, holds: object, number: str, text: str) -> None:
        if not holds:
            raise BrokenInvariantError(f"{number}: {text}")

    def key(self) -> tuple[Any, ...]:
        """Return all that the future depends on."""
        rules, sessions, now = self.engine.rules, self.bus._sessions, self.now
        receivers = {id(each.receiver): n for n, each in self.listeners.items()}
        named = lambda found: sorted(receivers.get(id(s), "-") for s in found)  # noqa: E731
        proofs = sorted(
            (receivers.get(id(each), "-"), at) for each, at in sessions._proofs.items()
        )
        queues = sorted(
            (n, each.stage, each.beats, tuple(each.queue))
            for n, each in self.listeners.items()
        )
        fences = [fence.since for fence in rules.fences.up.values()]

        def when(at: Any) -> Any:
            """Return what is asked of a time: all other orders are one."""
            if not isinstance(at, float):
                return at
            bounds = tuple(since < at for since in fences)
            return round(now - at, 1), bounds

        return (
            tuple(
                (
                    *(t.stage, t.pauses, t.request and t.request[0].name),
                    *(repr(t.replies), tuple(t.floors.values())),
                    _is_good(t.fill, rules),
                )
                for t in self.threads.values()
            ),
            tuple(sorted(self.owners.parts.items(), key=repr)),
            *(self.opened, tuple(self.writes), tuple(self.faults)),
            tuple((n, tuple(m.data.items())) for n, m in self.masters.items()),
            tuple((n, tuple(frames)) for n, frames in sorted(self.relays.items())),
            tuple(self.floors.values()),
            tuple(self.hit(each) is not MISSING for each in KEYS),
            tuple(map(self._held, KEYS)),
            tuple(
                round(now - since, 1)
                for versions in self.history.values()
                for _, since in versions
            ),
            *(rules.connected, round(max(rules.trusted_until - now, 0), 1)),
            tuple(map(when, fences)),
            *(sessions._is_open, sessions._is_whole),
            *(tuple(named(sessions._wanted)), tuple(named(sessions._subscribed))),
            tuple((n, when(at)) for n, at in proofs),
            tuple((*rest, tuple(map(when, queue))) for *rest, queue in queues),
            repr(self.cluster.map and self.cluster.map.ranges),
            tuple(self.cluster._guests),
            self.cluster._is_overruled,
            self.cluster._owners[slot_of(b"b")].location.label,
        )


def _is_good(fill: Any, rules: Any) -> Any:
    """Return whether the token of an open fill still holds."""
    if fill is None or not fill._is_taken:
        return None
    return fill._is_over, *(
        rules.token_holds(activity, fill._epoch, token)
        for activity, token in fill._joined.values()
    )


@contextmanager
def _doubles() -> Iterator[None]:
    def nothing(*_: object) -> None:
        pass

    def open_link(made: Connection) -> Link:
        return QueuedListener.world.link(made)

    def factory(location: Any, *_: object) -> Callable[[], Connection]:
        return lambda: Connection(location)

    with (
        patch.object(redis_server, "connection_factory", factory),
        patch.object(client, "open_link", open_link),
        patch.object(listening, "Listener", QueuedListener),
        patch.object(MasterWatch, "start", nothing),
        patch.object(logging.getLogger("cachebridge.l2"), "disabled", new=True),
    ):
        yield


def explore(scenario: Scenario) -> Report:
    """Run every schedule, each state once; stop at a violation."""
    with _doubles():
        return explore_states(lambda: closing(World(scenario)))
