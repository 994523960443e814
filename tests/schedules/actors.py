"""Who acts in a world: threads of operations, and processes with a real engine each.

Nothing here is a thread of the interpreter: every actor runs in a greenlet that comes
back to the explorer at each point where a real one could be overtaken.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit, greenlet

from cachebridge.core.entry import EXPIRES, MISSING, WRITE_ID
from cachebridge.core.fill import Fill
from cachebridge.core.write import Write
from cachebridge.engine.engine import Engine
from cachebridge.engine.sync import Operations
from cachebridge.errors import L2Error
from cachebridge.l2.location import parse_location

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.schedules.world import World

KEY, OTHER, FILLER = "k", "j", "filler"
LOCATION = parse_location("memory://schedules")

IDLE, SENT, REPLIED, LOCKING, DONE = "idle", "sent", "replied", "locking", "done"
UP, BROKEN, DOWN, SUBSCRIBED = "up", "broken", "down", "subscribed"

NAMES = {
    "R": "get",
    "H": "has_key",
    "G": "get_many",
    "W": "set",
    "M": "set_many",
    "A": "add",
    "D": "delete",
    "I": "incr",
    "T": "touch",
}
READS = "RHG"


@dataclass(slots=True)
class Operation:
    """One call of the cache by one thread."""

    letter: str
    value: str
    process: int
    keys: tuple[str, ...] = (KEY,)
    versions: dict[str, int] = field(default_factory=dict)
    """Per key, which version the server made of it when it executed it last."""

    @property
    def is_write(self) -> bool:
        return self.letter not in READS

    def __str__(self) -> str:
        detail = f" {self.value}" if self.letter in "WMA" else ""
        return f"{NAMES[self.letter]}{detail}"

    def call(self, operations: Operations, world: World) -> dict[str, Any]:
        """Carry it out; return what it saw, by key."""
        ttl_ms, value = world.scenario.ttl_ms, self.value
        match self.letter:
            case "R":
                return {KEY: operations.get(KEY)}
            case "H":
                operations.has_key(KEY)
            case "G":
                found = operations.get_many(self.keys)
                return {key: found.get(key, MISSING) for key in self.keys}
            case "W":
                operations.set(KEY, value, ttl_ms)
            case "M":
                operations.set_many(dict.fromkeys(self.keys, value), ttl_ms)
            case "A":
                operations.add(KEY, value, ttl_ms)
            case "D":
                operations.delete(KEY)
            case "I":
                operations.incr(KEY, 1)
            case "T":
                operations.touch(KEY, world.scenario.touch_ms)
        return {}


class SteppedLock:
    """Stands in for the lock of the rules: whoever comes to it may be overtaken."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._held = False

    def __enter__(self) -> None:
        if self._world.running is not None:
            self._world.running.pause(LOCKING)
        assert not self._held, "the lock was held over a wait"
        self._held = True

    def __exit__(self, *_exc: object) -> None:
        self._held = False


class Actor:
    """Runs in a greenlet and comes back to the explorer at each ``pause``."""

    def __init__(self, world: World, run: Callable[[], None], title: str) -> None:
        self.world = world
        self.title = title
        self.stage = IDLE
        self.pauses = 0
        self.greenlet = greenlet(run)

    def pause(self, stage: str) -> None:
        self.stage = stage
        self.pauses += 1
        self.greenlet.parent.switch()

    def resume(self) -> None:
        """Run on until the next pause or the end."""
        self.world.running = self
        try:
            self.greenlet.switch()
        finally:
            self.world.running = None

    def kill(self) -> None:
        """Cancel it where it stands, as a dying greenlet or task is."""
        if self.greenlet:
            self.greenlet.throw()

    def key(self) -> tuple[Any, ...]:
        return (self.title, self.pauses)


