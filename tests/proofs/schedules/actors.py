"""Who acts in a world: threads of operations, and processes with a real engine each.

Nothing here is a thread of the interpreter: every actor runs in a greenlet that comes
back to the explorer at each point where a real one could be overtaken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from greenlet import GreenletExit, greenlet

from cachebridge.core.entry import EXPIRES, MISSING, WRITE_ID
from cachebridge.core.fill import Fill
from cachebridge.core.write import Write
from cachebridge.engine.operations import Operations
from cachebridge.errors import L2Error
from cachebridge.waiting.io import THREADS
from tests.proofs.schedules.doubles import (
    KEY,
    LOCK,
    OTHER,
    Operation,
    SteppedLock,
    StudiedEngine,
)
from tests.rig import entries_of, eviction_state

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.proofs.schedules.world import World

IDLE, SENT, REPLIED, LOCKING, DONE = "idle", "sent", "replied", "locking", "done"
UP, BROKEN, DOWN, SUBSCRIBED = "up", "broken", "down", "subscribed"


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

    def wait_for_lock(self) -> None:
        self.pause(LOCKING)

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
            THREADS,
            fill=self._open_fill,
            write=self._open_write,
            count_read=engine.listening.count_read,
        )
        self.next_operation = 0
        self.operation = Operation("R", "", process.index)
        self.context: Fill | Write | None = None
        self.request: tuple[str, tuple[Any, ...]] = ("", ())
        self.reply: Any = None
        self.error: BaseException | None = None
        self.versions: dict[str, int] = {}
        """Per key, which version the server made when it executed the request."""
        self.decided: dict[str, int] = {}
        """Per key, which version the server had when it let an ``add`` win."""
        self.floors: dict[str, int] = {}
        self.disturbed: set[str] = set()

    def _open_fill(self, keys: Sequence[str]) -> Fill:
        self.context = Fill(self.process.engine.rules, tuple(keys))
        return self.context

    def _open_write(self, keys: Sequence[str]) -> Write:
        self.context = Write(self.process.engine.rules, tuple(keys))
        return self.context

    def _run(self) -> None:
        witness = self.world.witness
        for number, letter in enumerate(self.program):
            if number:
                self.pause(IDLE)
            keys = (KEY, OTHER) if letter in "GM" else (KEY,)
            if letter in "LU":
                keys = (LOCK,)
            self.operation = Operation(
                letter, f"w{self.index}{number}", self.process.index, keys
            )
            self.versions = {}
            self.decided = {}
            self.reply = self.error = None
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
        if self.error is not None:
            raise self.error
        return self.reply

    def is_running(self) -> bool:
        return self.stage not in (IDLE, DONE)

    def has_begun(self) -> bool:
        """Return whether its fill or write has begun; a lock may delay it."""
        return self.stage in (SENT, REPLIED) or hasattr(self.context, "_epoch")

    def has_equal_thread_ahead(self) -> bool:
        """Return whether an equal thread should begin first: one order is enough."""
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
        seen = (
            (*self.versions.items(), *self.decided.items(), self._awaits_echo())
            if self.operation.is_write
            else (*self.floors.values(), *sorted(self.disturbed))
        )
        return (
            self.next_operation,
            self.stage,
            self.pauses,
            repr(self.reply),
            self.error is not None,
            seen,
            self._context_key(),
        )

    def _awaits_echo(self) -> bool:
        number = getattr(self.context, "id", None)
        return number in self.process.engine.rules.fences.awaited

    def _context_key(self) -> tuple[Any, ...]:
        """Return what matters of an open fill or write: which tokens are still good.

        A token is only ever compared with a generation that only ever grows.
        """
        context = self.context
        if context is None or not self.has_begun():
            return ()
        tokens = context._joined
        if isinstance(tokens, dict):
            tokens = tokens.values()
        epoch_holds = context._epoch == self.process.engine.rules.epoch
        good = [
            epoch_holds and token == activity.generation for activity, token in tokens
        ]
        return (*good, round(context.sent_at - self.world.now, 3))


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


class Version(NamedTuple):
    """One state of one key at the server."""

    value: Any
    deadline: float
    since: float


class Ghost(NamedTuple):
    """A command whose caller has given up, still on its way."""

    operation: Operation
    request: tuple[str, tuple[Any, ...]]


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
        entry = self.engine.local_reads.usable_entry(key)
        if entry is None and self.world.now < self.engine.rules.gate.until:
            entry = self.engine.l1.look(key)  # as ``local_get`` would
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
                for key, e in entries_of(engine).items()
            ),
            eviction_state(engine),
            max(rules.trusted_until - now, 0.0),
            max(rules.gate.until - now, 0.0),
            rules.connected,
            tuple([fence.since - now for fence in rules.fences.up.values()]),
            self.link,
            tuple(envelope.key() for envelope in self.queue),
            self.listener and self.listener.key(),
        )
