"""Two servers and one process under study: I21, one server, and I22, wrong replies.

The engine is real, with its pool, client, store and the session of its bus; only the
sockets are replaced, by links to a server of a few lines.  Each exchange is two steps,
the server's and the caller's.  ``explore`` runs every order of the steps.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from greenlet import greenlet

from cachebridge.bus import listener, session
from cachebridge.codec.messages import Message, MessageType, encode_message
from cachebridge.codec.values import SERIALIZERS
from cachebridge.config import EngineOptions
from cachebridge.core.entry import MISSING
from cachebridge.core.fill import Fill
from cachebridge.core.write import Write
from cachebridge.engine.engine import Engine
from cachebridge.engine.operations import Operations
from cachebridge.engine.servers import redis_server
from cachebridge.errors import L2Error
from cachebridge.l2.location import parse_location
from cachebridge.l2.redis.scripts import STORE
from cachebridge.parsers import make_parser
from cachebridge.resp import is_wrong_server, reply_error
from cachebridge.waiting.io import THREADS
from cachebridge.waiting.run import run
from tests.proofs.schedules.doubles import KEY
from tests.proofs.schedules.orders import (
    BrokenInvariantError,
    Report,
    explore_states,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

Step = tuple[str, int]
SENT, REPLIED, WAITING, IDLE, DONE = "sent", "replied", "waiting", "idle", "done"
LOCATION: Final = parse_location("redis://studied:1/0")
READONLY: Final = "READONLY You can't write against a read only replica."
_encode, _decode = SERIALIZERS["pickle"].encode, SERIALIZERS["pickle"].decode


@dataclass(frozen=True)
class Scenario:
    """What happens, if only in which order."""

    name: str
    threads: tuple[str, ...]
    """Per thread its program: R reads, W sets."""
    faults: tuple[str, ...]
    """Each strikes once, each after the one before it (see ``World.strike``)."""
    beats: int = 1


SCENARIOS: Final = {
    each.name: each
    for each in (
        Scenario("failover", ("RR",), ("promote", "demote", "move", "other")),
        Scenario("failover-write", ("W",), ("promote", "move", "demote", "other")),
        Scenario("failover-late", ("R",), ("promote", "move", "other", "demote")),
        Scenario("moved", ("R", "R"), ("promote", "move", "other"), beats=0),
        Scenario("moved-cut", ("R", "R"), ("promote", "move", "other", "cut"), beats=0),
    )
}


class Server:
    """As much of Redis as the process uses."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_master = True
        self.data: dict[bytes, bytes] = {}
        self.subscribers: list[Subscription] = []

    def execute(self, packed: bytes) -> list[Any]:
        return [self._do(*words) for words in make_parser().feed(packed)]

    def _do(self, name: bytes, *args: bytes) -> Any:
        match name, args:
            case b"GET", (key,):
                return self.data.get(key)
            case b"PTTL", (key,):
                return -1 if key in self.data else -2
            case b"MGET", keys:
                return [self.data.get(key) for key in keys]
            case b"PUBLISH", (channel, payload):
                return self.publish(channel, payload)
            case b"EVALSHA", (STORE.sha, keys, key, *rest):
                channel, message, _ttl, raw = rest[int(keys) - 1 :]
                self.publish(channel, message)
                return self._set(key, raw)
            case b"SET", (key, raw, *_):
                return self._set(key, raw)
            case _:
                raise AssertionError(f"not a command of this double: {name!r}")

    def _set(self, key: bytes, raw: bytes) -> Any:
        if not self.is_master:
            return reply_error(READONLY)
        self.data[key] = raw
        return b"OK"

    def publish(self, channel: bytes, payload: bytes) -> int:
        heard = [each for each in self.subscribers if channel in each.channels]
        for each in heard:
            each.queue.append([b"message", channel, payload])
        return len(heard)


