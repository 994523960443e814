"""The doubles of a cluster: nodes of a few lines, links to them, and listeners."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachebridge.l2.cluster.slots import slot_of
from cachebridge.l2.redis.scripts import ADD
from cachebridge.parsers import make_parser
from cachebridge.resp import reply_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.proofs.schedules.masters import World

SENT = "sent"


class Master:
    """As much of a node as the process uses."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.data: dict[str, bytes] = {}

    def execute(self, packed: bytes) -> list[Any]:
        replies, asked = [], False
        for words in make_parser().feed(packed):
            if words == [b"ASKING"]:
                asked = True
                replies.append(b"OK")
                continue
            replies.append(self._do(words, asked=asked))
            asked = False
        return replies

    def _do(self, words: list[bytes], *, asked: bool) -> Any:
        name, *args = words
        key = (args[2] if name == b"EVALSHA" else args[0]).decode()
        world = self.world
        owner = world.owners[slot_of(key.encode())]
        if self.name != owner and not (asked and world.opened == (key, self.name)):
            return reply_error(f"MOVED {slot_of(key.encode())} {owner}:1")
        if world.opened and world.opened[0] == key and key not in self.data:
            return reply_error(f"ASK {slot_of(key.encode())} {world.opened[1]}:1")
        if name == b"GET":
            return self.data.get(key)
        if name == b"PTTL":
            return -1 if key in self.data else -2
        if args[0] == ADD.sha and key not in self.data:
            _channel, message, _ttl, raw = args[5:]
            self.data[key] = raw
            world.publish(self.name, message)
            return 1
        raise AssertionError(f"not a command of this double: {words!r}")


class Link:
    """A connection to one node for good."""

    def __init__(self, world: World, master: Master) -> None:
        self._world, self.master = world, master
        self.era: object = None
        self.ticket: object = None

    def exchange(self, packed: bytes, _count: int) -> list[Any]:
        actor = self._world.running
        assert actor is not None
        actor.request = (self.master, packed)
        actor.pause(SENT)
        return actor.replies

    def arrived(self, _timeout_ms: int) -> bool:
        return False

    def close(self) -> None:
        pass


class Connection:
    """What a link is made of."""

    def __init__(self, location: Any) -> None:
        self.host = location.connection_kwargs["host"]


class QueuedListener:
    """See ``Listener``: subscribes and reads when the explorer lets it."""

    world: World

    def __init__(self, settings: Any) -> None:
        servers = self.world.cluster.servers
        (server,) = [each for each in servers if each.pool is settings.commands]
        self.master = server.location.connection_kwargs["host"]
        self.receiver = settings.receiver
        self.stage = "stopped"
        self.queue: list[bytes | float] = []
        """Messages, and the times of heartbeats."""
        self.beats = self.world.scenario.beats

    def start(self) -> None:
        self.stage = "starting"
        self.world.listeners[self.master] = self

    def stop(self) -> None:
        self.stage = "stopped"
        self.world.listeners.pop(self.master, None)

    def break_off(self, reason: str) -> None:
        self.stage, self.queue = "starting", []
        self.receiver.on_break(reason)

    def is_alive(self) -> bool:
        return self.stage != "stopped"

    def steps(self) -> Iterator[str]:
        is_master = self.master in self.world.owners.values()
        if self.stage == "starting" and is_master:
            yield "subscribe"
        elif self.stage == "subscribed":
            yield "ack"
        elif self.stage == "cut":
            yield "notice"
        elif self.stage == "up":
            if self.queue:
                yield "deliver"
            if self.beats and not any(isinstance(each, float) for each in self.queue):
                yield "beat"

    def take(self, step: str) -> None:
        world, receiver = self.world, self.receiver
        match step:
            case "subscribe":
                self.stage = "subscribed"
            case "ack":
                self.stage = "up"
                receiver.on_subscribed()
            case "notice":
                self.break_off("cut")
            case "beat":
                self.beats -= 1
                if self.master in world.owners.values():
                    self.queue.append(world.now)
                else:  # a replica refuses the mark
                    self.break_off("MOVED")
            case "deliver":
                taken = self.queue.pop(0)
                if isinstance(taken, float):
                    receiver.on_heartbeat(taken, l1_on=None)
                else:
                    receiver.on_frame(taken)


class Slots:
    """Which master has which slots."""

    def __init__(self, parts: dict[range, str]) -> None:
        self.parts = parts

    def __getitem__(self, slot: int) -> str:
        return next(name for part, name in self.parts.items() if slot in part)

    def values(self) -> Any:
        return self.parts.values()

    def moved(self, old: str, new: str) -> Slots:
        names = {old: new}
        return Slots({p: names.get(name, name) for p, name in self.parts.items()})

    def with_slot(self, slot: int, new: str) -> Slots:
        parts = {range(slot, slot + 1): new}
        for part, name in self.parts.items():
            if slot in part:
                parts[range(part.start, slot)] = name
                parts[range(slot + 1, part.stop)] = name
            else:
                parts[part] = name
        return Slots(parts)
