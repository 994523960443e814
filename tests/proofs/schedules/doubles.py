"""The doubles around real code: what turns every wait of an engine into a step.

Nothing else is replaced: operations, rules, L1, codec and the memory server are real.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cachebridge.core.entry import MISSING
from cachebridge.core.keys import pattern_of_prefix
from cachebridge.engine.engine import Engine
from cachebridge.l2.location import parse_location
from cachebridge.l2.store import Bounds
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.engine.operations import Operations
    from tests.proofs.schedules.world import World

KEY, OTHER, FILLER, LOCK = "k", "j", "filler", "lock"
LOCATION = parse_location("memory://schedules")

NAMES = {
    "R": "get",
    "H": "has_key",
    "G": "get_many",
    "W": "set",
    "M": "set_many",
    "A": "add",
    "L": "lock: add",
    "U": "unlock: delete",
    "D": "delete",
    "P": "delete_pattern",
    "I": "incr",
    "T": "touch",
    "N": "counter: give",
    "K": "counter: take",
}
READS = "RHG"
QUOTA = Bounds(floor=0, ceiling=6)


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

    def call(  # noqa: C901 a case for each operation
        self, operations: Operations, world: World
    ) -> dict[str, Any]:
        """Carry it out; return what it saw, by key."""
        ttl_ms, value = world.scenario.ttl_ms, self.value
        match self.letter:
            case "R":
                return {KEY: run(operations.get(KEY))}
            case "H":
                run(operations.has_key(KEY))
            case "G":
                found = run(operations.get_many(self.keys))
                return {key: found.get(key, MISSING) for key in self.keys}
            case "W":
                run(operations.set(KEY, value, ttl_ms))
            case "M":
                run(operations.set_many(dict.fromkeys(self.keys, value), ttl_ms))
            case "A" | "L":
                run(operations.add(self.keys[0], value, ttl_ms))
            case "D" | "U":
                run(operations.delete(self.keys[0]))
            case "P":  # as any that matches: to find, to delete, to tell again
                run(operations.delete_pattern(pattern_of_prefix(KEY)))
            case "I":
                run(operations.incr(KEY, 1))
            case "N" | "K":
                delta = 1 if self.letter == "N" else -1
                run(operations.count(KEY, delta, QUOTA, ttl_ms))
            case "T":
                run(operations.touch(KEY, world.scenario.touch_ms))
        return {}


class SteppedLock:
    """Stands in for the lock of the rules: another thread may overtake one at it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._held = False

    def __enter__(self) -> None:
        if self._world.running is not None:
            self._world.running.wait_for_lock()
        assert not self._held, "the lock was held over a wait"
        self._held = True

    def __exit__(self, *_exc: object) -> None:
        self._held = False


class Store:
    """The store of one engine: a wait for the server in every call of a thread."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*args: Any) -> Any:
            asking = self._world.running
            if asking is None:
                return await getattr(self._world.store, name)(*args)
            return asking.ask_server(name, *args)

        return call


class QueuedBus:
    """Runs for as long as the engine: the explorer hands the messages over itself."""

    def start(self) -> None:
        raise AssertionError("it runs already")

    def stop(self) -> None:
        raise AssertionError("the explorer never stops it")

    def is_alive(self) -> bool:
        return True


class StudiedEngine(Engine):
    """A real engine on a stepped store; its bus is a queue of the explorer."""

    def __init__(self, world: World) -> None:
        super().__init__(
            LOCATION,
            world.scenario.options,
            clock=world.clock,
            memory_server=world.server,
        )
        self.l2 = Store(world)
        self.listening.bus = QueuedBus()