class Thread(Actor):
    """A thread of one process that carries out a program of operations."""

    def __init__(self, world: World, index: int, process: Process, program: str):
        super().__init__(world, self._run, f"T{index}/P{process.index}")
        self.index = index
        self.process = process
        self.program = program
        engine = process.engine
        self._operations = Operations(
            engine,
            engine.values_for("pickle"),
            fill=self._open_fill,
            write=self._open_write,
        )
        self.next_operation = 0
        self.operation = Operation("R", "", process.index)
        self.context: Fill | Write | None = None
        self.request: tuple[str, tuple[Any, ...]] = ("", ())
        self.reply: Any = None
        self.error: BaseException | None = None
        self.floors: dict[str, int] = {}
        self.disturbed: set[str] = set()

    def _open_fill(self, keys: Iterable[str]) -> Fill:
        self.context = Fill(self.process.engine.rules, tuple(keys))
        return self.context

    def _open_write(self, keys: Iterable[str]) -> Write:
        self.context = Write(self.process.engine.rules, tuple(keys))
        return self.context

    def _run(self) -> None:
        witness = self.world.witness
        for number, letter in enumerate(self.program):
            if number:
                self.pause(IDLE)
            keys = (KEY, OTHER) if letter in "GM" else (KEY,)
            self.operation = Operation(
                letter, f"w{self.index}{number}", self.process.index, keys
            )
            self.pauses = 0
            self.next_operation = number + 1
            witness.begins(self)
            try:
                seen = self.operation.call(self._operations, self.world)
            except L2Error:
                witness.fails(self)
            except GreenletExit:
                witness.fails(self)
                self.stage = DONE
                return
            else:
                witness.returns(self, seen)
            self.context = None
            self.disturbed.clear()
        self.stage = DONE

    def ask_server(self, name: str, *args: Any) -> Any:
        """Send a command and wait; called by the store of the running operation."""
        self.request = (name, args)
        if isinstance(self.context, Write):
            self.world.witness.disturbs(self.process, self.context.keys)
        self.pause(SENT)
        error, self.error = self.error, None
        if error is not None:
            raise error
        return self.reply

    def is_running(self) -> bool:
        return self.stage not in (IDLE, DONE)

    def has_begun(self) -> bool:
        """Tell whether its fill or write has begun: it may wait for the lock before."""
        return hasattr(self.context, "sent_at") and hasattr(self.context, "_tokens")

    def has_twin_ahead(self) -> bool:
        """Tell whether an equal thread should begin first: their order is all one."""
        return self.next_operation == 0 and any(
            other.program == self.program
            and other.process is self.process
            and other.next_operation == 0
            and other.stage == IDLE
            for other in self.world.threads[: self.index]
        )

    def key(self) -> tuple[Any, ...]:
        if not self.is_running():
            return (self.next_operation, self.stage)
        return (
            self.next_operation,
            self.stage,
            self.pauses,
            self.request[0],
            repr(self.reply) if self.stage == REPLIED else "",
            self.error is not None,
            tuple(self.floors.values()),
            tuple(sorted(self.disturbed)),
            tuple(sorted(self.operation.versions.items())),
            self._context_key(),
        )

    def _context_key(self) -> tuple[Any, ...]:
        """What matters of an open fill or write: is its token still good?"""
        context = self.context
        tokens = getattr(context, "_tokens", None)
        if context is None or tokens is None:
            return ()
        rules = self.process.engine.rules
        good = tuple(
            key
            for key, token in tokens.items()
            if (flight := rules._flights.get(key)) is not None
            and token == flight.generation
            and context._epoch == rules.epoch
        )
        alone = tuple(sorted(context._alone)) if isinstance(context, Write) else ()
        sent_at = getattr(context, "sent_at", self.world.now)
        return (good, alone, round(sent_at - self.world.now, 3))


class Store:
    """The store of one engine: a wait for the server in every call of a thread."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            asking = self._world.running
            if isinstance(asking, Thread):
                return asking.ask_server(name, *args)
            return getattr(self._world.store, name)(*args)

        return call


class StudiedEngine(Engine):
    """A real engine on a stepped store; its bus is a queue of the explorer."""

    def __init__(self, world: World) -> None:
        self._world = world
        super().__init__(
            LOCATION,
            world.scenario.options,
            clock=world.clock,
            memory_server=world.server,
        )
        self._bus = world

    def _open_l2(self) -> Store:
        return Store(self._world)


@dataclass(slots=True)
class Envelope:
    """What is under way to one subscriber."""

    frame: bytes
    operation: Operation | None
    versions: dict[str, int]
    sent_at: float

    def __str__(self) -> str:
        return f"the message of {self.operation}" if self.operation else "a heartbeat"

    def key(self) -> tuple[Any, ...]:
        value = self.operation.value if self.operation else self.sent_at
        return (value, tuple(self.versions.items()))


class Process:
    """One process: its engine, and the messages that are on their way to it."""

    def __init__(self, world: World, index: int) -> None:
        self.world = world
        self.index = index
        self.engine = StudiedEngine(world)
        if world.scenario.fine:
            self.engine.rules.lock = SteppedLock(world)
        self.copies = self.engine.values_for("pickle").copies
        self.queue: list[Envelope] = []
        self.link = UP
        self.dead = False
        self.listener: Actor | None = None

    def listen(self, title: str, call: Callable[[], None]) -> None:
        """Let the listener do something, step by step if the lock is stepped."""
        if not (self.world.scenario.fine and self.world.threads):
            call()
            return
        self.listener = Actor(self.world, call, title)
        self.go_on()

    def go_on(self) -> None:
        assert self.listener is not None
        self.listener.resume()
        if self.listener.greenlet.dead:
            self.listener = None

    def value_in_l1(self, key: str) -> Any:
        """Return what an L1 hit would answer at this moment, MISSING if none can."""
        entry = self.engine.usable_entry(key)
        return MISSING if entry is None else self.copies.value_of(entry)

    def key(self) -> tuple[Any, ...]:
        if self.dead:
            return ()
        engine, now = self.engine, self.world.now
        rules = engine.rules
        return (
            tuple(
                (
                    key,
                    self.copies.value_of(e),
                    e[WRITE_ID] != 0,
                    round(e[EXPIRES] - now, 3),
                )
                for key, e in engine.l1.entries.items()
            ),
            max(rules.trusted_until - now, 0.0),
            max(rules.hit_until - now, 0.0),
            rules.connected,
            self.link,
            tuple(envelope.key() for envelope in self.queue),
            self.listener and self.listener.key(),
        )