class Subscription:
    """The subscribed connection: a queue that the explorer lets be read."""

    world: World

    def __init__(self, _connection: object, channels: list[bytes]) -> None:
        self.channels = channels
        self.queue: list[Any] = []
        self.is_cut = False
        self.server: Server | None = None

    def open(self, _tick_s: float) -> list[Any]:
        self.server = self.world.target
        self.server.subscribers.append(self)
        self.world.subscription = self
        return []

    def receive(self) -> list[Any]:
        world = self.world
        world.pause(WAITING)
        if self.is_cut:
            raise ConnectionError("cut")
        queue, self.queue = self.queue, []
        world.heard(queue)
        return queue

    def wake(self) -> None:
        self.close()

    def close(self) -> None:
        self.is_cut = True
        if self.server is not None and self in self.server.subscribers:
            self.server.subscribers.remove(self)


class Connection:
    """Never used."""


class Link:
    """A connection to one server for good."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.server = world.target
        self.era: object = None
        self.ticket: object = None
        self.is_closed = False
        self._replies: list[Any] = []

    def exchange(self, packed: bytes, _count: int) -> list[Any]:
        actor = self._world.running
        assert actor is not None
        actor.request = (self.server, packed)
        self._world.pause(SENT)
        if any(map(is_wrong_server, actor.replies)):
            self._world.told = True
        return actor.replies

    def send(self, packed: bytes) -> None:
        if not self.server.is_master:
            self._world.late.append(packed)
        self._replies = self.server.execute(packed)

    def receive(self, _count: int) -> list[Any]:
        return self._replies

    def arrived(self, _timeout_ms: int) -> bool:
        return False

    def close(self) -> None:
        self.is_closed = True


@dataclass
class Actor:
    """A thread of the process, or its listener."""

    title: str
    greenlet: greenlet
    stage: str = IDLE
    pauses: int = 0
    request: tuple[Server, bytes] | None = None
    replies: list[Any] = field(default_factory=list)
    fill: Fill | None = None


class World:
    """One run of a scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.now = 1000.0
        self.old, self.new = Server("old"), Server("new")
        self.target = self.old
        self.old.data = {b"cachebridge:server-id": b"id", KEY.encode(): _encode("v0")}
        self.faults = list(scenario.faults)
        self.beats = scenario.beats
        self.written = 0
        self.late: list[bytes] = []
        """Heartbeats that a replica has executed."""
        self.told = False
        """Whether the process has seen a sign that its server was demoted."""
        self.running: Actor | None = None
        self.subscription: Subscription | None = None
        self.hits = False
        Subscription.world = self
        options = EngineOptions(bus_heartbeat=1.0, bus_trust=60.0, l1_ttl_ratio=1.0)
        self.engine = Engine(LOCATION, options, clock=lambda: self.now)
        self.pool: Any = self.engine.stores.bus.pool
        self.pool._open = lambda: Link(self)
        self.bus = self.engine.listening.bus = self.engine._make_bus()
        self.bus.is_alive = lambda: True
        self.actors = [Actor("listener", greenlet(self._listen))]
        self.actors += [
            Actor(
                f"thread {program}",
                greenlet(lambda program=program: self._run(program)),
            )
            for program in scenario.threads
        ]
        while self.actors[0].stage != WAITING or self.subscription.queue:
            self.perform(("exec" if self.actors[0].stage == SENT else "go", 0))

    # -- the actors --------------------------------------------------------------------

    def _listen(self) -> None:
        while True:
            self.bus._serve_once()
            self.pause(IDLE)
            self.actors[0].pauses = 0  # each session begins in the same way

    def _run(self, program: str) -> None:
        actor = self.running
        engine = self.engine
        operations = Operations(
            engine,
            engine.values_for("pickle"),
            THREADS,
            fill=lambda keys: self._note(actor, Fill(engine.rules, tuple(keys))),
            write=lambda keys: Write(engine.rules, tuple(keys)),
            count_read=lambda: None,
        )
        for letter in program:
            try:
                if letter == "R":
                    run(operations.get(KEY))
                else:
                    self.written += 1
                    run(operations.set(KEY, f"own{self.written}", None))
            except L2Error as exc:
                raise BrokenInvariantError(f"I22: a caller got {exc}") from exc
        actor.stage = DONE

    def _note(self, actor: Actor, fill: Fill) -> Fill:
        actor.fill = fill
        return fill

    def pause(self, stage: str) -> None:
        actor = self.running
        assert actor is not None
        actor.stage = stage
        actor.pauses += 1
        actor.greenlet.parent.switch()

    def heard(self, messages: list[Any]) -> None:
        """See the listener take messages: an echo may be of a replica's heartbeat."""
        payloads = [payload for _, _, payload in messages]
        if any(
            payload and payload in packed
            for packed in self.late
            for payload in payloads
        ):
            self.told = True

    # -- the steps ---------------------------------------------------------------------

    def enabled(self) -> list[Step]:
        steps = []
        for index, actor in enumerate(self.actors):
            if actor.stage == SENT:
                steps.append(("exec", index))
            elif actor.stage == WAITING:
                if self.subscription.queue or self.subscription.is_cut:
                    steps.append(("go", index))
                elif self.beats:
                    steps.append(("beat", index))
            elif actor.stage != DONE:
                steps.append(("go", index))
        if self.faults:
            steps.append((self.faults[0], 0))
        return steps

    def perform(self, step: Step) -> None:
        kind, index = step
        actor = self.actors[index]
        if kind == "exec":
            server, packed = actor.request
            actor.replies = server.execute(packed)
            actor.stage = REPLIED
        elif kind in ("go", "beat"):
            if kind == "beat":
                self.beats -= 1
                self.now += 2.0
            self.running = actor
            try:
                actor.greenlet.switch()
            finally:
                self.running = None
        else:
            self.faults.remove(kind)
            self.strike(kind)
        self._check()

    def strike(self, fault: str) -> None:
        match fault:
            case "promote":
                self.new.data = dict(self.old.data)
            case "demote":  # it keeps its clients, and lags from now on
                self.old.is_master = False
                self.old.data = dict(self.new.data)
            case "move":
                self.target = self.new
            case "cut":
                self.subscription.close()
            case "other":  # a process that has followed the address already
                self.written += 1
                self.new.data[KEY.encode()] = _encode(f"other{self.written}")
                frame = Message(MessageType.KEYS, b"stranger", self.written, 0, (KEY,))
                self.new.publish(b"cachebridge:0", encode_message(frame))

    # -- what must hold ----------------------------------------------------------------

    def value_in_l1(self) -> Any:
        entry = self.engine.local_reads.usable_entry(KEY)
        copies = self.engine.values_for("pickle").copies
        return MISSING if entry is None else copies.value_of(entry)

    def _check(self) -> None:
        value = self.value_in_l1()
        self.hits = value is not MISSING
        if not self.hits:
            return
        listening = self.subscription
        if listening.is_cut and listening.server is not None:
            return  # the break is on its way, as a message could be
        server = listening.server
        current = _decode(server.data[KEY.encode()])
        self._demand(
            server.is_master or not self.told,  # no sign of it: less than BUS_TRUST ago
            "L1 is trusted although its server is known to be a replica",
        )
        self._demand(
            current == value or listening.queue or not server.is_master,
            f"a hit returns {value!r}, and the server of the bus has {current!r}",
        )

    def _demand(self, holds: object, text: str) -> None:
        if not holds:
            raise BrokenInvariantError(f"I21: {text}")

    def key(self) -> tuple[Any, ...]:
        """Return all that the future depends on."""
        rules, sub = self.engine.rules, self.subscription
        return (
            tuple(
                (
                    a.stage,
                    a.pauses,
                    a.request and a.request[0].name,
                    repr(a.replies),
                    a.fill is not None and a.fill._epoch == rules.epoch,
                )
                for a in self.actors
            ),
            tuple(
                (s.is_master, s.data.get(KEY.encode())) for s in (self.old, self.new)
            ),
            self.target.name,
            tuple(self.faults),
            self.beats,
            self.told,
            self.value_in_l1(),
            rules.is_on(self.now),
            (sub.server.name, len(sub.queue), sub.is_cut),
            tuple((a.server.name, a.era is self.pool.era) for a in self.pool._idle),
            self.bus._session.gave_up,
        )


@contextmanager
def _doubles() -> Iterator[None]:
    with (
        patch.object(redis_server, "connection_factory", lambda *_: Connection),
        patch.object(session, "Subscription", Subscription),
        patch.object(session, "ECHO_PAUSE_S", 0.0),
        patch.object(listener._log, "disabled", new=True),
    ):
        yield


def explore(scenario: Scenario) -> Report:
    """Run every schedule on the real code, each state once; stop at a violation."""
    with _doubles():
        return explore_states(lambda: nullcontext(World(scenario)))
